"""A request has one key: of two in headers of one name, a proxy may have looked at another than the endpoint."""

import json

import pytest

from tests.asking import CHAT, ask_body, connected, echo, read_answer
from triocept import Rollout, serve_endpoint

pytestmark = pytest.mark.usefixtures("every_way")

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)
BODY = json.dumps(ask_body())
REQUESTS = {
    "a model call": f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n%s\r\n{BODY}",
    "another dialect": f"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n%s\r\n{BODY}",
    "another route": "GET /v1/models HTTP/1.1\r\nHost: a\r\n%s\r\n",
    "MCP": "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n%s\r\n",
    "a websocket": f"GET /v1/responses HTTP/1.1\r\nHost: a\r\n{UPGRADE}%s\r\n",
}


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("name", ["Authorization: Bearer", "X-Api-Key:"])
async def test_two_keys_in_headers_of_one_name_are_refused(request_of: str, name: str) -> None:
    def lines(*rollouts: Rollout) -> str:
        return "".join(f"{name} {rollout.api_key}\r\n" for rollout in rollouts)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            for given in (lines(a, b), lines(a, a)):
                async with connected(endpoint.port) as stream:
                    await stream.send_all((REQUESTS[request_of] % given).encode())
                    answer = await read_answer(stream)
                    assert answer.startswith(b"HTTP/1.1 400")
                    assert b"send one key" in answer
    assert len(a.trace) == len(b.trace) == 0


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize(
    ("first", "second"), [("Authorization: Bearer", "X-Api-Key:"), ("X-Api-Key:", "Api-Key:")]
)
async def test_the_keys_of_two_rollouts_are_refused_and_a_strangers_second_key_is_ignored(
    request_of: str, first: str, second: str
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            for key in (a.api_key, b.api_key, "sk-of-a-provider"):
                async with connected(endpoint.port) as stream:
                    given = f"{first} {a.api_key}\r\n{second} {key}\r\n"
                    await stream.send_all((REQUESTS[request_of] % given).encode())
                    answer = await stream.receive_some()
                    assert answer.startswith(b"HTTP/1.1 401") == (key == b.api_key)
                    if key == b.api_key:
                        names = [line.partition(":")[0].lower() for line in (first, second)]
                        said = "the headers '{}' and '{}' contain keys of two rollouts".format(*names)
                        assert said.encode() in answer
    assert len(b.trace) == 0


DIGEST = "Authorization: Digest a=b, c=d\r\n"
REFUSED = {
    "a key alone, and another": (
        "Authorization: {a.api_key}\r\nX-Api-Key: {b.api_key}\r\n",
        "401 the headers 'x-api-key' and 'authorization' contain keys of two rollouts",
    ),
    "two behind another scheme": (
        DIGEST + "X-Api-Key: {a.api_key}\r\nX-Goog-Api-Key: {b.api_key}\r\n",
        "401 the headers 'x-api-key' and 'x-goog-api-key' contain keys of two rollouts",
    ),
    "a key, and one to a state": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {b.state_key}\r\n",
        "401 the headers 'authorization' and 'x-api-key' contain keys of two rollouts",
    ),
    "a header twice behind a key": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {b.api_key}\r\nX-Api-Key: x\r\n",
        "400 the header 'x-api-key' contains several keys",
    ),
    "two in one header behind a key": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {b.api_key}, x\r\n",
        "400 the header 'x-api-key' contains several keys",
    ),
    "another scheme, then a key of it": (
        DIGEST + "Authorization: Bearer {b.api_key}\r\nX-Api-Key: {a.api_key}\r\n",
        "400 the header 'authorization' contains several keys",
    ),
}


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("given", REFUSED)
async def test_keys_that_a_proxy_may_have_read_differently_are_refused(request_of: str, given: str) -> None:
    lines, expected = REFUSED[given]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, state={"a": 1}) as a:
        async with endpoint.open_rollout(echo, state={"b": 1}) as b, connected(endpoint.port) as stream:
            await stream.send_all((REQUESTS[request_of] % lines.format(a=a, b=b)).encode())
            answer = await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 " + expected[:3].encode())
            assert expected[4:].encode() in answer
    assert len(a.trace) == len(b.trace) == 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Authorization: Bearer {a.state_key}\r\n", 200),
        (DIGEST + "X-Api-Key: {a.state_key}\r\nApi-Key: {a.api_key}\r\n", 200),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: {b.state_key}\r\n", 401),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: {b.api_key}\r\n", 401),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: x\r\nX-Api-Key: x\r\n", 400),
    ],
)
async def test_the_keys_of_two_rollouts_open_no_state(lines: str, status: int) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, state={"a": 1}) as a:
        async with endpoint.open_rollout(echo, state={"b": 1}) as b, connected(endpoint.port) as stream:
            request = f"GET /state HTTP/1.1\r\nHost: a\r\n{lines.format(a=a, b=b)}\r\n"
            await stream.send_all(request.encode())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 %d" % status)
