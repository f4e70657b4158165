"""Raw bytes that are made on their way: each goes out before the next one is asked for, and whoever makes them is told
the end."""

from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
import trio
import trio_websocket
from httpx2 import URL
from trio.testing import MockClock

from tests.asking import ask_body, connected, raw_request
from tests.server.test_raw import JSON, asked, post, raw, read
from tests.server.test_websocket import create, dialled
from triocept import EndpointLimits, Exchange, ExchangeAbandoned, Refusal, UpstreamError, serve_endpoint
from triocept._server import delivery
from triocept.errors import AlreadySettled, UpstreamTruncated
from triocept.exports.har import har_log
from triocept.handlers import Replay
from triocept.testing import open_memory_agent

SSE = {"content-type": "text/event-stream"}


class Maker:
    """Makes pieces, and notes how far it came."""

    def __init__(self, *pieces: Any, then: BaseException | None = None) -> None:
        self.pieces = pieces
        self.then = then
        self.made = 0
        self.closed = False

    def sync(self) -> Iterator[Any]:
        try:
            for piece in self.pieces:
                self.made += 1
                yield piece
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True

    async def asynchronous(self) -> AsyncIterator[Any]:
        try:
            for piece in self.pieces:
                await trio.lowlevel.checkpoint()
                self.made += 1
                yield piece
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True

    def body(self, kind: str) -> Any:
        return self.sync() if kind == "sync" else self.asynchronous()


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 1000


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize(("status", "headers", "end", "first", "rest", "ended"), [
    (200, JSON, "whole", b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n", None),
    (200, {"transfer-encoding": "chunked"}, "whole", b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n", "closed"),
    (200, {"transfer-encoding": "chunked"}, "close", b"1\r\na\r\n", b"1\r\nb\r\n", "closed"),
    (200, {"content-length": "9"}, "close", b"a", b"b", "closed"),
    (502, JSON, "close", b"a", b"b", "closed"),
    (None, {}, "close", b"a", b"b", "closed"),
    (200, {"content-length": "9"}, "reset", b"a", b"b", "reset"),
])  # fmt: skip
async def test_a_piece_is_with_the_agent_before_the_next_is_asked_for(
    status: int | None, headers: dict[str, str], end: str, first: bytes, rest: bytes, ended: str | None
) -> None:
    seen = trio.Event()

    async def pieces() -> AsyncIterator[bytes | float]:
        yield b"a"
        await seen.wait()
        yield 0.001
        yield b""
        yield b"b"

    async with asked(raw(status, headers, pieces(), end=end)) as (stream, rollout):
        data = b""
        while not data.endswith(first):
            data += await stream.receive_some()
        assert len(rollout.trace) == 0
        seen.set()
        if ended is None:
            while not data.endswith(rest):
                data += await stream.receive_some()
        else:
            more, how = await read(stream)
            assert how == ended
            data += more
    head = data.rpartition(b"\r\n\r\n" + first)[0] + b"\r\n\r\n" if status is not None else b""
    assert data == head + first + rest
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert turn.raw.body == (b"a", 0.001, b"b")
    assert (turn.raw.size, turn.raw.end) == (2, end)


@pytest.mark.usefixtures("every_way")
async def test_the_head_does_not_wait_for_the_first_piece() -> None:
    seen = trio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        await seen.wait()
        yield b"a"

    async with asked(raw(200, JSON, pieces())) as (stream, _):
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        seen.set()


@pytest.mark.usefixtures("every_way")
async def test_an_endless_one_blocks_nobody_and_is_closed_when_its_agent_goes() -> None:
    made = Maker(*[b"x" * 1000] * 1_000_000)

    async def handler(exchange: Exchange) -> None:
        if exchange.rollout.calls[0] is exchange.request:
            await exchange.respond_raw(200, JSON, made.sync())
        else:
            await exchange.respond("ok")

    async with asked(handler) as (stream, rollout):
        await stream.receive_some()
        port = URL(rollout.base_url("openai_chat")).port or 0
        async with await trio.open_tcp_stream("127.0.0.1", port) as other:
            await post(other, rollout)
            assert b"ok" in await other.receive_some()
        assert not made.closed
        assert made.made < 100_000  # it makes no more than its agent takes
        await stream.aclose()
        while len(rollout.trace) < 2:
            await trio.sleep(0.001)
    assert made.closed
    turn = next(turn for turn in rollout.trace if turn.raw is not None)
    assert turn.outcome == "abandoned"
    assert turn.raw.end == "stall"
    assert turn.raw.size == 1000 * len(turn.raw.body)
    assert made.made - len(turn.raw.body) in (0, 1)


@KINDS
@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize(("status", "headers", "end"), [
    (200, JSON, "whole"),
    (200, {"transfer-encoding": "chunked"}, "whole"),
    (200, {}, "close"),
    (None, {}, "close"),
])  # fmt: skip
async def test_where_it_raises_its_handler_fails_and_nobody_takes_what_was_sent_for_whole(
    kind: str, status: int | None, headers: dict[str, str], end: str
) -> None:
    made = Maker(b"ab", then=KeyError("midway"))
    with pytest.raises(KeyError, match="midway"):
        async with asked(raw(status, headers, made.body(kind), end=end)) as (stream, rollout):
            assert (await read(stream))[1] == "reset"
            await trio.sleep_forever()
    assert made.closed
    (turn,) = rollout.trace
    assert turn.outcome == "failed"
    assert turn.error.type == "KeyError"
    assert (turn.raw.body, turn.raw.end) == ((b"ab",), "reset")


async def test_a_refusal_that_it_raises_is_the_outcome_and_no_fault() -> None:
    made = Maker(b"ab", then=Refusal(503, "enough"))
    async with asked(raw(200, JSON, made.sync())) as (stream, rollout):
        assert (await read(stream))[1] == "reset"
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert turn.error.message == "enough"


@KINDS
@pytest.mark.parametrize(
    ("piece", "word"), [("text", r"body\[1\] must be bytes"), (-1, r"body\[1\]"), (b"x" * 99, "99 bytes|100")]
)
async def test_what_is_no_piece_is_named_and_its_generator_closed(kind: str, piece: Any, word: str) -> None:
    made = Maker(b"ab", piece, b"c")
    with pytest.raises((TypeError, ValueError), match=word):
        async with asked(raw(200, JSON, made.body(kind)), limits=EndpointLimits(answer_bytes=100)) as (
            stream,
            rollout,
        ):
            assert (await read(stream))[1] == "reset"
            await trio.sleep_forever()
    assert made.closed
    assert made.made == 2
    assert rollout.trace[0].outcome == "failed"


@pytest.mark.parametrize("body", ["text", {"a": 1}, 5, None])
async def test_what_is_no_body_is_said_before_anything_is_sent(body: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(TypeError, match="body must be bytes, or an iterable of bytes and of pauses"):
            await exchange.respond_raw(200, {}, body)
        with pytest.raises(ValueError, match="status"):
            await exchange.respond_raw(100, {}, endless())
        await exchange.respond("ok")

    async with asked(handler) as (stream, _):
        assert b" 200 " in await stream.receive_some()


@KINDS
async def test_a_rollout_that_ends_closes_it_and_that_is_nobodys_fault(kind: str) -> None:
    made = Maker(b"a", 60.0)
    returned = trio.Event()

    async def handler(exchange: Exchange) -> None:
        with trio.CancelScope(shield=True):
            await exchange.respond_raw(200, {}, made.body(kind), end="close")
            returned.set()

    async with asked(handler) as (stream, rollout):
        while not (await stream.receive_some()).endswith(b"a"):
            pass
        await rollout.stop("enough")
        await returned.wait()
        assert (await read(stream))[1] == "reset"
    assert made.closed
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert (turn.raw.body, turn.raw.end) == ((b"a",), "reset")


@KINDS
async def test_a_handler_that_is_cancelled_in_it_can_still_refuse(kind: str) -> None:
    made = Maker(b"a", 60.0)

    async def handler(exchange: Exchange) -> None:
        with trio.move_on_after(0.5):
            await exchange.respond_raw(200, {}, made.body(kind))
        assert made.closed
        await exchange.refuse(503, "too slow")

    async with asked(handler) as (stream, rollout):
        assert (await read(stream))[1] == "reset"
    (turn,) = rollout.trace
    assert turn.error.message == "too slow"


async def test_in_a_loop_a_hang_up_ends_the_wait_for_a_piece() -> None:
    closed = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield b"a"
            await trio.sleep_forever()
        finally:
            closed = True

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
        await post(stream, rollout)
        exchange = await anext(aiter(rollout))

        async def hang_up() -> None:
            await stream.receive_some()
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            with pytest.raises(ExchangeAbandoned):
                await exchange.respond_raw(200, {}, pieces())
    assert closed
    assert rollout.trace[0].outcome == "abandoned"


async def test_nothing_else_is_an_answer_meanwhile() -> None:
    async def handler(exchange: Exchange) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            with pytest.raises(AlreadySettled, match="answered by a stream"):
                await exchange.respond("hello")
            with pytest.raises(AlreadySettled, match="answered by a stream"):
                await exchange.respond_raw(200, {}, b"")
            with pytest.raises(AlreadySettled, match="answered by a stream"):
                async with exchange.open_stream():
                    pass
            yield b"b"

        await exchange.respond_raw(200, {}, pieces(), end="close")

    async with asked(handler) as (stream, _):
        assert (await read(stream))[0].endswith(b"ab")


@pytest.mark.usefixtures("every_way")
async def test_no_silence_in_it_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HEAD_AFTER", 0.02)
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 0.02)

    async def pieces() -> AsyncIterator[bytes | float]:
        yield b"a"
        await trio.sleep(0.1)
        yield b"b"
        yield 0.1
        yield b"c"

    async with asked(raw(200, {}, pieces(), end="close")) as (stream, _):
        assert (await read(stream))[0].endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("headers", [JSON, {"content-length": "4"}])
@pytest.mark.parametrize("then", [None, KeyError("midway")])
async def test_what_is_kept_of_the_wire_is_what_was_sent(
    headers: dict[str, str], then: BaseException | None
) -> None:
    made = Maker(b"ab", b"cd", then=then)
    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError) if then else nullcontext():
            async with endpoint.open_rollout(raw(200, headers, made.sync()), record_wire=True) as rollout:
                async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
                    await post(stream, rollout)
                    data = b""
                    while b"cd" not in data:
                        data += await stream.receive_some()
                    if then:
                        await trio.sleep_forever()
    (turn,) = rollout.trace
    assert (turn.wire.status, turn.wire.answer, turn.wire.answer_size) == (200, b"abcd", 4)
    assert turn.wire.answer_headers == headers
    (entry,) = har_log([rollout.trace])["log"]["entries"]
    assert entry["response"]["content"]["text"] == "abcd"


async def test_a_replay_begins_when_it_began_and_sends_what_was_sent() -> None:
    def pieces() -> Iterator[bytes | float]:
        yield b"a"
        yield 1.5
        yield b"b"

    async with asked(raw(200, {}, pieces(), end="close")) as (stream, rollout):
        assert (await read(stream))[0].endswith(b"ab")
    turn = rollout.trace[0]
    assert turn.first_event is not None
    assert turn.first_event < 1.2 < turn.duration
    async with asked(Replay(rollout.trace, timing="recorded")) as (stream, again):
        began = trio.current_time()
        assert (await read(stream))[0].endswith(b"ab")
        assert trio.current_time() - began < 2.9
    assert again.trace[0].raw == turn.raw


# Elsewhere


async def test_over_a_websocket_each_event_is_a_frame_as_it_is_made() -> None:
    seen = trio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b'data: {"type":"a"}\n\ndata: {"ty'
        await seen.wait()
        yield b'pe":"error"}\n\n'

    async def handler(exchange: Exchange) -> None:
        await exchange.respond_raw(200, SSE, pieces())

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with dialled(rollout) as agent:
            for _ in range(2):  # and the socket goes on
                await agent.send(create())
                assert await agent.next() == {"type": "a"}
                seen.set()
                assert await agent.next() == {"type": "error"}


async def test_over_a_websocket_any_other_body_is_one_frame_and_a_failure_no_clean_end() -> None:
    async def handler(exchange: Exchange) -> None:
        made = Maker(b'{"type":', b'"a"}')
        await exchange.respond_raw(200, JSON, made.sync())

    async def failing(exchange: Exchange) -> None:
        with pytest.raises(KeyError):
            await exchange.respond_raw(200, SSE, Maker(b'data: {"type":"a"}\n\n', then=KeyError()).sync())

    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(handler) as rollout, dialled(rollout) as agent:
            await agent.send(create())
            assert await agent.next() == {"type": "a"}
        async with endpoint.open_rollout(failing) as rollout, dialled(rollout) as agent:
            await agent.send(create())
            assert await agent.next() == {"type": "a"}
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await agent.next()
    assert caught.value.reason.name == "ABNORMAL_CLOSURE"


async def test_an_agent_in_memory_gets_them_one_by_one(autojump_clock: MockClock) -> None:
    async def pieces() -> AsyncIterator[bytes | float]:
        yield b": 1\n\n"
        await trio.sleep(300)
        yield 300
        yield b": 2\n\n"

    async with open_memory_agent(raw(200, SSE, pieces(), end="close")) as agent:
        with pytest.raises(UpstreamTruncated):
            await agent.ask("hello", stream=True)
    assert [piece.at for piece in agent.calls[0].pieces if piece.data] == [0, 600]


async def test_in_memory_what_fails_is_broken_off(autojump_clock: MockClock) -> None:
    async def failing(exchange: Exchange) -> None:
        with pytest.raises(KeyError):
            await exchange.respond_raw(200, SSE, Maker(b": 1\n\n", then=KeyError()).sync())

    async with open_memory_agent(failing) as agent:
        with pytest.raises(UpstreamError):
            await agent.ask("hello", stream=True)
    assert agent.calls[0].end == "broken"


async def test_a_program_of_its_own_that_asks_gets_what_they_say_or_a_refusal() -> None:
    async with serve_endpoint() as endpoint:
        said = raw(200, {}, Maker(b"{", b"}").sync(), response="hello")
        async with endpoint.open_rollout(said) as rollout:
            assert (await rollout.ask("hi")).text == "hello"
        async with endpoint.open_rollout(raw(200, {}, Maker(b"{").asynchronous())) as rollout:
            with pytest.raises(
                Refusal, match="bytes, which cannot be returned as a Response: raw bytes: 1 byte of a body"
            ):
                await rollout.ask("hi")


async def test_a_retry_that_joins_reads_them_from_the_start() -> None:
    seen = trio.Event()
    calls = 0

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await seen.wait()
        yield b"b"

    async def handler(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        await exchange.respond_raw(200, {"content-length": "2"}, pieces(), end="close")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        body = msgspec.json.encode(ask_body())
        async with connected(endpoint.port) as first, connected(endpoint.port) as again:
            await first.send_all(raw_request(rollout, body, more="x-stainless-retry-count: 0\r\n"))
            while not (await first.receive_some()).endswith(b"a"):
                pass
            await again.send_all(raw_request(rollout, body, more="x-stainless-retry-count: 1\r\n"))
            data = b""
            while not data.endswith(b"a"):
                data += await again.receive_some()
            seen.set()
            assert (await read(again))[0] == b"b"
            assert (await read(first))[0] == b"b"
    assert calls == len(rollout.trace) == 1
