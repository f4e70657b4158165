"""What the fast way to the rollout must keep: no request of a connection is lost, cut or doubled."""

from __future__ import annotations

import json

import pytest
import trio

from tests.asking import ask_body, connected, echo, raw_request
from triocept import Rollout, serve_endpoint

pytestmark = pytest.mark.usefixtures("both_ways")


def request_of(rollout: Rollout, text: str, *, more: str = "") -> bytes:
    return raw_request(rollout, json.dumps(ask_body(text)).encode(), more=more)


async def read_answers(stream: trio.SocketStream, count: int) -> list[str]:
    """So many answers to calls that were not streamed, in the order in which they come."""
    data, found = b"", []
    while len(found) < count:
        head, gap, rest = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(lengths[0].split(b":")[1]) if gap and lengths else 0
        if gap and len(rest) >= size:
            if size:
                found.append(json.loads(rest[:size])["choices"][0]["message"]["content"])
            data = rest[size:]
        else:
            piece = await stream.receive_some()
            assert piece, "the connection ended early"
            data += piece
    return found


async def test_pipelined_calls_are_answered_in_their_order() -> None:
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as stream:
                texts = [f"call {number}" for number in range(20)]
                await stream.send_all(b"".join(request_of(rollout, text) for text in texts))
                assert await read_answers(stream, 20) == texts
    assert len(rollout.trace) == 20


async def test_a_call_that_comes_byte_by_byte_is_answered() -> None:
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as stream:
                for byte in request_of(rollout, "slow"):
                    await stream.send_all(bytes([byte]))
                    await trio.lowlevel.checkpoint()
                assert await read_answers(stream, 1) == ["slow"]


async def test_a_connection_is_used_again_at_once_a_thousand_times() -> None:
    with trio.fail_after(60):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as stream:
                for number in range(1000):
                    await stream.send_all(request_of(rollout, str(number)))
                    assert await read_answers(stream, 1) == [str(number)]
    assert len(rollout.trace) == 1000


async def test_a_client_that_expects_100_continue_gets_it_and_its_answer() -> None:
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as stream:
                head, _, body = request_of(rollout, "hi", more="Expect: 100-continue\r\n").partition(
                    b"\r\n\r\n"
                )
                await stream.send_all(head + b"\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
                await stream.send_all(body)
                assert await read_answers(stream, 1) == ["hi"]


async def test_a_chunked_body_is_read_and_one_over_the_cap_is_refused() -> None:
    body = json.dumps(ask_body("x" * 50)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with trio.fail_after(20):
        async with serve_endpoint(max_body=1000) as endpoint, endpoint.open_rollout(echo) as rollout:
            start = head.format(rollout.api_key).encode()
            async with connected(endpoint.port) as stream:
                chunks = b"".join(b"%x\r\n%s\r\n" % (1, bytes([byte])) for byte in body)
                await stream.send_all(start + chunks + b"0\r\n\r\n")
                assert await read_answers(stream, 1) == ["x" * 50]
            async with connected(endpoint.port) as stream:
                await stream.send_all(start + b"7d0\r\n" + b"x" * 2000 + b"\r\n")
                assert b" 413 " in (await stream.receive_some()).splitlines()[0]


async def test_a_model_call_and_another_route_share_a_connection() -> None:
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as stream:
                for _ in range(3):
                    await stream.send_all(request_of(rollout, "one"))
                    assert await read_answers(stream, 1) == ["one"]
                    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                    answer = b""
                    while not answer.endswith(b"}"):
                        answer += await stream.receive_some()
                    assert b" 200 " in answer
