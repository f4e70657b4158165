"""HTTP/2, frame by frame: who hangs up, who floods, who takes nothing, and that nobody else is touched by it.

What holds of every way is tested in the other modules, over all of them (`every_way`).
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
import trio
import trio.testing
from hyperframe import frame as frames

from tests.asking import CHAT, ask_body, echo
from tests.fuzz.left import tasks
from tests.server.watching import watched
from triocept import Endpoint, Exchange, Refusal, Response, Rollout, run_endpoint, serve_endpoint
from triocept._limits import EndpointLimits
from triocept._server import front, http2, http2_frames
from triocept._server.base_connection import Outbox

INITIAL_WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
Headers = list[tuple[str, str]]


class Client:
    """A client of HTTP/2 that does what it is told, and nothing else: it opens no window by itself."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.goaway: int | None = None
        self.closed = False

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    async def ask(
        self,
        rollout: Rollout,
        *,
        path: str = CHAT,
        method: str = "POST",
        body: bytes | None = None,
        end: bool = True,
        more: Headers | None = None,
        **fields: Any,
    ) -> int:
        """Begin a call; the number of its stream."""
        number = self.h2.get_next_available_stream_id()
        if body is None:
            body = json.dumps(ask_body(**fields)).encode() if method == "POST" else b""
        self.h2.send_headers(
            number, [*head(path, method, rollout.api_key), *(more or [])], end_stream=end and not body
        )
        if body:
            self.h2.send_data(number, body, end_stream=end)
        await self.flush()
        return number

    async def see(self) -> None:
        """Take what comes next."""
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = True
            return
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as exc:  # what this client has done wrong, it has done wrong
            raise AssertionError(f"the server broke the protocol: {exc}") from exc
        for event in events:
            self._note(event)

    def _note(self, event: Any) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.heads[event.stream_id] = dict(event.headers)
                self.bodies[event.stream_id] = b""
            case h2.events.DataReceived():
                self.bodies[event.stream_id] += event.data
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.reset[event.stream_id] = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaway = int(event.error_code)

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            assert not self.closed, "the server has hung up"
            await self.see()

    async def answer(self, number: int) -> str:
        """What was said, of a whole answer."""
        await self.until(lambda: number in self.ended)
        return str(json.loads(self.bodies[number])["choices"][0]["message"]["content"])

    async def end(self) -> None:
        """Until the server has hung up."""
        while not self.closed:
            await self.see()

    async def pour(self, data: bytes) -> None:
        """Send this, as far as the server takes it, and read meanwhile, until it has hung up."""
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.stream.send_all(data)

            await self.end()


def head(path: str, method: str = "POST", key: str = "sk-none") -> Headers:
    return [
        (":method", method),
        (":path", path),
        (":scheme", "http"),
        (":authority", "a"),
        ("authorization", f"Bearer {key}"),
    ]


@asynccontextmanager
async def opened(endpoint: Endpoint, *, window: int | None = None) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
        client = Client(stream)
        client.h2.initiate_connection()
        if window is not None:
            client.h2.update_settings({INITIAL_WINDOW: window})
        await client.flush()
        yield client


class Held:
    """A handler that waits until it is cancelled, once it has said something, if it is to."""

    def __init__(self, say: str = "") -> None:
        self.caught, self.cancelled = [0], [0]
        self._say = say

    async def __call__(self, exchange: Exchange) -> None:
        self.caught[0] += 1
        try:
            if self._say:
                async with exchange.open_stream() as stream:
                    while True:
                        await stream.send(self._say)
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled[0] += 1
            raise


async def settled(until: Callable[[], bool]) -> None:
    while not until():
        await trio.testing.wait_all_tasks_blocked(0.002)


async def kill(client: Client, number: int) -> None:
    await trio.aclose_forcefully(client.stream)


async def cancel(client: Client, number: int) -> None:
    client.h2.reset_stream(number, 8)
    await client.flush()


async def goaway(client: Client, number: int) -> None:
    client.h2.close_connection(h2.errors.ErrorCodes.INTERNAL_ERROR)
    await client.flush()


hang_ups = pytest.mark.parametrize("hang_up", [kill, cancel, goaway])


# Hanging up


@hang_ups
@pytest.mark.parametrize("window", [0, 1000, None])
@pytest.mark.parametrize("say", ["", "x" * 1000], ids=["silent", "streaming"])
async def test_a_client_that_hangs_up_ends_its_handler_whatever_window_it_has_left(
    hang_up: Callable[[Client, int], Any], window: int | None, say: str
) -> None:
    held = Held(say)
    with trio.fail_after(10):
        async with (
            serve_endpoint(http2=True) as endpoint,
            endpoint.open_rollout(held, concurrency=1) as rollout,
        ):
            for count in range(3):
                async with opened(endpoint, window=window) as client:
                    number = await client.ask(rollout, text=f"{count}", stream=True)
                    await settled(lambda: held.caught[0] > count)  # noqa: B023
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    await hang_up(client, number)
                    await settled(lambda: held.cancelled[0] > count)  # noqa: B023
            assert not rollout._core.calls.connections
    assert [turn.outcome for turn in rollout.trace] == ["abandoned"] * 3


@hang_ups
async def test_an_answer_that_is_held_by_a_window_goes_with_its_client_and_comes_again_for_its_retry(
    hang_up: Callable[[Client, int], Any],
) -> None:
    async def large(exchange: Exchange) -> None:
        await exchange.respond("x" * 80_000)

    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(large) as rollout:
            async with opened(endpoint) as client:
                number = await client.ask(rollout)
                await client.until(lambda: len(client.bodies.get(number, b"")) >= 60_000)
                await hang_up(client, number)
                await settled(lambda: not rollout._core.calls.connections)
            async with opened(endpoint, window=100_000) as client:
                client.h2.increment_flow_control_window(100_000)
                assert await client.answer(await client.ask(rollout)) == "x" * 80_000
    assert len(rollout.trace) == 1


async def test_an_answer_of_which_the_end_waits_for_the_socket_is_not_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its client left then, asked again, and was answered anew."""
    holds = True
    flush = Outbox.flush

    async def hold(outbox: Outbox) -> None:
        if holds:
            await trio.sleep_forever()
        await flush(outbox)

    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                await client.see()
                monkeypatch.setattr(Outbox, "flush", hold)
                number = await client.ask(rollout)
                await settled(lambda: len(rollout.trace) == 1)
                await trio.testing.wait_all_tasks_blocked(0.02)
                await kill(client, number)
                await settled(lambda: not rollout._core.calls.connections)
            holds = False
            async with opened(endpoint) as client:
                await client.answer(await client.ask(rollout))
    assert len(rollout.trace) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_opens_no_more_streams_has_the_answers_to_those_that_are_open(
    stream: bool,
) -> None:
    """Node's `session.close()` says GOAWAY, and waits. Its calls were abandoned."""
    caught, go = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        caught.set()
        await go.wait()
        await exchange.respond("x" * 100_000)

    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(answer) as rollout:
            async with opened(endpoint) as client:
                number = await client.ask(rollout, stream=stream)
                await caught.wait()
                await client.stream.send_all(frames.GoAwayFrame(0).serialize() * 2)
                await trio.testing.wait_all_tasks_blocked(0.02)
                go.set()
                await client.until(lambda: len(client.bodies.get(number, b"")) >= 60_000)
                for window in (0, number):
                    client.h2.increment_flow_control_window(100_000, window or None)
                await client.flush()
                await client.until(lambda: number in client.ended)
                await client.end()
    assert [turn.outcome for turn in rollout.trace] == ["answered"]


async def test_a_client_that_opens_no_more_streams_and_waits_for_none_is_let_go() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                await client.answer(await client.ask(rollout))
                await client.stream.send_all(frames.GoAwayFrame(0).serialize())
                await client.end()
                assert client.closed


async def test_an_answer_that_was_sent_is_delivered_though_its_client_leaves_at_once() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            for size in range(1, 20):
                async with opened(endpoint) as client:
                    await client.answer(await client.ask(rollout))
                await settled(lambda: not rollout._core.calls.connections)
                assert len(rollout.trace) == size


async def test_with_the_policy_finish_a_reset_stream_leaves_its_handler_at_work() -> None:
    go, caught = trio.Event(), trio.Event()

    async def wait(exchange: Exchange) -> None:
        caught.set()
        await go.wait()
        await exchange.respond("done")

    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint:
            async with endpoint.open_rollout(wait, on_hangup="finish") as rollout, opened(endpoint) as client:
                number = await client.ask(rollout)
                await caught.wait()
                await cancel(client, number)
                await trio.testing.wait_all_tasks_blocked(0.02)
                go.set()
                await settled(lambda: len(rollout.trace) == 1)
                assert await client.answer(await client.ask(rollout)) == "done"
    assert [turn.outcome for turn in rollout.trace] == ["answered"]


async def test_a_stream_that_fails_in_the_middle_is_reset_and_no_other() -> None:
    go = trio.Event()

    async def answer(exchange: Exchange) -> None:
        assert exchange.request.last is not None
        if exchange.request.last.text == "fail":
            async with exchange.open_stream() as stream:
                await stream.send("hel")
                raise Refusal(503, "broken")
        await go.wait()
        await exchange.respond("whole")

    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(answer) as rollout:
            async with opened(endpoint) as client:
                other = await client.ask(rollout, text="other")
                number = await client.ask(rollout, text="fail", stream=True)
                await client.until(lambda: number in client.reset)
                assert b"broken" in client.bodies[number]
                assert number not in client.ended
                go.set()
                assert await client.answer(other) == "whole"


# Back-pressure, and who takes nothing


async def test_a_shut_window_is_the_handlers_wait() -> None:
    sent = [0]

    async def much(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for _ in range(100):
                await stream.send("x" * 1000)
                sent[0] += 1

    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(much) as rollout:
            async with opened(endpoint, window=3000) as client:
                number = await client.ask(rollout, stream=True)
                await client.until(lambda: len(client.bodies.get(number, b"")) == 3000)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert sent[0] < 5
                while number not in client.ended:
                    client.h2.increment_flow_control_window(3000)
                    client.h2.increment_flow_control_window(3000, number)
                    await client.flush()
                    await client.see()
    assert sent[0] == 100


async def test_a_window_that_stays_shut_is_broken_off_after_its_time_and_no_other_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held("x" * 1000)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True, limits=EndpointLimits(reader_seconds=0.2)) as endpoint:
            async with endpoint.open_rollout(held) as slow, endpoint.open_rollout(echo) as quick:
                async with opened(endpoint, window=500) as client:
                    number = await client.ask(slow, stream=True)
                    await settled(lambda: held.cancelled[0] == 1)
                    assert await client.answer(await client.ask(quick, text="hi")) == "hi"
    assert client.reset == {number: 8}
    assert [turn.outcome for turn in slow.trace] == ["abandoned"]
    assert len(caplog.records) == 1


async def say_much(exchange: Exchange) -> None:
    await exchange.respond("x" * 12_000)


@pytest.mark.parametrize("room", [0, 1, 5000])
async def test_an_end_without_a_byte_waits_for_a_window_that_was_made_smaller_than_nothing(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """h2 4.3 did not send it, and the stream was never ended; its clients take it for a fault of the connection's. It
    needs no room beyond nothing."""
    smaller = trio.Event()

    async def stream(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send("x" * 1000)

    send = http2.Stream._send_body

    async def send_in_two(to: http2.Stream, data: bytes, *, last: bool) -> None:
        await send(to, data, last=False)
        if last:
            await smaller.wait()
            await send(to, b"", last=True)

    monkeypatch.setattr(http2.Stream, "_send_body", send_in_two)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(stream) as rollout:
            async with opened(endpoint) as client:
                number = await client.ask(rollout, stream=True)
                await client.until(lambda: b"[DONE]" in client.bodies.get(number, b""))
                client.h2.update_settings({INITIAL_WINDOW: 10})
                await client.flush()
                await client.until(lambda: client.h2.local_settings.initial_window_size == 10)
                smaller.set()
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert number not in client.ended
                window = client.h2.streams[number].inbound_flow_control_window
                client.h2.increment_flow_control_window(room - window, number)
                await client.flush()
                await client.until(lambda: number in client.ended)
                assert client.reset == {}


async def test_who_waits_for_the_connections_window_is_not_overdue_while_others_have_their_turn() -> None:
    """Thirty answers, and a window that opens for one of them at a time."""
    with trio.fail_after(30):
        async with serve_endpoint(http2=True, limits=EndpointLimits(reader_seconds=1)) as endpoint:
            async with endpoint.open_rollout(say_much) as rollout, opened(endpoint, window=2**30) as client:
                numbers = [await client.ask(rollout) for _ in range(30)]
                while len(client.ended | set(client.reset)) < 30:
                    client.h2.increment_flow_control_window(5_000)
                    await client.flush()
                    await client.see()
                    await trio.sleep(0.05)
    assert (client.ended, client.reset) == (set(numbers), {})


async def test_one_frame_opens_the_connections_window_for_all_that_wait_though_the_first_of_them_leaves() -> (
    None
):
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint:
            async with endpoint.open_rollout(say_much) as rollout, opened(endpoint, window=2**30) as client:
                numbers = [await client.ask(rollout) for _ in range(12)]
                await client.until(lambda: sum(map(len, client.bodies.values())) == 65_535)
                await trio.testing.wait_all_tasks_blocked()
                first = min(set(numbers) - client.ended)
                client.h2.increment_flow_control_window(2**20)
                client.h2.reset_stream(first)
                await client.flush()
                await client.until(lambda: client.ended >= set(numbers) - {first})
    assert first not in client.ended


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/nowhere", "/mcp"])
async def test_a_refusal_that_is_held_by_a_window_ends_with_its_stream(path: str) -> None:
    """Nobody watches such a request for its hang-up."""
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint, window=0) as client:
                await trio.testing.wait_all_tasks_blocked()
                before = tasks()
                client.h2.send_headers(
                    1, head(path, "GET" if path == "/v1/models" else "POST"), end_stream=True
                )
                await client.flush()
                await client.until(lambda: 1 in client.heads)
                await trio.testing.wait_all_tasks_blocked()
                assert tasks() > before
                client.h2.reset_stream(1)
                await client.flush()
                await settled(lambda: tasks() == before)
    assert len(rollout.trace) == 0


async def test_a_socket_that_takes_nothing_is_broken_off_after_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held("x" * 10_000)
    with trio.fail_after(20):
        async with serve_endpoint(http2=True, limits=EndpointLimits(reader_seconds=0.3)) as endpoint:
            async with endpoint.open_rollout(held) as rollout, opened(endpoint, window=2**30) as client:
                client.h2.increment_flow_control_window(2**30)
                await client.ask(rollout, stream=True)
                await settled(lambda: held.cancelled[0] == 1)
                await settled(lambda: "not a byte was taken" in caplog.text)  # and not its stream alone
    assert [turn.outcome for turn in rollout.trace] == ["abandoned"]


# Early answers


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/nowhere", "/mcp"])
@pytest.mark.parametrize("wrong", ["key", "size"])
async def test_an_early_answer_to_a_body_under_way_is_whole_and_touches_no_other_call(
    path: str, wrong: str
) -> None:
    go, caught = trio.Event(), trio.Event()

    async def wait(exchange: Exchange) -> None:
        caught.set()
        await go.wait()
        await exchange.respond("still here")

    with trio.fail_after(20):
        async with (
            serve_endpoint(http2=True, max_body=200_000) as endpoint,
            endpoint.open_rollout(wait) as rollout,
        ):
            async with opened(endpoint) as client:
                other = await client.ask(rollout)
                await caught.wait()
                number = client.h2.get_next_available_stream_id()
                key = rollout.api_key if wrong == "size" else "sk-wrong"
                client.h2.send_headers(number, [*head(path, key=key), ("content-length", "3000000")])
                left = 3_000_000
                while left:
                    room = min(client.h2.local_flow_control_window(number), 16384, left)
                    if room:
                        client.h2.send_data(number, bytes(room), end_stream=room == left)
                        left -= room
                        await client.flush()
                    else:
                        await client.see()
                await client.until(lambda: number in client.ended)
                assert client.heads[number][":status"] in ("401", "413", "404", "405")
                assert path == "/mcp" or json.loads(client.bodies[number])
                go.set()
                assert await client.answer(other) == "still here"
    assert not client.reset


async def test_a_body_that_does_not_come_after_an_early_answer_is_not_waited_for_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "LINGER", 0.1)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                number = await client.ask(rollout, path="/nowhere", body=b"{", end=False)
                await client.until(lambda: number in client.reset)
                assert number in client.ended, "the answer is whole"
                assert client.reset[number] == 0
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"


async def test_a_body_that_nobody_asked_for_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "CONNECTION_WINDOW", 65536)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                for _ in range(10):
                    waits = [("expect", "100-continue")]
                    number = await client.ask(rollout, path="/nowhere", body=bytes(16_000), more=waits)
                    await client.until(lambda number=number: number in client.ended)  # type: ignore[misc]
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"


async def test_the_body_of_a_request_that_was_reset_in_the_same_moment_touches_no_other_call() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                number = await client.ask(rollout, path="nowhere", body=bytes(100))
                await client.until(lambda: number in client.reset)
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"
    assert client.goaway is None


async def test_an_answer_that_is_no_model_calls_goes_with_its_client_too_when_a_window_holds_it() -> None:
    async def large(exchange: Exchange) -> None:
        await exchange.respond(Response.of("x" * 200_000))

    with trio.fail_after(10):
        async with serve_endpoint(http2=True, grace=60) as endpoint, endpoint.open_rollout(large) as rollout:
            async with opened(endpoint, window=2**20) as client:
                client.h2.increment_flow_control_window(2**20)
                body = json.dumps({"model": "m", "input": "x"}).encode()
                number = await client.ask(rollout, path="/v1/responses", body=body)
                await client.until(lambda: number in client.ended)
                stored = json.loads(client.bodies[number])["id"]
            async with opened(endpoint, window=0) as client:
                number = await client.ask(rollout, path=f"/v1/responses/{stored}", method="GET")
                await client.until(lambda: number in client.heads)
                await kill(client, number)
    assert client.heads[number][":status"] == "200"


async def test_who_takes_nothing_is_read_no_further_than_its_answers_have_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def send_nothing(*arguments: object) -> None:
        await trio.sleep_forever()

    def make(*arguments: Any) -> http2.Stream:
        made.append(arguments[1])
        return stream_class(*arguments)

    made: list[int] = []
    stream_class = http2.Stream
    monkeypatch.setattr(Outbox, "flush", send_nothing)
    monkeypatch.setattr(http2, "MAX_OUT", 500)
    monkeypatch.setattr(http2, "Stream", make)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True, grace=0) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                for _ in range(50):
                    for _ in range(10):
                        number = client.h2.get_next_available_stream_id()
                        client.h2.send_headers(
                            number, head("/health", "HEAD", rollout.api_key), end_stream=True
                        )
                    await client.flush()
                    await trio.testing.wait_all_tasks_blocked(0.001)
    assert 0 < len(made) < 200


# Nonsense and floods


MALFORMED = {
    "a path that is not ASCII": {":path": b"/\xc3\xa9"},
    "a method that is not ASCII": {":method": b"P\xc3\xa9ST"},
    "a path with a control character": {":path": b"/a\x1bb"},
    "a path without a slash": {":path": b"v1"},
    "CONNECT": {":method": b"CONNECT"},
    "CONNECT of a websocket": {":method": b"CONNECT", ":protocol": b"websocket"},  # RFC 8441
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_reset_or_ends_its_connection_with_goaway_in_one_line_of_log(
    change: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {name.encode(): value.encode() for name, value in head(CHAT)}
    headers |= {name.encode(): value for name, value in change.items()}
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, opened(endpoint) as client:
            pseudo_first = sorted(headers.items(), key=lambda header: not header[0].startswith(b":"))
            client.h2.send_headers(1, pseudo_first, end_stream=True)
            await client.flush()
            while 1 not in client.reset and client.goaway is None:
                assert not client.closed
                await client.see()
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


def settings_frame() -> frames.Frame:
    return frames.SettingsFrame(0, settings={3: 100})


FLOODS: dict[str, Callable[[int], frames.Frame]] = {
    "PRIORITY": lambda n: frames.PriorityFrame(2 * n + 1001, depends_on=0, stream_weight=1),
    "PING": lambda n: frames.PingFrame(0, opaque_data=b"12345678"),
    "SETTINGS": lambda n: settings_frame(),
    "WINDOW_UPDATE": lambda n: frames.WindowUpdateFrame(0, window_increment=1),
    "empty DATA": lambda n: frames.DataFrame(1, data=b""),
    "an unknown type": lambda n: frames.ExtensionFrame(0xFE, 0, body=b""),
}


@pytest.mark.parametrize("make", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_ends_its_connection_with_goaway_in_one_line_of_log(
    make: Callable[[int], frames.Frame], caplog: pytest.LogCaptureFixture
) -> None:
    with trio.fail_after(20):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                await client.ask(rollout, body=b"{", end=False)
                flood = b"".join(make(number).serialize() for number in range(http2_frames.FRAMES + 1000))
                await client.pour(flood)
    assert client.goaway == 11, "ENHANCE_YOUR_CALM"
    assert len(caplog.records) == 1


async def test_resets_in_rapid_succession_end_the_connection_and_leave_no_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held()
    with trio.fail_after(20):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(held) as rollout:
            async with opened(endpoint) as client:
                for number in range(1, 2 * http2_frames.FRAMES + 2001, 2):
                    client.h2.send_headers(number, head(CHAT, key=rollout.api_key), end_stream=True)
                    client.h2.reset_stream(number)
                await client.pour(client.h2.data_to_send())
            await settled(lambda: not rollout._core.calls.connections)
    assert client.goaway == 11
    assert held.caught == held.cancelled
    assert [record.message for record in caplog.records if "flood" in record.message]


async def test_without_a_key_a_hundred_resets_end_the_connection_at_once_and_none_of_the_requests_is_looked_at() -> (
    None
):
    """Four connections, as fast as they can, and nobody else waits."""
    with trio.fail_after(20):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(opened(endpoint)) for _ in range(4)]
                data = [thousand_resets(client) for client in clients]
                with watched() as watch:
                    async with trio.open_nursery() as nursery, trio.open_nursery() as floods:
                        nursery.start_soon(watch.run)
                        for client, resets in zip(clients, data, strict=True):
                            floods.start_soon(client.pour, resets)
                        while floods.child_tasks:
                            assert trio.lowlevel.current_statistics().tasks_living < 300
                            await trio.lowlevel.checkpoint()
                        nursery.cancel_scope.cancel()
            assert [client.goaway for client in clients] == [11] * 4
            async with opened(endpoint) as client:
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"
    assert watch.stall < 0.1


async def test_requests_in_one_segment_are_answered_or_refused_each_and_their_connection_goes_on() -> None:
    """As many as h2 takes for an attack, if they are begun at once; here others have a turn between them."""
    with trio.fail_after(20):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                for number in range(1, 3000, 2):
                    client.h2.send_headers(number, head("/nowhere", "HEAD"), end_stream=True)
                await client.flush()
                await client.until(lambda: len(client.ended | client.reset.keys()) == 1500)
                assert set(client.reset.values()) <= {7}, "REFUSED_STREAM"
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"


async def test_before_a_key_was_shown_a_hundred_streams_are_open_at_once_and_then_as_many_as_there_may_be() -> (
    None
):
    with trio.fail_after(20):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                for number in range(1, 203, 2):
                    client.h2.send_headers(number, [*head("/mcp"), ("expect", "100-continue")])  # it waits
                await client.flush()
                await client.until(lambda: bool(client.reset))
                assert client.reset == {201: 7}, "REFUSED_STREAM"
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"


@pytest.mark.parametrize("count", [100, 101])
async def test_a_head_of_many_small_headers_ends_its_connection(count: int) -> None:
    limits = EndpointLimits(head_lines=100)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True, limits=limits) as endpoint, opened(endpoint) as client:
            more = [("a", "b")] * (count - 1)  # one is in the head: a byte each, from the second on
            client.h2.send_headers(1, [*head("/health", "GET"), *more], end_stream=True)
            await client.flush()
            while 1 not in client.heads and not client.closed:
                await client.see()
    assert client.goaway == (11 if count > 100 else None)


def thousand_resets(client: Client) -> bytes:
    """Made before anything is measured: it takes a client longer to say this than a server to refuse it."""
    for number in range(1, 2001, 2):
        client.h2.send_headers(number, head("/v1"), end_stream=True)
        client.h2.reset_stream(number)
    return client.h2.data_to_send()


async def test_a_bomb_of_headers_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True, limits=EndpointLimits(head_bytes=20_000)) as endpoint:
            async with opened(endpoint) as client:
                bomb = [("x-bomb", "x" * 3000)] * 100
                client.h2.send_headers(1, [*head(CHAT), *bomb], end_stream=True)
                await client.flush()
                await client.end()
    assert client.goaway == 11
    assert len(caplog.records) == 1


async def test_a_head_without_an_end_is_cut_off_after_its_time() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True, limits=EndpointLimits(head_seconds=0.1)) as endpoint:
            async with opened(endpoint) as client:
                start = frames.HeadersFrame(1, data=b"\x83")
                await client.stream.send_all(start.serialize())
                await client.end()
    assert client.goaway == 11


async def test_a_head_of_endless_continuations_ends_its_connection() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, opened(endpoint) as client:
            pieces = [frames.HeadersFrame(1, data=b"\x83"), *[frames.ContinuationFrame(1, data=b"")] * 1000]
            await client.stream.send_all(b"".join(piece.serialize() for piece in pieces))
            await client.end()
    assert client.goaway == 1


async def test_a_connection_that_shows_no_key_ends_after_its_time_and_one_that_does_lives_on() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True, limits=EndpointLimits(keyless_seconds=0.2)) as endpoint:
            async with (
                endpoint.open_rollout(echo) as rollout,
                opened(endpoint) as keyed,
                opened(endpoint) as client,
            ):
                assert await keyed.answer(await keyed.ask(rollout, text="a")) == "a"
                await client.ask(rollout, path="/health", method="GET", more=[("authorization", "")])
                client.h2.send_headers(3, head("/health", "GET"), end_stream=True)
                await client.flush()
                keyless = Client(await trio.open_tcp_stream("127.0.0.1", endpoint.port))
                async with keyless.stream:
                    keyless.h2.initiate_connection()
                    await keyless.flush()
                    await keyless.end()
                assert keyless.goaway == 11
                assert await keyed.answer(await keyed.ask(rollout, text="b")) == "b"


async def test_random_frames_never_reach_the_log_as_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(5)
    kinds = range(11)
    with trio.fail_after(60):
        async with serve_endpoint(http2=True, grace=0.1) as endpoint, endpoint.open_rollout(echo) as rollout:
            for _ in range(300):
                async with opened(endpoint) as client:
                    with suppress(trio.BrokenResourceError):
                        await client.ask(rollout, body=b"{", end=False)
                        for _ in range(20):
                            body = chance.randbytes(chance.choice([0, 1, 4, 5, 6, 8, 30]))
                            first = bytes([0, 0, len(body), chance.choice(kinds), chance.randrange(256)])
                            number = chance.choice([0, 1, 1, 3, 5]).to_bytes(4, "big")
                            await client.stream.send_all(first + number + body)
            async with opened(endpoint) as client:
                assert await client.answer(await client.ask(rollout, text="well")) == "well"
    assert not [record for record in caplog.records if record.exc_info]


# Manners


async def test_calls_side_by_side_on_one_connection_each_have_their_own_answer() -> None:
    with trio.fail_after(20):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                numbers = [await client.ask(rollout, text=f"<{count}>") for count in range(200)]
                for count, number in enumerate(numbers):
                    assert await client.answer(number) == f"<{count}>"


async def test_more_streams_than_there_may_be_are_refused_and_touch_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Streams that were reset count as well, for as long as their tasks take to end."""
    monkeypatch.setattr(http2, "MAX_STREAMS", 3)
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == 3)
                for number in (1, 3, 5, 7):
                    client.h2.send_headers(number, head(CHAT, key=rollout.api_key))
                    if number == 5:
                        client.h2.reset_stream(1)
                await client.flush()  # all at once: no task can have ended meanwhile
                await client.until(lambda: bool(client.reset))
                assert client.reset == {7: 7}, "REFUSED_STREAM, so that it may be sent again"
                for number in (3, 5):
                    await cancel(client, number)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert await client.answer(await client.ask(rollout, text="hi")) == "hi"


async def test_who_waits_with_its_body_is_told_to_go_on_and_head_has_no_body() -> None:
    with trio.fail_after(10):
        async with serve_endpoint(http2=True) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with opened(endpoint) as client:
                number = await client.ask(rollout, body=b"", end=False, more=[("expect", "100-continue")])
                informed = []
                while not informed:
                    events = client.h2.receive_data(await client.stream.receive_some())
                    informed = [e for e in events if isinstance(e, h2.events.InformationalResponseReceived)]
                client.h2.send_data(number, json.dumps(ask_body("hi")).encode(), end_stream=True)
                await client.flush()
                assert await client.answer(number) == "hi"
                number = await client.ask(rollout, path="/health", method="HEAD")
                await client.until(lambda: number in client.ended)
                assert client.bodies[number] == b""
                assert client.heads[number][":status"] == "200"


async def test_an_endpoint_that_stops_says_so_to_a_new_stream_of_an_old_connection_and_sees_the_others_out() -> (
    None
):
    stop = trio.CancelScope()

    async def serve(*, task_status: trio.TaskStatus[Endpoint]) -> None:
        with stop:
            await run_endpoint(http2=True, grace=9, task_status=task_status)

    async def large(exchange: Exchange) -> None:
        await exchange.respond("x" * 80_000)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            endpoint: Endpoint = await nursery.start(serve)
            async with endpoint.open_rollout(echo) as old:
                pass
            async with endpoint.open_rollout(large) as rollout, opened(endpoint) as client:
                number = await client.ask(rollout)
                client.h2.increment_flow_control_window(100_000)
                await client.flush()
                await client.until(lambda: len(client.bodies.get(number, b"")) >= 60_000)
                stop.cancel()
                await settled(lambda: endpoint._registry.closing)
                late = await client.ask(old)
                await client.until(lambda: late in client.ended)
                assert client.heads[late][":status"] == "503"
                assert client.heads[late]["x-should-retry"] == "false"
                client.h2.increment_flow_control_window(100_000, number)
                await client.flush()
                assert await client.answer(number) == "x" * 80_000
                await client.end()
                assert client.goaway == 0


async def test_a_frame_that_comes_as_an_idle_connection_is_ended_is_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """h2 takes none behind its GOAWAY: then two tasks say at once that nothing follows."""

    async def hold(exchange: Exchange) -> None:
        taken.set()
        await trio.sleep_forever()

    async def agent(endpoint: Endpoint, turns: int) -> None:
        async with endpoint.open_rollout(hold) as rollout, opened(endpoint) as client:
            await client.ask(rollout)
            await leaving.wait()
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            with suppress(trio.BrokenResourceError):
                await client.stream.send_all(frames.WindowUpdateFrame(0, window_increment=1).serialize())
            await client.end()

    with trio.fail_after(60):
        for turns in range(40):  # it comes in one of them
            taken, leaving = trio.Event(), trio.Event()
            async with trio.open_nursery() as nursery, serve_endpoint(http2=True) as endpoint:
                nursery.start_soon(agent, endpoint, turns)
                await taken.wait()
                leaving.set()
    assert not [record for record in caplog.records if record.exc_info]
