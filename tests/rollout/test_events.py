"""The events that a program gets with `on_event`: in order, complete, without keys, and harmless."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from triocept import (
    Exchange,
    Limits,
    Message,
    Refusal,
    Request,
    Response,
    Rollout,
    Text,
    ToolCall,
    Trace,
    Turn,
    UpstreamError,
    serve_endpoint,
)
from triocept._rollout.event_sender import EventSender
from triocept.errors import TrioceptError
from triocept.handlers import Decision, ScriptedModel, approve, rewrite
from triocept.testing import open_memory_agent
from triocept.traces import (
    AgentEnded,
    AgentStarted,
    CallArrived,
    DecisionAsked,
    DecisionMade,
    IncrementSent,
    Redaction,
    RolloutEnded,
    RolloutEvent,
    RolloutOpened,
    Scored,
    ServiceCalled,
    TurnLost,
    TurnSettled,
)
from triocept.types import Reasoning, RolloutOptions, ToolResult

HOUR = 3600.0


class Full:
    """A recorder whose disk is full after some entries."""

    def __init__(self, room: int) -> None:
        self._room = room

    async def record(self, turn: Turn) -> None:
        await trio.lowlevel.checkpoint()
        self._room -= 1
        if self._room < 0:
            raise OSError("no space left")

    record_entry = record

    async def seal(self, trace: Trace) -> None: ...

    async def aclose(self) -> None: ...


async def answer(exchange: Exchange) -> None:
    """Do what the newest message says."""
    rollout = exchange.rollout
    match exchange.request.messages[-1].text.split():
        case ["wait", seconds]:
            await trio.sleep(float(seconds))
            await exchange.respond("late")
        case ["stream", seconds]:
            async with exchange.open_stream() as stream:
                for piece in ("one ", Reasoning("hm"), "two ", ToolCall.of("rm", path="/")):
                    await stream.send(piece)
                    await trio.sleep(float(seconds))
        case ["key", size]:
            async with exchange.open_stream() as stream:
                text = f"export KEY={rollout.api_key}; echo s"
                for start in range(0, len(text), int(size)):
                    await stream.send(text[start : start + int(size)])
        case ["half", _]:
            async with exchange.open_stream() as stream:
                await stream.send("half")
                raise UpstreamError("lost")
        case ["refuse", _]:
            raise Refusal(429, f"not {rollout.api_key}")
        case ["fault", _]:
            raise ValueError("a bug")
        case ["nothing", _]:
            pass
        case ["raw", size]:
            await exchange.respond_raw(200, {}, (b"sse" for _ in range(int(size))))
        case ["child", seconds]:
            with suppress(UpstreamError):
                async with rollout.open_child(answer) as child, open_memory_agent(child) as agent:
                    await agent.ask(f"stream {seconds}", stream=True)
            await exchange.respond("the child is done")
        case ["score", value]:
            await rollout.score("value", float(value))
            await exchange.respond("scored")
        case ["stop", _]:
            await rollout.stop(f"enough of {rollout.api_key}")
        case ["tool", _]:
            await exchange.respond(Response.of("Let me see.", ToolCall.of("bash", key=rollout.api_key)))
        case _:
            await exchange.respond("ok")


async def decide(call: ToolCall, exchange: Exchange) -> Decision:
    await trio.sleep(1)
    return Decision.modify({"was": call.arguments}, by=exchange.rollout.api_key)


CALLS = st.tuples(
    st.sampled_from(
        [
            "wait",
            "stream",
            "key",
            "half",
            "refuse",
            "fault",
            "nothing",
            "raw",
            "child",
            "score",
            "stop",
            "tool",
            "ok",
        ]
    ),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.5, 1.5, HOUR, HOUR, HOUR]),
)
"""What the handler does, with a number; a stream or not; when the agent begins, and its patience, in seconds."""
HANDLERS: dict[str, Any] = {
    "bare": answer,
    "approved": approve(answer, {"*": decide}),
    "approved within": rewrite(approve(answer, {"*": decide}), response=lambda response: response),
}


@settings(max_examples=50)
@given(
    calls=st.lists(CALLS, max_size=6),
    handler=st.sampled_from(sorted(HANDLERS)),
    room=st.none() | st.integers(0, 12),
    turns=st.none() | st.integers(1, 4),
    concurrency=st.none() | st.integers(1, 2),
    on_hangup=st.sampled_from(["cancel", "finish"]),
    cancelled=st.sampled_from([0.7, 3.0, HOUR, HOUR]),
    redacts=st.booleans(),
)
def test_the_events_of_each_rollout_are_in_order_and_each_call_has_one_end(
    calls: list[tuple[str, int, bool, float, float]],
    handler: str,
    room: int | None,
    turns: int | None,
    concurrency: int | None,
    on_hangup: Any,
    cancelled: float,
    redacts: bool,
) -> None:
    options: RolloutOptions = {
        "recorder": None if room is None else Full(room),
        "limits": None if turns is None else Limits(turns=turns),
        "concurrency": concurrency,
        "on_hangup": on_hangup,
        "redact": Redaction([r"tw."]) if redacts else None,
    }
    events: list[RolloutEvent] = []
    rollouts: list[Rollout] = []

    async def world() -> None:
        async with serve_endpoint(on_event=events.append) as endpoint:
            with trio.move_on_after(cancelled):
                async with endpoint.open_rollout(HANDLERS[handler], **options) as rollout:
                    rollouts.append(rollout)
                    await talk(rollout, calls)

    with suppress(ValueError, OSError, TrioceptError, ExceptionGroup):
        trio.run(world, clock=trio.testing.MockClock(autojump_threshold=0))
    if rollouts:
        check(events, rollouts[0].trace)
        keyless(events, rollouts[0].api_key)
    else:  # its opening could not be recorded
        assert events == []


async def talk(rollout: Rollout, calls: Sequence[tuple[str, int, bool, float, float]]) -> None:
    async with open_memory_agent(rollout) as agent, trio.open_nursery() as nursery:

        async def ask(what: str, number: int, stream: bool, begins: float, patience: float) -> None:
            await trio.sleep(begins)
            with trio.move_on_after(patience), suppress(UpstreamError):
                await agent.ask(f"{what} {number}", stream=stream)

        for call in calls:
            nursery.start_soon(ask, *call)


def check(events: Sequence[RolloutEvent], root: Trace) -> None:
    """Check the order of the events, and that they are complete."""
    traces = {trace.rollout: trace for trace in (root, *root.children)}
    by_rollout: dict[str, list[RolloutEvent]] = {}
    for event in events:
        by_rollout.setdefault(event.rollout, []).append(event)
    assert traces.keys() <= by_rollout.keys()
    for rollout, own in by_rollout.items():
        assert [event.number for event in own] == [*range(len(own))]
        assert [event.clock for event in own] == sorted(event.clock for event in own)
        assert isinstance(own[0], RolloutOpened)
        last = max(place for place, event in enumerate(own) if not isinstance(event, Scored))
        assert isinstance(own[last], RolloutEnded)
        counts = Counter(type(event) for event in own)
        assert counts[RolloutOpened] == counts[RolloutEnded] == 1
        exchanges = {event.exchange for event in own if isinstance(event, CallArrived)}
        assert len(exchanges) == counts[CallArrived]
        for exchange in exchanges:
            check_exchange([event for event in own if getattr(event, "exchange", None) == exchange])
        assert all(getattr(event, "exchange", None) in {None, *exchanges} for event in own)
        if (trace := traces.get(rollout)) is not None:
            assert [event.turn for event in own if isinstance(event, TurnSettled)] == [*trace.turns]
            assert {e.score.name: e.score.value for e in own if isinstance(e, Scored)} == trace.scores
            assert own[last].stopped == trace.stopped
            assert own[last].ended == trace.ended


def check_exchange(own: Sequence[Any]) -> None:
    """Check the events of one exchange: its arrival, its pieces and decisions, its one end."""
    first, *between, last = own
    assert isinstance(first, CallArrived)
    assert isinstance(last, TurnSettled | TurnLost)
    pieces = [event for event in between if isinstance(event, IncrementSent)]
    assert [piece.index for piece in pieces] == [*range(len(pieces))]
    asked = [event.call for event in between if isinstance(event, DecisionAsked)]
    made = [event.decision for event in between if isinstance(event, DecisionMade)]
    assert Counter(each.call for each in made) <= Counter(asked)
    assert len(pieces) + len(asked) + len(made) == len(between)
    if isinstance(last, TurnSettled):
        turn = last.turn
        assert turn.request is first.request
        assert sorted(map(repr, made)) == sorted(map(repr, turn.decisions))
        if pieces and turn.raw is None and turn.response is not None:
            texts = texts_of_response(turn.response)
            if turn.outcome == "answered":
                assert texts_of(pieces) == texts
            else:  # tool calls of a broken answer are not sent
                assert texts_of(pieces).items() <= texts.items()


def texts_of(pieces: Sequence[IncrementSent]) -> dict[int, str]:
    """The text of each part, joined."""
    texts: dict[int, str] = {}
    for piece in pieces:
        texts[piece.part] = texts.get(piece.part, "") + piece.text
    return {part: text for part, text in texts.items() if text}


def texts_of_response(response: Response) -> dict[int, str]:
    texts = [
        part.arguments if isinstance(part, ToolCall) else getattr(part, "text", "")
        for part in response.content
    ]
    return {part: text for part, text in enumerate(texts) if text}


def keyless(events: Sequence[RolloutEvent], *keys: str) -> None:
    """Check that no key is in an event, nor in the pieces of a part."""
    said = [msgspec.json.encode(event).decode() for event in events]
    said += [msgspec.json.encode(event.brief()).decode() for event in events]
    exchanges = {event.exchange for event in events if isinstance(event, IncrementSent)}
    for exchange in exchanges:
        pieces = [e for e in events if isinstance(e, IncrementSent) and e.exchange == exchange]
        said += texts_of(pieces).values()
    for key in keys:
        assert not any(key[-12:] in text for text in said)


@asynccontextmanager
async def watched(
    on_event: Callable[[Any], object], handler: Any = answer, **options: Any
) -> AsyncIterator[Rollout]:
    async with serve_endpoint(on_event=on_event) as endpoint:
        async with endpoint.open_rollout(handler, **options) as rollout:
            yield rollout


async def ask(rollout: Rollout, text: str = "ok 1", *, stream: bool = False) -> Response:
    async with open_memory_agent(rollout) as agent:
        return await agent.ask(text, stream=stream)


def raises(exc: BaseException, event: object) -> None:
    raise exc


async def test_an_exception_of_the_watcher_is_logged_once_for_each_type(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [KeyError("a"), KeyError("b"), TypeError("c"), KeyError("d")]

    def watch(event: RolloutEvent) -> None:
        raise errors[event.number % len(errors)]

    async with watched(watch) as rollout:
        for _ in range(3):
            assert (await ask(rollout, "stream 0", stream=True)).text == "one two "
        assert [turn.outcome for turn in rollout.trace] == ["answered"] * 3
    logged = [record for record in caplog.records if "on_event failed" in record.getMessage()]
    assert [record.exc_info and record.exc_info[0] for record in logged] == [KeyError, TypeError]
    assert all(record.levelno == logging.WARNING for record in logged)


class Asynchronous:
    async def __call__(self, event: object) -> None: ...


async def asynchronous(event: object) -> None: ...


async def generator(event: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (asynchronous, "`asynchronous` is async: for async work"),
        (Asynchronous(), "is async: for async work"),
        (partial(asynchronous), "is async: for async work"),
        (generator, "`generator` is async: for async work"),
        (Asynchronous, "Asynchronous is a class: pass an instance of it"),
        (lambda: None, "does not take one argument"),
        ("print", "not str: 'print'"),
    ],
)
async def test_a_function_that_cannot_watch_is_refused_when_the_endpoint_opens(
    function: Any, words: str
) -> None:
    with pytest.raises(
        TypeError, match="on_event must be a function of one event that is not async"
    ) as caught:
        async with serve_endpoint(on_event=function):
            pass
    assert words in str(caught.value)


async def test_a_coroutine_that_the_watcher_returns_is_logged_and_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watched(lambda event: asynchronous(event)) as rollout:
        await ask(rollout)
    (logged,) = [record for record in caplog.records if "on_event failed" in record.getMessage()]
    assert "on_event returned a coroutine" in str(logged.exc_info and logged.exc_info[1])


@pytest.mark.parametrize("kind", [CallArrived, TurnSettled, IncrementSent, RolloutEnded])
@pytest.mark.parametrize("exc", [KeyboardInterrupt(), SystemExit(3)], ids=["interrupt", "exit"])
async def test_an_interrupt_in_the_watcher_ends_the_rollout(
    kind: type[RolloutEvent], exc: BaseException
) -> None:
    traces: list[Trace] = []

    def watch(event: RolloutEvent) -> None:
        if isinstance(event, kind):
            raise exc

    with pytest.raises(type(exc)):
        async with watched(watch) as rollout:
            traces.append(rollout.trace)
            with suppress(UpstreamError):
                await ask(rollout, "stream 0", stream=True)
    assert traces[0].sealed
    assert len(traces[0]) == 1


@pytest.mark.parametrize("kind", [CallArrived, TurnSettled, IncrementSent, RolloutEnded])
async def test_a_watcher_that_always_exits_is_called_once_and_its_exit_is_raised_alone(
    kind: type[RolloutEvent],
) -> None:
    exits: list[SystemExit] = []

    def watch(event: RolloutEvent) -> None:
        if exits or isinstance(event, kind):
            exits.append(SystemExit(3))
            raise exits[-1]

    with pytest.raises(SystemExit) as raised:
        async with watched(watch) as rollout:
            with suppress(UpstreamError):
                await ask(rollout, "stream 0", stream=True)
    assert exits == [raised.value]


def test_the_short_form_of_a_call_holds_the_end_of_its_last_message_also_of_results() -> None:
    results = ToolResult(id="c1", content=(Text("first"),)), ToolResult(id="c2", content=(Text("second"),))

    def text_of(*messages: Message) -> object:
        request = Request(dialect="openai_chat", model="m", messages=messages)
        event = CallArrived(
            rollout="r",
            run="1",
            number=0,
            at=0.0,
            clock=0.0,
            exchange="e",
            dialect="openai_chat",
            request=request,
            agent=None,
        )
        return event.brief()["text"]

    hello = Message("user", (Text("hel"), Text("lo")))
    assert text_of() == ""
    assert text_of(hello) == "hello"
    assert text_of(hello, Message("tool", results)) == "first\nsecond"
    assert text_of(Message("user", (*results, Text("and now?")))) == "first\nsecond\nand now?"
    assert (
        text_of(Message("tool", (ToolResult(id="c", content=(Text("x" * 300 + "end"),)),)))
        == "x" * 197 + "end"
    )


async def test_a_real_interrupt_reaches_the_watcher_at_any_line() -> None:
    import signal

    def watch(event: RolloutEvent) -> None:
        if isinstance(event, TurnSettled):
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the interrupt did not arrive at once")

    with pytest.raises(KeyboardInterrupt):
        async with watched(watch) as rollout:
            with suppress(UpstreamError):
                await ask(rollout)


async def test_the_watcher_may_start_tasks_that_stop_the_rollout_and_cancel_its_body() -> None:
    events: list[RolloutEvent] = []
    async with trio.open_nursery() as nursery:

        def watch(event: RolloutEvent) -> None:
            events.append(event)
            if isinstance(event, CallArrived):
                nursery.start_soon(rollout.stop, "seen enough")
                body.cancel()

        with trio.CancelScope() as body:
            async with watched(watch) as rollout:
                await ask(rollout, "wait 1000")
    check(events, rollout.trace)
    assert rollout.stopped == "seen enough"
    assert rollout.trace[0].outcome == "refused"


async def test_an_agents_start_and_end_are_events() -> None:
    events: list[RolloutEvent] = []
    async with watched(events.append) as rollout:
        await rollout.run_agent([sys.executable, "-c", "raise SystemExit(3)"])
        with pytest.raises(Exception, match="does-not-exist"):
            await rollout.run_agent(["does-not-exist"])
    started = [event.agent for event in events if isinstance(event, AgentStarted)]
    ended = [event for event in events if isinstance(event, AgentEnded)]
    assert started == [*rollout.trace.agents] == [event.agent for event in ended]
    assert [event.returncode for event in ended] == [3, None]


async def test_service_calls_are_events() -> None:
    events: list[RolloutEvent] = []

    async def moderate(texts: Sequence[str]) -> list[bool]:
        return [True for _ in texts]

    async with watched(events.append, moderate=moderate) as rollout, rollout.client("openai_chat") as client:
        await client.moderations.create(input="a")
    assert [event.call for event in events if isinstance(event, ServiceCalled)] == [*rollout.trace.services]
    assert len(rollout.trace.services) == 1


async def test_a_call_whose_turn_cannot_be_made_has_an_end_with_a_name() -> None:
    events: list[RolloutEvent] = []

    def redact(text: str) -> str:
        if "late" in text:
            raise ValueError("a bug")
        return text

    with pytest.raises(ValueError, match="a bug"):
        async with watched(events.append, redact=Redaction(function=redact)) as rollout:
            with pytest.raises(UpstreamError):
                await ask(rollout, "wait 0")
    check(events, rollout.trace)
    assert [event.error for event in events if isinstance(event, TurnLost)] == ["ValueError"]


async def test_hidden_calls_have_no_events_of_their_own_but_their_decisions_have() -> None:
    events: list[RolloutEvent] = []
    guarded = approve(ScriptedModel([ToolCall.of("rm"), "ok"]), {"*": Decision.reject("no")})
    handler = rewrite(guarded, response=lambda response: response)
    async with watched(events.append, handler) as rollout:
        await ask(rollout, stream=True)
    check(events, rollout.trace)
    (made,) = [event for event in events if isinstance(event, DecisionMade)]
    assert made.exchange == rollout.trace[0].id
    assert (made.decision.tool, made.decision.kind, made.decision.reason) == ("rm", "reject", "no")


async def test_the_decisions_of_a_turn_hold_no_key() -> None:
    async with watched(print, approve(answer, {"*": decide})) as rollout:
        await ask(rollout, "tool 1")
    (decided,) = rollout.trace[0].decisions
    assert rollout.api_key not in msgspec.json.encode(decided).decode()
    assert decided.by == "[redacted]"


async def test_a_rollout_that_is_not_watched_makes_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventSender, "__init__", partial(raises, AssertionError("events are made")))
    async with serve_endpoint() as endpoint, endpoint.open_rollout(approve(answer, {"*": decide})) as rollout:
        await ask(rollout, "child 1", stream=True)
        await rollout.score("value", 1)
    assert len(rollout.trace) == 1


async def test_a_score_may_follow_the_end_and_nothing_else_does() -> None:
    events: list[RolloutEvent] = []
    async with watched(events.append) as rollout:
        pass
    await rollout.score("value", 1)
    assert [type(event) for event in events] == [RolloutOpened, RolloutEnded, Scored]


async def test_the_pieces_of_an_answer_are_events_when_they_are_sent() -> None:
    events: list[RolloutEvent] = []
    async with watched(events.append) as rollout:
        await ask(rollout, "stream 0", stream=True)
    (turn,) = rollout.trace
    assert turn.response is not None
    pieces = [event for event in events if isinstance(event, IncrementSent)]
    assert [(piece.kind, piece.text or piece.tool) for piece in pieces] == [
        ("text", "one "),
        ("reasoning", "hm"),
        ("text", "two "),
        ("tool_call", "rm"),
        ("tool_call", '{"path":"/"}'),
    ]
    assert pieces[3].call == turn.response.tool_calls[0].id
    assert {piece.exchange for piece in pieces} == {turn.id}


async def test_an_agent_that_outlives_its_rollout_has_no_end_in_its_events() -> None:
    events: list[RolloutEvent] = []
    running = trio.Event()

    async def run(rollout: Rollout) -> None:
        async with rollout.open_agent([sys.executable, "-c", "import time; time.sleep(1000)"]):
            running.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with watched(events.append) as rollout:
            nursery.start_soon(run, rollout)
            await running.wait()
        nursery.cancel_scope.cancel()
    assert [type(event) for event in events] == [RolloutOpened, AgentStarted, RolloutEnded]
