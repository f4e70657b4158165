"""Who is told of what when an exchange is settled from outside while somebody is at work on it: every cell.

In each, whoever answers has taken the exchange, and is busy in a way that no cancellation can end (a shield), until the
exchange has been settled from outside. Then it does what it does next.
"""

import json
import socket
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import msgspec
import pytest
import trio
import trio.testing

from tests.asking import ask, ask_body, raw_request
from tests.rollout.outcomes import ACTIONS, BEGIN, CELLS, END, EVENTS, PAGE, Cell, table, told, turn_of
from tests.unserved import opened
from triocept import (
    Endpoint,
    Exchange,
    ExchangeAbandoned,
    Limits,
    Refusal,
    Rollout,
    RolloutClosed,
    Trace,
    Turn,
    UpstreamError,
    serve_endpoint,
    serve_pool,
)
from triocept._rollout.exchange import core_of
from triocept._rollout.outcome import Refused, outcome_of
from triocept.errors import AlreadySettled, LimitReached


class Agent:
    """An agent that makes one call over a socket of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        pass

    async def send(self, port: int, data: bytes) -> None:
        self._stream = await trio.open_tcp_stream("127.0.0.1", port)
        await self._stream.send_all(data)

    async def hang_up(self) -> None:
        await self._stream.aclose()

    async def read(self) -> bytes:
        data = b""
        try:
            async with self._stream:
                async for piece in self._stream:
                    data += piece
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return data


class AgentInAThread(Agent):
    """The same, blocking, in threads."""

    async def send(self, port: int, data: bytes) -> None:
        def call() -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", port), timeout=60)
            sock.sendall(data)
            return sock

        self._sock = await trio.to_thread.run_sync(call)

    async def hang_up(self) -> None:
        await trio.to_thread.run_sync(self._sock.close)

    async def read(self) -> bytes:
        def call() -> bytes:
            data = b""
            try:
                while piece := self._sock.recv(65536):
                    data += piece
            except OSError:
                pass
            self._sock.close()
            return data

        return await trio.to_thread.run_sync(call)


class AgentInAProcess(Agent):
    """The same in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def _order(self, **order: object) -> str:
        def call() -> str:
            stdin, stdout = self._process.stdin, self._process.stdout
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            answer: str = json.loads(stdout.readline())
            return answer

        return await trio.to_thread.run_sync(call)

    async def send(self, port: int, data: bytes) -> None:
        await self._order(do="send", port=port, data=data.decode())

    async def hang_up(self) -> None:
        await self._order(do="hang up")

    async def read(self) -> bytes:
        return (await self._order(do="read")).encode()


AGENTS = {"body": Agent, "sibling task": Agent, "thread": AgentInAThread, "process": AgentInAProcess}


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).with_name("remote_agent.py")
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        started.stdin.close()
        started.wait(timeout=60)


class SlowRecorder:
    """Is at work on a turn until it is let go."""

    def __init__(self) -> None:
        self.go = trio.Event()

    async def record(self, turn: Turn) -> None:
        await self.go.wait()

    async def seal(self, trace: Trace) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.001)


class Play:
    """One cell, played."""

    def __init__(self, cell: Cell, agent: Agent) -> None:
        self.cell = cell
        self.agent = agent
        self.taken, self.acted = trio.Event(), trio.Event()
        self.leave_rollout, self.leave_endpoint = trio.Event(), trio.Event()
        self.told: list[BaseException] = []
        """What the owner gets."""
        self.exchange: Exchange | None = None
        self.trace: Trace | None = None
        self.recorder = SlowRecorder()
        if "recorded" not in cell.event:
            self.recorder.go.set()

    # Whoever answers

    async def answer(self, exchange: Exchange) -> None:
        self.exchange = exchange
        try:
            if self.cell.action == "send":
                async with exchange.open_stream() as stream:
                    await stream.send("half")
                    with trio.CancelScope(shield=True):
                        await self._busy(exchange)
                        await stream.send("more")
            elif self.cell.action == "is cancelled":
                self.taken.set()
                await trio.sleep_forever()
            else:
                with trio.CancelScope(shield=True):
                    await self._busy(exchange)
                    await self._act(exchange)
        finally:
            self.acted.set()

    async def _busy(self, exchange: Exchange) -> None:
        self.taken.set()
        await until(lambda: exchange.settled)

    async def _act(self, exchange: Exchange) -> None:
        match self.cell.action:
            case "respond":
                await exchange.respond("too late")
            case "refuse":
                await exchange.refuse(429, "too late")
            case "raise Refusal":
                raise Refusal(429, "too late")
            case "raise UpstreamError":
                raise UpstreamError("it is down", status=503)
            case "raise another":
                raise ValueError("a fault")

    # Its owner

    @asynccontextmanager
    async def rollout(self, endpoint: Endpoint) -> AsyncIterator[tuple[Rollout, Rollout]]:
        """The rollout whose call it is, and the one that is stopped in its place by its parent's stop."""
        handler = self.answer if "handler" in self.cell.form else None
        depth = (self.cell.form == "handler of a child") + (self.cell.event == "its parent's stop")
        async with AsyncExitStack() as stack:
            if not depth:
                rollout = await stack.enter_async_context(endpoint.open_rollout(handler))
                yield rollout, rollout
                return
            top = rollout = await stack.enter_async_context(endpoint.open_rollout())
            for level in range(depth):
                last = handler if level == depth - 1 else None
                rollout = await stack.enter_async_context(rollout.open_child(last))
            yield rollout, top

    async def own(
        self,
        endpoint: Endpoint,
        nursery: trio.Nursery,
        *,
        task_status: trio.TaskStatus[tuple[Rollout, Rollout]],
    ) -> None:
        try:
            async with self.rollout(endpoint) as (rollout, top):
                self.trace = rollout.trace
                if self.cell.form in ("serve", "loop"):
                    nursery.start_soon(self.answer_outside, rollout)
                if self.cell.place == "body":
                    await self.call(rollout)
                task_status.started((rollout, top))
                await self.leave_rollout.wait()
        except BaseException as exc:
            self.keep(exc)

    async def answer_outside(self, rollout: Rollout) -> None:
        try:
            if self.cell.form == "serve":
                await rollout.serve(self.answer)
                return
            async for exchange in rollout:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        if self.cell.action == "is cancelled":
                            nursery.start_soon(self.cancel_when_settled, exchange, scope)
                        try:
                            await self.answer(exchange)
                        except Exception as exc:
                            self.keep(exc)
        except BaseException as exc:
            self.keep(exc)

    async def cancel_when_settled(self, exchange: Exchange, scope: trio.CancelScope) -> None:
        await until(lambda: exchange.settled)
        scope.cancel()

    def keep(self, exc: BaseException) -> None:
        if isinstance(exc, trio.Cancelled):
            raise exc
        self.told.append(exc)

    async def call(self, rollout: Rollout) -> None:
        body = json.dumps(ask_body(stream=self.cell.action == "send")).encode()
        await self.agent.send(self.port, raw_request(rollout, body, more="Connection: close\r\n"))

    # What happens

    async def serve(self, *, task_status: trio.TaskStatus[Endpoint]) -> None:
        async with serve_endpoint(recorder=self.recorder, grace=0.3) as endpoint:
            self.port = endpoint.port
            task_status.started(endpoint)
            await self.leave_endpoint.wait()

    async def happen(self, rollout: Rollout, top: Rollout) -> None:
        match self.cell.event:
            case "rollout.stop":
                await rollout.stop("enough")
            case "its parent's stop":
                await top.stop("enough")
            case "the rollout is left":
                self.leave_rollout.set()
            case "the endpoint ends":
                self.leave_endpoint.set()
            case _:
                await self.agent.hang_up()

    async def run(self) -> bytes:
        reply = b""
        async with trio.open_nursery() as nursery:
            endpoint = await nursery.start(self.serve)
            rollout, top = await nursery.start(self.own, endpoint, nursery)
            if self.cell.place != "body":
                await self.call(rollout)
            await self.taken.wait()
            await self.happen(rollout, top)
            await self.acted.wait()
            self.recorder.go.set()
            await until(lambda: len(rollout.trace) == 1)
            if "hangs up" not in self.cell.event:
                reply = await self.agent.read()
            self.leave_rollout.set()
            await until(lambda: rollout.trace.sealed)
            self.leave_endpoint.set()
        return reply


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
async def test_who_is_told(cell: Cell, process: subprocess.Popen[str]) -> None:
    play = Play(cell, AGENTS[cell.place](process))
    reply = await play.run()
    wanted = told(cell.action, cell.event, cell.form)
    assert [type(exc).__name__ for exc in play.told] == ([] if wanted is None else [wanted])
    assert [turn.outcome for turn in play.trace] == [turn_of(cell.event)]
    assert play.trace.sealed
    if "hangs up" not in cell.event:
        status = b"HTTP/1.1 404" if "stop" in cell.event else b"HTTP/1.1 503"
        assert reply.startswith(b"HTTP/1.1 200" if cell.action == "send" else status)
        assert b"[DONE]" not in reply
        assert b"too late" not in reply


def test_the_docs_have_the_table_that_was_tested() -> None:
    text = PAGE.read_text()
    assert f"{BEGIN}\n{table()}\n{END}" in text, "run: python -m tests.rollout.outcomes"


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "is cancelled"])
async def test_a_handler_that_stops_its_rollout_goes_on_and_kills_no_other(action: str) -> None:
    """The one that stops is not cancelled by that; the other is, and whatever it does is no fault of the program."""
    went_on = False
    play = Play(Cell(action, EVENTS[0], "handler", "sibling task"), Agent.__new__(Agent))

    async def handle(exchange: Exchange) -> None:
        nonlocal went_on
        if exchange.request.last.text != "stop":
            await play.answer(exchange)
            return
        await exchange.rollout.stop("enough")
        await trio.lowlevel.checkpoint()
        await exchange.respond("nobody gets this")
        went_on = True
        raise LimitReached("as well")

    statuses = []

    async def call(rollout: Rollout, text: str) -> None:
        try:
            statuses.append((await ask(rollout, text, stream=action == "send")).status_code)
        except httpx2.RemoteProtocolError:  # its stream broke
            assert (action, text) == ("send", "work")

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        try:
            async with endpoint.open_rollout(handle) as rollout:
                nursery.start_soon(call, rollout, "work")
                await play.taken.wait()
                nursery.start_soon(call, rollout, "stop")
                await until(lambda: went_on and len(rollout.trace) == 2)
                await play.acted.wait()
                await trio.testing.wait_all_tasks_blocked()
        except ValueError:
            assert action == "raise another"
        else:
            assert action != "raise another"
    assert [turn.outcome for turn in rollout.trace] == ["refused", "refused"]
    if action == "raise another":
        return  # which cancels every other handler
    assert went_on
    assert statuses == [404] * (1 if action == "send" else 2)


async def test_a_note_that_comes_behind_the_end_of_its_rollout_is_not_in_the_turn() -> None:
    class Keeping(SlowRecorder):
        turns: ClassVar[list[bytes]] = []

        async def record(self, turn: Turn) -> None:
            self.turns.append(msgspec.json.encode(turn))

    async def handle(exchange: Exchange) -> None:
        exchange.annotate(early=True)
        await exchange.rollout.stop("enough")
        exchange.annotate(late=True)

    async with serve_endpoint(recorder=Keeping()) as endpoint, endpoint.open_rollout(handle) as rollout:
        assert (await ask(rollout)).status_code == 404
    (turn,) = rollout.trace
    assert turn.notes == {"early": True}
    assert Keeping.turns == [msgspec.json.encode(turn)], "what is recorded stays as it is"


async def test_a_recorder_that_fails_at_the_end_is_told_and_keeps_nobody_from_being_refused() -> None:
    class Full(SlowRecorder):
        async def record(self, turn: Turn) -> None:
            raise OSError(28, "no space left on device")

    statuses = []

    async def call(rollout: Rollout, text: str) -> None:
        statuses.append((await ask(rollout, text)).status_code)

    async def wait(exchange: Exchange) -> None:
        await trio.sleep_forever()

    async with serve_endpoint(recorder=Full()) as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="no space"):
            async with endpoint.open_rollout(wait) as rollout:
                for number in range(3):
                    nursery.start_soon(call, rollout, str(number))
                await until(lambda: len(rollout._core.calls.open) == 3)
    assert statuses == [500] * 3
    assert rollout.trace.sealed


async def test_a_turn_that_could_not_be_recorded_after_a_hang_up_is_the_owners_to_know() -> None:
    class Full(SlowRecorder):
        async def record(self, turn: Turn) -> None:
            raise OSError(28, "no space left on device")

    async def wait(exchange: Exchange) -> None:
        taken.set()
        await trio.sleep_forever()

    taken = trio.Event()
    agent = Agent.__new__(Agent)
    async with serve_endpoint(recorder=Full()) as endpoint:
        with pytest.raises(OSError, match="no space"):
            async with endpoint.open_rollout(wait) as rollout:
                await agent.send(endpoint.port, raw_request(rollout, json.dumps(ask_body()).encode()))
                await taken.wait()
                await agent.hang_up()
                await trio.sleep_forever()


@pytest.mark.parametrize(
    "fault", [ValueError("a fault"), Refusal(429, "later")], ids=["a fault", "an answer"]
)
@pytest.mark.parametrize("form", ["handler", "serve", "loop"])
async def test_a_fault_in_a_stream_that_could_not_be_recorded_is_told_beside_that(
    form: str, fault: Exception
) -> None:
    class Full(SlowRecorder):
        async def record(self, turn: Turn) -> None:
            raise OSError(28, "no space left on device")

    async def fail(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("hel")
            raise fault

    async with serve_endpoint(recorder=Full()) as endpoint, trio.open_nursery() as agents:
        with pytest.raises(Exception, match=r"no space|could not be recorded") as caught:
            async with endpoint.open_rollout(fail if form == "handler" else None) as rollout:
                agents.start_soon(ask, rollout)
                if form == "serve":
                    await rollout.serve(fail)
                elif form == "loop":
                    async for exchange in rollout:
                        await fail(exchange)
                await trio.sleep_forever()
        agents.cancel_scope.cancel()
    told = caught.value.exceptions if isinstance(caught.value, ExceptionGroup) else [caught.value]
    expected = [OSError] if isinstance(fault, Refusal) else [ValueError, OSError]
    assert [type(each) for each in told] == expected


async def test_what_nurseries_in_a_handler_make_of_an_answer_is_an_answer() -> None:
    async def nested(exchange: Exchange) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, exchange)

    async def fail(exchange: Exchange) -> None:
        raise Refusal(429, "later")

    async def stream(exchange: Exchange) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_in_a_stream, exchange)

    async def fail_in_a_stream(exchange: Exchange) -> None:
        async with exchange.open_stream(), trio.open_nursery() as nursery:
            nursery.start_soon(fail, exchange)

    async with serve_endpoint() as endpoint:
        for handler in (nested, stream):
            async with endpoint.open_rollout(handler) as rollout:
                assert (await ask(rollout)).status_code == 429
            assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_a_fault_beside_what_is_none_is_the_owners() -> None:
    async def both(exchange: Exchange) -> None:
        with trio.CancelScope(shield=True):
            taken.set()
            await until(lambda: exchange.settled)
            raise BaseExceptionGroup("both", [Refusal(429, "too late"), ValueError("a fault")])

    taken = trio.Event()
    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(ExceptionGroup) as caught:
            async with endpoint.open_rollout(both) as rollout:
                nursery.start_soon(ask, rollout)
                await taken.wait()
                await rollout.stop("enough")
                await trio.sleep_forever()
    assert [str(exc) for exc in caught.value.exceptions] == ["a fault"]


async def test_a_loop_is_told_of_a_hang_up_at_its_next_word() -> None:
    agent = Agent.__new__(Agent)
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        await agent.send(endpoint.port, raw_request(rollout, json.dumps(ask_body()).encode()))
        async for exchange in rollout:
            await agent.hang_up()
            await until(lambda: len(rollout.trace) == 1)
            exchange.annotate(seen=True)  # too late, and no fault
            with pytest.raises(ExchangeAbandoned):
                await exchange.respond("hello")
            break


async def test_a_cancellation_that_crosses_a_handlers_error_does_not_hide_it() -> None:
    async def fail(exchange: Exchange) -> None:
        raise ValueError("a fault")

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="a fault"), trio.CancelScope() as scope:
            async with endpoint.open_rollout(fail) as rollout:

                async def call() -> None:
                    await ask(rollout)

                nursery.start_soon(call)
                try:
                    await trio.sleep_forever()
                finally:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()


async def test_a_refusal_within_a_stream_ends_it() -> None:
    async def refuse(exchange: Exchange) -> None:
        async with exchange.open_stream():
            await exchange.refuse(429, "later")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse) as rollout:
        assert (await ask(rollout, stream=True)).status_code == 429
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_a_handlers_error_is_told_without_the_cancellation_that_it_caused() -> None:
    async def fail(exchange: Exchange) -> None:
        if exchange.request.last.text != "4":
            await trio.sleep_forever()
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("a fault")  # noqa: B904 - whose context is to stay

    async with serve_endpoint() as endpoint:
        with pytest.raises(ValueError, match="a fault") as caught:
            async with endpoint.open_rollout(fail) as rollout, trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(ask, rollout, str(number))
    told = "".join(traceback.format_exception(caught.value))
    assert "Cancelled" not in told
    assert "KeyError: 'first'" in told, "what the handler itself said of it stays"
    assert told.count("\n") < 60


async def test_a_program_that_asks_its_own_model_hears_of_what_kind_its_fault_is_and_no_more() -> None:
    async def fail(exchange: Exchange) -> None:
        raise ValueError("a fault")

    async def ask_it(rollout: Rollout) -> None:
        with pytest.raises(Refusal) as caught:
            await rollout.ask("hi")
        refusals.append(caught.value)

    refusals: list[Refusal] = []
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="a fault"):
            async with opened(fail) as rollout:
                nursery.start_soon(ask_it, rollout)
                await trio.sleep_forever()
    (refusal,) = refusals
    assert (refusal.status, refusal.message) == (
        500,
        "the program that answers this call failed (ValueError)",
    )
    assert refusal.should_retry is False


@pytest.mark.parametrize("form", ["no handler", "a handler", "a handler and a limit of time", "an agent"])
@pytest.mark.parametrize("fault", ["of the body", "of the recorder", "of a handler that is cancelled"])
async def test_a_cancellation_around_a_rollout_hides_no_fault_in_it(form: str, fault: str) -> None:
    class FullAtTheEnd(SlowRecorder):
        async def seal(self, trace: Trace) -> None:
            if fault == "of the recorder":
                raise ValueError("a fault")

    async def fail(exchange: Exchange) -> None:
        taken.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)  # its clean-up takes a while
            if fault == "of a handler that is cancelled":
                raise ValueError("a fault")

    async def body(rollout: Rollout) -> None:
        if fault != "of a handler that is cancelled":
            taken.set()
        try:
            await trio.sleep_forever()
        finally:
            if fault == "of the body":
                raise ValueError("a fault")

    async def cancel() -> None:
        await taken.wait()
        scope.cancel()

    taken = trio.Event()
    options: dict[str, Any] = {} if form in ("no handler", "an agent") else {"handler": fail}
    if "time" in form:
        options["limits"] = Limits(seconds=60)
    if fault == "of a handler that is cancelled" and not options:
        pytest.skip("there is none")
    recorder = FullAtTheEnd()
    recorder.go.set()
    async with serve_endpoint(recorder=recorder) as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="a fault"), trio.CancelScope() as scope:
            nursery.start_soon(cancel)
            async with endpoint.open_rollout(**options) as rollout:
                nursery.start_soon(ask, rollout)
                if form == "an agent":
                    async with rollout.open_agent([sys.executable, "-c", "input()"]):
                        await body(rollout)
                await body(rollout)


async def test_a_cancellation_around_an_endpoint_or_a_pool_hides_no_fault_of_the_body() -> None:
    for serve in (serve_endpoint, serve_pool):
        with pytest.raises(ValueError, match="a fault"), trio.CancelScope() as scope:
            async with serve():
                scope.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("a fault")


@pytest.mark.parametrize("how", ["stop", "parent's stop", "endpoint's end"])
async def test_a_rollout_that_is_left_while_others_settle_its_exchanges_waits_until_all_are_recorded(
    how: str,
) -> None:
    class Slow:
        def __init__(self) -> None:
            self.recorded: list[str] = []
            self.sealed: list[int] = []

        async def record(self, turn: Turn) -> None:
            await trio.sleep(0.01)
            self.recorded.append(turn.id)

        async def seal(self, trace: Trace) -> None:
            self.sealed.append(len(self.recorded))

        async def aclose(self) -> None:
            pass

    async def wait(exchange: Exchange) -> None:
        await trio.sleep_forever()

    async def hold(
        endpoint: Endpoint,
        *,
        task_status: trio.TaskStatus[tuple[Rollout, Rollout]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with endpoint.open_rollout() as parent, parent.open_child(wait) as child:
            task_status.started((parent, child))
            await leave.wait()

    async def serve(*, task_status: trio.TaskStatus[Endpoint]) -> None:
        async with serve_endpoint(recorder=recorder, grace=0.2) as endpoint:
            task_status.started(endpoint)
            await end.wait()

    recorder, leave, end = Slow(), trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(serve)
        parent, child = await nursery.start(hold, endpoint)
        agents = [Agent.__new__(Agent) for _ in range(20)]
        for number, agent in enumerate(agents):
            body = json.dumps(ask_body(str(number))).encode()
            await agent.send(endpoint.port, raw_request(child, body))
        await until(lambda: len(child._core.calls.open) == 20)
        match how:
            case "stop":
                nursery.start_soon(child.stop, "enough")
            case "parent's stop":
                nursery.start_soon(parent.stop, "enough")
            case _:
                end.set()
        await until(lambda: len(recorder.recorded) == 1)
        for agent in agents:
            await agent.hang_up()
        leave.set()
        await until(lambda: child.trace.sealed)
        end.set()
    assert len(child.trace) == len(recorder.recorded) == 20
    assert [turn.number for turn in child.trace] == list(range(20))
    assert recorder.sealed == [20, 20], "child, then parent"


@pytest.mark.parametrize("error", [AlreadySettled("x"), RolloutClosed("x"), UpstreamError("x")], ids=repr)
async def test_what_work_fails_of_that_was_stopped_from_outside_is_no_fault(error: Exception) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, rollout)
            exchange = await anext(rollout)
            with pytest.raises(type(error)), core_of(exchange).work():
                raise error
            with core_of(exchange).work():
                await rollout.stop("enough")
                raise error
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        *(("0", 0.0), ("1.5", 1.5), ("999999", 999_999.0), ("1000000", None), ("-0.5", None)),
        *(("nan", None), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)),
    ],
)
def test_a_provider_s_wait_of_0_seconds_to_below_a_million_is_in_the_refusal(
    sent: str, passed: float | None
) -> None:
    outcome = outcome_of(UpstreamError("slow down", status=429, headers={"retry-after": sent}), "openai_chat")
    assert isinstance(outcome, Refused)
    assert (outcome.refusal.status, outcome.refusal.retry_after) == (429, passed)
