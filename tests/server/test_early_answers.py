"""A request that is answered before its body was read gets its answer, whole, whatever is behind it."""

import pytest

from tests.asking import CHAT, bearer, connected, echo, read_answer, read_to_end
from triocept import serve_endpoint

pytestmark = pytest.mark.usefixtures("every_way")

MIB = 1024 * 1024
CASES = {
    "a model call": ("POST", CHAT, 401),
    "token counting": ("POST", "/v1/messages/count_tokens", 401),
    "a tool": ("POST", "/tools/add", 401),
    "the state": ("PUT", "/state", 401),
    "MCP": ("POST", "/mcp", 401),
    "no such path": ("POST", "/nowhere", 404),
    "no such method": ("POST", "/v1/models", 405),
    "health": ("GET", "/health", 200),
}


@pytest.mark.once
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [MIB, 8 * MIB])
async def test_it_gets_its_answer_though_a_large_body_follows(case: str, size: int) -> None:
    method, path, status = CASES[case]
    async with serve_endpoint() as endpoint:
        for _ in range(3):
            async with connected(endpoint.port) as stream:
                await stream.send_all(
                    f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
                )
                for _ in range(size // MIB):
                    await stream.send_all(bytes(MIB))
                answer = await read_to_end(stream)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d" % status)
            assert b"connection: close" in head.lower()
            assert body


@pytest.mark.parametrize("case", CASES)
async def test_nobody_is_told_to_go_on_who_is_refused(case: str) -> None:
    method, path, status = CASES[case]
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(
            f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        answer = await read_answer(stream)
    assert answer.startswith(b"HTTP/1.1 %d" % status)


async def test_a_body_over_the_cap_is_not_asked_for() -> None:
    async with serve_endpoint(max_body=1000) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(
                f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer(rollout)['authorization']}\r\n"
                "Content-Length: 2000\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 413")


async def test_a_client_with_a_key_is_told_to_go_on_on_every_route() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        for path in (CHAT, "/v1/messages/count_tokens"):
            async with connected(endpoint.port) as stream:
                await stream.send_all(
                    f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: "
                    f"{bearer(rollout)['authorization']}\r\nContent-Length: {len(body)}\r\n"
                    "Expect: 100-continue\r\n\r\n".encode()
                )
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
                await stream.send_all(body)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
