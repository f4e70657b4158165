"""What a recorder raises, and when it is opened and closed."""

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import ask, bearer
from triocept import Exchange, Refusal, Rollout, Trace, Turn, serve_endpoint, serve_pool
from triocept._rollout.exchange import core_of
from triocept._rollout.outcome import Refused
from triocept.traces import RecorderGroup, ServiceCall
from triocept.types import HostTool


class FullDisk:
    """A recorder that can write nothing any more once it is full; a new error each time, as the kernel gives them."""

    def __init__(self, *, after: int = 0) -> None:
        self.room = after
        self.raised = 0

    async def record(self, turn: Turn) -> None:
        self._write()

    async def record_service(self, call: ServiceCall) -> None:
        self._write()

    async def seal(self, trace: Trace) -> None:
        self._write()

    async def aclose(self) -> None:
        pass

    def _write(self) -> None:
        self.room -= 1
        if self.room < 0:
            self.raised += 1
            raise OSError(errno.ENOSPC, "No space left on device", "t.jsonl")


class Diary:
    """A recorder that writes down what is asked of it, and waits a little each time."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def aopen(self) -> None:
        await self._note("open")

    async def record(self, turn: Turn) -> None:
        await self._note("record")

    async def seal(self, trace: Trace) -> None:
        await self._note("seal")

    async def aclose(self) -> None:
        await self._note("close")

    async def _note(self, what: str) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(what)


async def say_ok(exchange: Exchange) -> None:
    await exchange.respond("ok")


async def ask_at_once(rollout: Rollout, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(ask, rollout, f"call {number}")


@pytest.mark.parametrize("calls", [1, 5])
async def test_a_full_disk_is_told_once_and_bare_however_many_calls_there_are(calls: int) -> None:
    recorder = FullDisk()
    async with serve_endpoint(recorder=recorder) as endpoint:
        with pytest.raises(OSError, match=r"No space left on device: 't\.jsonl'"):
            async with endpoint.open_rollout(say_ok) as rollout:
                await ask_at_once(rollout, calls)
    assert recorder.raised > 1
    assert {turn.outcome for turn in rollout.trace} == {"failed"}


async def test_a_full_disk_that_ends_a_child_is_told_once_by_its_parent() -> None:
    async with serve_endpoint(recorder=FullDisk(after=1)) as endpoint:
        with pytest.raises(OSError, match=r"No space left"):
            async with endpoint.open_rollout(say_ok) as rollout:
                await ask(rollout, "a")
                async with rollout.open_child(say_ok) as child:
                    await ask(child, "b")


async def test_a_full_disk_at_a_service_call_is_told_once() -> None:
    def now() -> str:
        return "late"

    async with serve_endpoint(recorder=FullDisk()) as endpoint:
        with pytest.raises(OSError, match=r"No space left"):
            async with endpoint.open_rollout(say_ok, tools=[HostTool.of(now)]) as rollout:
                async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                    await client.post(rollout.service_url("tools/now"))


@pytest.mark.parametrize("served", [
    lambda diary: serve_endpoint(recorder=RecorderGroup([diary])),
    lambda diary: serve_pool(recorder=diary),
], ids=["an endpoint, of a group", "a pool"])  # fmt: skip
async def test_a_recorder_is_opened_for_its_server_and_each_rollout_and_closed_though_cancelled(
    served: Any,
) -> None:
    diary = Diary()
    with trio.CancelScope() as scope:
        async with served(diary) as server:
            async with server.open_rollout(say_ok) as rollout:
                await ask(rollout, "a")
            scope.cancel()
    assert diary.asked == ["open", "open", "record", "seal", "close"]


async def test_a_recorder_that_fails_keeps_no_other_one_from_the_seal_and_the_end() -> None:
    diary = Diary()
    async with serve_endpoint(recorder=RecorderGroup([FullDisk(after=1), diary])) as endpoint:
        with pytest.raises(OSError, match=r"No space left"):
            async with endpoint.open_rollout(say_ok) as rollout:
                await ask(rollout, "a")
    assert diary.asked == ["open", "open", "record", "seal", "close"]


class FailsAtTheEnd(Diary):
    """A recorder that fails when it is sealed, and when it is closed."""

    def __init__(self, name: str, *, from_the_start: bool = False) -> None:
        super().__init__()
        self._name = name
        self._from_the_start = from_the_start

    async def record(self, turn: Turn) -> None:
        if self._from_the_start:
            raise OSError(f"{self._name}: full")

    async def seal(self, trace: Trace) -> None:
        raise OSError(f"{self._name}: full" if self._from_the_start else f"{self._name}: not sealed")

    async def aclose(self) -> None:
        raise OSError(f"{self._name}: not closed")


def texts_of(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [text for each in error.exceptions for text in texts_of(each)]
    return [str(error)]


async def test_all_recorders_of_a_group_that_fail_at_the_end_are_told() -> None:
    group = RecorderGroup([FailsAtTheEnd("a"), Diary(), FailsAtTheEnd("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with serve_endpoint(recorder=group) as endpoint, endpoint.open_rollout(say_ok):
            pass
    assert texts_of(caught.value) == ["a: not sealed", "b: not sealed", "a: not closed", "b: not closed"]


async def test_what_a_recorder_of_a_group_has_raised_before_is_not_told_again_at_the_seal() -> None:
    group = RecorderGroup([FailsAtTheEnd("a", from_the_start=True), FailsAtTheEnd("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with serve_endpoint(recorder=group) as endpoint:
            with pytest.raises(ExceptionGroup) as of_rollout:
                async with endpoint.open_rollout(say_ok) as rollout:
                    await ask(rollout, "a")
    assert sorted(texts_of(of_rollout.value)) == ["a: full", "b: not sealed"]
    assert texts_of(caught.value) == ["a: not closed", "b: not closed"]


async def test_one_error_of_a_group_leaves_bare() -> None:
    with pytest.raises(OSError, match="a: not closed"):
        await RecorderGroup([Diary(), FailsAtTheEnd("a")]).aclose()


class Meddler(Diary):
    """A recorder that does something with the rollout of a turn while it is given that."""

    def __init__(self, meddle: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._meddle = meddle

    async def record(self, turn: Turn) -> None:
        await self._meddle()


@pytest.mark.parametrize("what", ["stop", "parent's stop", "respond", "refuse", "stream", "ask"])
async def test_a_recorder_that_would_wait_for_itself_is_told_what_to_do_instead(what: str) -> None:
    async def meddle() -> None:
        match what:
            case "stop":
                await child.stop("enough")
            case "parent's stop":
                await parent.stop("enough")
            case "respond":
                await waiting.respond("early")
            case "refuse":
                await waiting.refuse(404, "early")
            case "stream":
                async with waiting.open_stream():
                    pass
            case "ask":
                await child.ask("what do you think?")

    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout() as parent,
        trio.open_nursery() as nursery,
    ):
        with pytest.raises(RuntimeError, match=r"cannot settle .* start another task") as caught:
            async with parent.open_child(recorder=Meddler(meddle)) as child:
                nursery.start_soon(ask, child, "a")
                waiting = await anext(child)
                nursery.start_soon(ask, child, "b")
                await (await anext(child)).respond("ok")
        assert "Lock" not in str(caught.value)
        assert len(child.trace) == 2, "the other exchange could still be settled"
        if what in ("stop", "parent's stop"):
            assert parent.stopped is None
            assert child.stopped is None


async def test_a_recorder_can_have_another_task_stop_the_rollout() -> None:
    async def meddle() -> None:
        nursery.start_soon(rollout.stop, "enough")

    async with trio.open_nursery() as nursery, serve_endpoint(recorder=Meddler(meddle)) as endpoint:
        async with endpoint.open_rollout(say_ok) as rollout:
            await ask(rollout, "a")
    assert rollout.stopped == "enough"
    assert [turn.outcome for turn in rollout.trace] == ["answered"]


async def test_the_time_that_an_answer_has_to_arrive_begins_when_it_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def take_long() -> None:
        begun.set()
        await trio.sleep(1.5)

    async def call() -> None:
        statuses.append((await ask(rollout, "a")).status_code)

    monkeypatch.setattr("triocept._rollout.rollout_state.DELIVERY_GRACE", 1)
    begun, statuses = trio.Event(), list[int]()
    async with serve_endpoint(recorder=Meddler(take_long)) as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout(say_ok) as rollout:
            nursery.start_soon(call)
            await begun.wait()
    assert statuses == [200]


@pytest.mark.timeout(30)  # nothing else would end it: a rollout is closed in a shielded scope
@pytest.mark.parametrize("recorder", [None, Diary()], ids=["no recorder", "a recorder"])
async def test_a_rollout_closes_though_an_interrupt_kept_an_outcome_from_being_recorded(
    recorder: Diary | None,
) -> None:
    async with serve_endpoint(recorder=recorder) as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(KeyboardInterrupt):
            async with endpoint.open_rollout() as rollout:
                nursery.start_soon(ask, rollout, "a")
                exchange = await anext(rollout)
                core_of(exchange).fix_from_outside(Refused(Refusal(404, "enough")))
                raise KeyboardInterrupt
    assert [(turn.outcome, turn.error and turn.error.message) for turn in rollout.trace] == [
        ("refused", "enough")
    ]
    assert rollout.trace.sealed


async def test_a_handlers_fault_is_told_beside_the_recorder_that_could_not_write_it_down() -> None:
    async def fail(exchange: Exchange) -> None:
        raise ArithmeticError("the handler's")

    async with serve_endpoint(recorder=FullDisk()) as endpoint:
        with pytest.RaisesGroup(
            pytest.RaisesExc(ArithmeticError, match="the handler's"),
            pytest.RaisesExc(OSError, match="No space left"),
        ):
            async with endpoint.open_rollout(fail) as rollout:
                assert (await ask(rollout)).status_code == 500
                await trio.sleep_forever()
    assert [turn.outcome for turn in rollout.trace] == ["failed"]


async def test_what_comes_while_a_recorder_is_at_work_is_recorded_behind_it_one_at_a_time() -> None:
    class Slow(Diary):
        at_work = 0

        async def record(self, turn: Turn) -> None:
            self.at_work += 1
            assert self.at_work == 1
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            self.asked.append(turn.id)
            self.at_work -= 1

    recorder = Slow()
    async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(say_ok) as rollout:
        await ask_at_once(rollout, 8)
    assert [asked for asked in recorder.asked if asked.startswith("x_")] == [
        turn.id for turn in rollout.trace
    ]
    assert [turn.number for turn in rollout.trace] == list(range(8))
