"""Calls of agents are recorded byte for byte."""

import json
from functools import partial

import pytest
import trio

from bench.load import Job, make_requests
from bench.recording import Tap
from bench.wire import ResponseReader, make_request
from triocept import Exchange, serve_endpoint

pytestmark = pytest.mark.once


async def _answer(exchange: Exchange) -> None:
    await exchange.respond("hello")


async def test_the_relay_keeps_the_bytes_of_each_body_and_passes_the_answers_back() -> None:
    bodies = [
        json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, indent=indent).encode()
        for text, indent in (("é" * 40_000, None), ("second", 3))
    ]
    with trio.fail_after(30):
        async with (
            serve_endpoint() as endpoint,
            endpoint.open_rollout(_answer) as rollout,
            trio.open_nursery() as nursery,
        ):
            tap = Tap(endpoint.port)
            (listener,) = await nursery.start(partial(trio.serve_tcp, tap.serve, 0, host="127.0.0.1"))
            path = f"/rollout/{rollout.id}/v1/chat/completions"
            async with await trio.open_tcp_stream(*listener.socket.getsockname()) as connection:
                reader = ResponseReader()
                for body in bodies:
                    await connection.send_all(make_request(path, rollout.api_key, body))
                    while not reader.feed(await connection.receive_some(65536)):
                        pass
            nursery.cancel_scope.cancel()
    assert list(tap.bodies()) == bodies
    assert [turn.response.text for turn in rollout.trace] == ["hello", "hello"]


async def test_a_client_that_breaks_off_in_a_body_leaves_no_call_and_no_error() -> None:
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
            tap = Tap(endpoint.port)
            (listener,) = await nursery.start(partial(trio.serve_tcp, tap.serve, 0, host="127.0.0.1"))
            async with await trio.open_tcp_stream(*listener.socket.getsockname()) as connection:
                await connection.send_all(
                    b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"
                )
                while not (tap.connections and tap.connections[0].endswith(b"{")):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert list(tap.bodies()) == []


def test_a_held_job_and_a_short_stream_name_themselves_in_a_header() -> None:
    job = Job(port=0, routes=[["/a", "key"]], connections=1, body=4096)
    (held,) = make_requests(job)
    assert b"\r\nx-bench: hold\r\n" in held
    assert b"\r\nx-bench: short\r\n" in make_request("/a", "key", b"{}", short=True)
