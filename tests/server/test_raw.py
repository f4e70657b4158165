"""Raw bytes as an answer: what goes over the wire is what was given, and it ends as was asked."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio_websocket
from httpx2 import URL

from tests import asking
from tests.asking import CHAT, ask_body, bearer, connected, raw_request
from tests.server.test_websocket import create, dialled
from triocept import (
    EndpointLimits,
    Exchange,
    Handler,
    JSONLRecorder,
    Refusal,
    Rollout,
    Turn,
    read_traces,
    serve_endpoint,
)
from triocept._server import delivery
from triocept.errors import AlreadySettled
from triocept.exports.har import har_log
from triocept.traces import Redaction

JSON = {"content-type": "application/json"}


def raw(*given: Any, **more: Any) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond_raw(*given, **more)

    return handler


async def post(stream: trio.SocketStream, rollout: Rollout) -> None:
    body = msgspec.json.encode(ask_body())
    head = f"POST {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: {bearer(rollout)['authorization']}\r\n"
    await stream.send_all(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


async def read(stream: trio.SocketStream) -> tuple[bytes, str]:
    """All that comes, and how it ends."""
    data = b""
    try:
        while piece := await stream.receive_some():
            data += piece
    except trio.BrokenResourceError:
        return data, "reset"
    return data, "closed"


@asynccontextmanager
async def asked(handler: Handler, **options: Any) -> AsyncIterator[tuple[trio.SocketStream, Rollout]]:
    """A connection on which a call was made."""
    with trio.fail_after(30):
        async with serve_endpoint(**options) as endpoint, endpoint.open_rollout(handler) as rollout:
            async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
                await post(stream, rollout)
                yield stream, rollout


def without_date(data: bytes) -> bytes:
    return b"\r\n".join(line for line in data.split(b"\r\n") if not line.lower().startswith(b"date:"))


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize(("given", "more", "wire", "ended"), [
    ((None, {}, b""), {"end": "close"}, b"", "closed"),
    ((None, {}, b""), {"end": "reset"}, b"", "reset"),
    ((None, {}, [b"HTTP/1.", b"1 2"]), {"end": "close"}, b"HTTP/1.1 2", "closed"),
    ((200, {**JSON, "content-length": "99"}, b"{}"), {"end": "close"},
     b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{}", "closed"),
    ((200, {"Content-Length": "1"}, b"{}"), {}, b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", "closed"),
    ((200, {"transfer-encoding": "chunked"}, [b"ab", b"", b"c"]), {"end": "close"},
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n", "closed"),
    ((200, {"transfer-encoding": "chunked"}, [b"ab"]), {},
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "closed"),
    ((502, {"content-type": "text/html"}, b"<html>"), {"end": "close"},
     b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>", "closed"),
    ((200, {"transfer-encoding": "chunked"}, [b"ab"]), {"end": "reset"},
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", "reset"),
])  # fmt: skip
async def test_the_bytes_are_those_that_were_given_and_end_as_was_asked(
    given: tuple[Any, ...], more: dict[str, Any], wire: bytes, ended: str
) -> None:
    async with asked(raw(*given, **more)) as (stream, rollout):
        data, how = await read(stream)
    assert without_date(data) == wire
    assert how == ended
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert turn.raw.end == more.get("end", "whole")
    assert turn.raw.status == given[0]


@pytest.mark.usefixtures("every_way")
async def test_a_whole_one_is_framed_and_its_connection_goes_on() -> None:
    async with asked(raw(502, {"content-type": "text/html"}, b"<html>")) as (stream, rollout):
        for number in range(2):
            if number:
                await post(stream, rollout)
            data = b""
            while not data.endswith(b"<html>"):
                data += await stream.receive_some()
            assert data.startswith(b"HTTP/1.1 502 ")
            assert b"content-length: 6\r\n" in data


@pytest.mark.usefixtures("every_way")
async def test_pieces_come_one_by_one_with_their_pauses() -> None:
    async with asked(raw(200, JSON, [b"a", 0.5, b"b", 0.5])) as (stream, _):
        data, times = b"", []
        while b"0\r\n\r\n" not in data:
            data += await stream.receive_some()
            times.append(trio.current_time())
    assert b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n" in data
    assert times[-1] - times[0] > 0.6


@pytest.mark.usefixtures("every_way")
async def test_one_that_stalls_is_given_and_ends_with_the_hang_up() -> None:
    returned = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.respond_raw(200, {"content-length": "9"}, b"abc", end="stall")
        returned.set()

    async with asked(handler) as (stream, rollout):
        data = b""
        while not data.endswith(b"abc"):
            data += await stream.receive_some()
        await returned.wait()
        assert rollout.trace[0].raw is not None
        with trio.move_on_after(0.05) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught


@pytest.mark.usefixtures("every_way")
async def test_a_stall_delays_no_end() -> None:
    got: list[bytes] = []

    async def client(port: int, request: bytes) -> None:
        async with connected(port) as stream:
            await stream.send_all(request)
            got.append(await asking.read_to_end(stream))

    async with trio.open_nursery() as nursery:  # the client outlives the endpoint
        async with (
            serve_endpoint(grace=50) as endpoint,
            endpoint.open_rollout(raw(None, {}, b"", end="stall")) as rollout,
        ):
            request = raw_request(rollout, msgspec.json.encode(ask_body()))
            nursery.start_soon(client, endpoint.port, request)
            while not len(rollout.trace):
                await trio.sleep(0.001)
            began = trio.current_time()
        assert trio.current_time() - began < 30
    assert got == [b""]


async def test_a_retry_of_what_was_sent_raw_is_a_call_of_its_own() -> None:
    calls = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        await exchange.respond_raw(None, {}, b"", end="reset")

    async with asked(handler) as (stream, rollout):
        await read(stream)
        port = URL(rollout.base_url("openai_chat")).port or 0
        async with await trio.open_tcp_stream("127.0.0.1", port) as again:
            await post(again, rollout)
            assert await read(again) == (b"", "reset")
    assert calls == len(rollout.trace) == 2


async def test_what_the_bytes_say_makes_the_turn_an_answer() -> None:
    async with asked(raw(200, JSON, b"{}", response="hello")) as (stream, rollout):
        while not (await stream.receive_some()).endswith(b"{}"):
            pass
    (turn,) = rollout.trace
    assert turn.outcome == "answered"
    assert turn.error is None
    assert turn.response.text == "hello"
    assert turn.raw is not None


async def test_a_key_in_raw_bytes_is_not_recorded_be_it_in_two_pieces() -> None:
    async def handler(exchange: Exchange) -> None:
        key = exchange.rollout.api_key.encode()
        await exchange.respond_raw(200, {"x-key": key.decode()}, [b"<", key[:9], key[9:], b">"])

    async with asked(handler) as (stream, rollout):
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += await stream.receive_some()
        key = rollout.api_key.encode()
    assert key[9:] in data
    (turn,) = rollout.trace
    assert turn.raw.body == (b"<[redacted]>",)
    assert turn.raw.headers == {"x-key": "[redacted]"}
    assert turn.raw.size == len(key) + 2


async def test_a_key_in_raw_bytes_that_are_an_answer_is_not_recorded_either() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond_raw(200, JSON, exchange.rollout.api_key.encode(), response="hello")

    async with asked(handler) as (stream, rollout):
        await stream.receive_some()
    (turn,) = rollout.trace
    assert turn.raw.body == (b"[redacted]",)


async def test_more_bytes_than_an_answer_may_have_are_refused() -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(ValueError, match="body has 101 bytes, but an answer may have at most 100"):
            await exchange.respond_raw(200, JSON, [b"x" * 100, b"x"])
        await exchange.respond("ok")

    async with asked(handler, limits=EndpointLimits(answer_bytes=100)) as (stream, _):
        assert b" 200 " in await stream.receive_some()


async def test_with_a_redaction_no_raw_bytes_are_kept() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(raw(200, JSON, b"secret"), redact=Redaction(["secret"])) as rollout:
            async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
                await post(stream, rollout)
                await stream.receive_some()
    (turn,) = rollout.trace
    assert turn.raw.body == ()
    assert turn.raw.size == 6


async def test_with_record_wire_the_bytes_stand_there_too() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(raw(502, JSON, [b"ab", b"c"]), record_wire=True) as rollout:
            async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
                await post(stream, rollout)
                await stream.receive_some()
    (turn,) = rollout.trace
    assert (turn.wire.status, turn.wire.answer, turn.wire.answer_size) == (502, b"abc", 3)


async def test_a_hang_up_cuts_a_pause_short() -> None:
    ended = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.respond_raw(200, JSON, [b"a", 60.0, b"b"])
        ended.set()

    async with asked(handler) as (stream, rollout):
        await stream.receive_some()
        await stream.aclose()
        await ended.wait()
    assert rollout.trace[0].outcome == "refused"


@pytest.mark.parametrize(("given", "more", "word"), [
    ((199, {}, b""), {}, "status"),
    ((True, {}, b""), {}, "status"),
    ((None, {"a": "b"}, b""), {}, "headers"),
    ((200, {"a b": "c"}, b""), {}, "headers"),
    ((200, {"a": "c\r\n"}, b""), {}, "headers"),
    ((200, {"transfer-encoding": "gzip"}, b""), {}, "headers"),
    ((200, {}, "text"), {}, "body"),
    ((200, {}, [b"a", -1]), {}, r"body\[1\]"),
    ((200, {}, [b"a", "b"]), {}, r"body\[1\]"),
    ((200, {}, b"a"), {"end": "abort"}, "end"),
    ((200, {}, b"a"), {"response": 5}, "respond"),
])  # fmt: skip
async def test_an_argument_that_cannot_be_is_named_and_the_exchange_can_still_be_answered(
    given: tuple[Any, ...], more: dict[str, Any], word: str
) -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises((TypeError, ValueError), match=word):
            await exchange.respond_raw(*given, **more)
        await exchange.respond("ok")

    async with asked(handler) as (stream, rollout):
        assert b" 200 " in await stream.receive_some()
    assert rollout.trace[0].outcome == "answered"


@pytest.mark.usefixtures("every_way")
async def test_the_turn_is_in_the_trace_before_a_byte_is_out() -> None:
    async with asked(raw(200, {}, b"abc", end="close")) as (stream, rollout):
        assert len(rollout.trace) == 0 or rollout.trace[0].raw is not None
        await stream.receive_some()
        assert [turn.raw is not None for turn in rollout.trace] == [True]


async def test_what_cannot_be_recorded_is_not_sent() -> None:
    class Full:
        async def record(self, turn: Turn) -> None:
            raise OSError("the disk is full")

        async def seal(self, trace: object) -> None:
            pass

        async def aclose(self) -> None:
            pass

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(OSError, match="full"):
            await exchange.respond_raw(200, JSON, b"raw")

    async with asked(handler, recorder=Full()) as (stream, _):
        answered = await stream.receive_some()
    assert answered.startswith(b"HTTP/1.1 500 ")
    assert b"raw" not in answered


async def test_an_answer_that_streams_takes_no_raw_bytes_and_one_that_is_settled_none() -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("hello")
            with pytest.raises(AlreadySettled):
                await exchange.respond_raw(200, {}, b"")
        with pytest.raises(AlreadySettled):
            await exchange.respond_raw(200, {}, b"")

    async with asked(handler) as (stream, rollout):
        await stream.receive_some()
    assert rollout.trace[0].outcome == "answered"


async def test_of_a_call_whose_rollout_has_ended_nothing_is_sent_and_nobody_is_told() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.rollout.stop("enough")
        await exchange.respond_raw(200, {}, b"raw")

    async with asked(handler) as (stream, rollout):
        assert b"raw" not in await stream.receive_some()
    assert rollout.trace[0].raw is None


async def test_a_rollout_that_is_left_breaks_off_what_drips() -> None:
    async with serve_endpoint() as endpoint, await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
        with trio.CancelScope() as scope:
            async with endpoint.open_rollout() as rollout, trio.open_nursery() as nursery:
                await post(stream, rollout)
                exchange = await rollout.__aiter__().__anext__()
                nursery.start_soon(partial(exchange.respond_raw, 200, {}, [b"a", 60.0, b"b"]))
                await stream.receive_some()
                scope.cancel()
        assert (await read(stream))[1] in ("closed", "reset")
    assert len(rollout.trace) == 1


async def test_a_program_of_its_own_that_asks_gets_what_the_bytes_say_or_a_refusal() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(raw(200, {}, b"{}", response="hello")) as rollout:
            assert (await rollout.ask("hi")).text == "hello"
        async with endpoint.open_rollout(raw(None, {}, b"", end="reset")) as rollout:
            with pytest.raises(
                Refusal, match="bytes, which cannot be returned as a Response: raw bytes without a head"
            ):
                await rollout.ask("hi")


@pytest.mark.parametrize("silence", [0.1])
async def test_when_the_head_is_out_what_is_left_is_the_end(
    silence: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "HEAD_AFTER", silence)

    async def handler(exchange: Exchange) -> None:
        await trio.sleep(3 * silence)
        await exchange.respond_raw(502, {}, b"<html>", end="close")

    async with asked(handler) as (stream, rollout):
        data, how = await read(stream)
    assert data.startswith(b"HTTP/1.1 200 ")
    assert b"<html>" not in data
    assert how == "closed"
    assert rollout.trace[0].raw is not None


@pytest.mark.once
def test_a_trace_with_raw_bytes_is_shown_and_goes_into_an_archive(tmp_path: Path) -> None:
    async def main() -> None:
        async with asked(
            raw(200, {"content-length": "9"}, [b"<half", 0.01, b"of>"], end="close"),
            recorder=JSONLRecorder(tmp_path / "t.jsonl"),
        ) as (stream, _):
            await read(stream)

    trio.run(main)

    def cli(*arguments: str) -> str:
        command = [sys.executable, "-m", "triocept", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    file = str(tmp_path / "t.jsonl")
    assert "complete: 1 rollout, 1 turn" in cli("check", file)
    shown = cli("show", file, "--turn", "0")
    assert "raw bytes: 8 bytes of a body, then the connection was closed" in shown
    assert "content-length: 9" in shown
    assert "<half" in shown
    (trace,) = read_traces(file)
    assert trace[0].raw.body == (b"<half", 0.01, b"of>")
    (entry,) = har_log([trace])["log"]["entries"]
    assert entry["response"]["status"] == 200
    assert entry["response"]["content"]["text"] == "<halfof>"


# Over the websocket of Responses


async def test_over_a_websocket_each_event_of_an_sse_body_is_a_frame() -> None:
    body = [b'data: {"type":"a"}\n\ndata: {"ty', b'pe":"error"}\n\n']
    handler = raw(200, {"content-type": "text/event-stream"}, body)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with dialled(rollout) as agent:
            for _ in range(2):  # and the socket goes on
                await agent.send(create())
                assert [await agent.next(), await agent.next()] == [{"type": "a"}, {"type": "error"}]


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_over_a_websocket_the_connection_ends_without_a_word(end: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(raw(None, {}, b"", end=end)) as rollout:
        async with dialled(rollout) as agent:
            await agent.send(create())
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await agent.next()
    assert caught.value.reason.name == "ABNORMAL_CLOSURE"
    assert rollout.trace[0].raw is not None


async def test_over_a_websocket_a_stall_ends_with_its_rollout() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(raw(None, {}, b"", end="stall")) as rollout:
            async with dialled(rollout) as agent:
                await agent.send(create())
                with trio.move_on_after(0.1) as waited:
                    await agent.next()
                assert waited.cancelled_caught
                await agent.send(create())  # its lane is taken
                assert (await agent.next())["error"]["code"] == "response_in_progress"
                await rollout.stop("enough")
                with pytest.raises(trio_websocket.ConnectionClosed):
                    await agent.next()


async def test_over_a_websocket_a_status_is_refused_with_a_word() -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(
            ValueError,
            match="status 502, but the agent called over a websocket, whose answers have no HTTP status",
        ):
            await exchange.respond_raw(502, {}, b"<html></html>")
        with pytest.raises(ValueError, match="bytes can be sent only in a frame"):
            await exchange.respond_raw(None, {}, b"<html></html>")
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with dialled(rollout) as agent:
            assert (await agent.ask())[-1]["type"] == "response.completed"
