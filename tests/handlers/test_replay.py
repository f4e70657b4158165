"""What was recorded answers again, with nothing behind it: the same answers, for the same calls, and no others."""

import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from tests.asking import ask, ask_body, bearer, url_of
from tests.handlers.replay_agent import AGENT, USAGE, Agent, model
from triocept import (
    Exchange,
    Handler,
    Refusal,
    Response,
    Rollout,
    ScriptedModel,
    Text,
    ToolCall,
    Trace,
    UpstreamError,
    serve_endpoint,
)
from triocept.errors import ContextLengthError, ReplayMiss
from triocept.handlers import Replay
from triocept.traces import Redaction
from triocept.types import Event, PartDelta, PartStart, ResponseStart


async def play(handler: Handler, act: Callable[[Rollout], Awaitable[object]], **options: Any) -> Trace:
    """A rollout that is answered by `handler`, and in which somebody acts."""
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler, **options) as rollout:
            await act(rollout)
    return rollout.trace


async def recorded(handler: Handler | None = None, **options: Any) -> Trace:
    return await play(handler or model(), lambda rollout: Agent(rollout).run(), **options)


async def recorded_by(act: Callable[[Rollout], Awaitable[object]], **options: Any) -> Trace:
    return await play(model(), act, **options)


def told(trace: Trace) -> list[Any]:
    """What the agent was told, call by call."""
    return [
        (
            turn.outcome,
            turn.response and (turn.response.content, turn.response.usage, turn.response.stop_reason),
        )
        for turn in trace
    ]


def replays(trace: Trace) -> list[Any]:
    return [turn.notes.get("replay") for turn in trace]


async def test_an_agent_is_told_the_same_to_the_letter() -> None:
    trace = await recorded()
    again = await play(Replay(trace), lambda rollout: Agent(rollout).run())
    assert told(again) == told(trace)
    assert [turn.response.id for turn in again if turn.response] == [
        turn.response.id for turn in trace if turn.response
    ]
    assert again[0].response.usage == USAGE
    assert replays(again) == [{"rollout": trace.rollout, "turn": turn.id} for turn in trace]


@pytest.mark.parametrize(
    ("first", "second"), [("openai_chat", "anthropic_messages"), ("anthropic_messages", "openai_chat")]
)
async def test_what_was_recorded_in_one_dialect_is_replayed_in_another(first: str, second: str) -> None:
    trace = await play(model(), lambda rollout: Agent(rollout, first).run())
    agents: list[Agent] = []

    async def act(rollout: Rollout) -> None:
        agents.append(Agent(rollout, second))
        assert await agents[0].run() == "All done."

    again = await play(Replay(trace), act)
    assert told(again) == told(trace)
    assert {turn.dialect for turn in again} == {second}
    assert agents[0].seen == [{"path": "/recorded/a"}, {"path": "/recorded/b"}]
    assert again[0].response.id.partition("_")[0] != trace[0].response.id.partition("_")[0]


async def test_other_results_of_tools_are_noted_and_change_nothing() -> None:
    trace = await recorded()
    again = await play(Replay(trace), lambda rollout: Agent(rollout, results=("one", "2")).run())
    assert told(again) == told(trace)
    assert [note.get("other_results") for note in replays(again)] == [None, None, ["call_two"]]


async def test_results_count_where_they_are_to_be_compared() -> None:
    trace = await recorded()
    same = Replay(trace, compare_results=True)
    await play(same, lambda rollout: Agent(rollout).run())
    with pytest.raises(ReplayMiss, match=r"\+   - tool result: \"2\""):
        await play(same, lambda rollout: Agent(rollout, results=("one", "2")).run())


async def test_one_replay_answers_several_rollouts_at_once_and_again() -> None:
    trace = await recorded()
    replay = Replay(trace)
    async with serve_endpoint() as endpoint:
        for _ in range(2):
            async with endpoint.open_rollout(replay) as one, endpoint.open_rollout(replay) as other:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(Agent(one).run)
                    nursery.start_soon(Agent(other).run)
            assert told(one.trace) == told(other.trace) == told(trace)


async def test_the_same_call_again_gets_the_same_answer() -> None:
    trace = await recorded()

    async def act(rollout: Rollout) -> None:
        for _ in range(3):
            assert await Agent(rollout).run() == "All done."

    assert len(await play(Replay(trace), act)) == 9


async def test_a_miss_says_where_the_call_parts_from_the_record_and_what_to_do() -> None:
    trace = await recorded()
    statuses: list[Any] = []

    async def act(rollout: Rollout) -> None:
        answer = await ask(rollout, "Do that.", tools=[])
        statuses.append((answer.status_code, answer.json()["error"]["message"]))
        await trio.sleep_forever()

    with pytest.raises(ReplayMiss) as caught:
        await play(Replay(trace), act)
    error = caught.value
    assert error.closest == trace[0].id
    assert "-   - user: Do it. You are in /recorded." in error.difference
    assert "+   - user: Do that." in error.difference
    assert "- tools: [look]\n+ tools: []" in error.difference
    for part in (trace.rollout, trace[0].id, error.difference, "record the run again", "match='nearest'"):
        assert part in str(error)
    assert statuses == [] or statuses[0][0] == 500


async def test_a_miss_is_an_error_in_the_agents_dialect() -> None:
    trace = await recorded()
    answers: list[httpx2.Response] = []

    async def act(rollout: Rollout) -> None:
        with trio.CancelScope(shield=True):
            answers.append(await ask(rollout, "Else.", dialect="anthropic_messages"))

    with pytest.raises(ReplayMiss):
        await play(Replay(trace), act)
    assert answers[0].status_code == 500
    assert answers[0].json()["type"] == "error"


async def test_an_empty_record_has_nothing() -> None:
    with pytest.raises(ReplayMiss, match="contains no calls") as caught:
        await play(Replay(Trace("r_0")), ask)
    assert caught.value.closest is None


@pytest.mark.parametrize("failure", [
    Refusal(429, "slow down"),
    UpstreamError("broken", status=503),
    ContextLengthError("too long", status=400),
])  # fmt: skip
async def test_what_was_refused_is_refused_and_then_answered(failure: Exception) -> None:
    async def refuse_first(exchange: Exchange) -> None:
        if not len(exchange.rollout.trace):
            raise failure
        await exchange.respond("fine")

    answers: list[httpx2.Response] = []

    async def act(rollout: Rollout) -> None:
        answers.extend([await ask(rollout) for _ in range(2)])

    trace = await play(refuse_first, act)
    again = await play(Replay(trace), act)
    assert told(again) == told(trace)
    assert [turn.error for turn in again] == [turn.error for turn in trace]
    assert [answer.status_code for answer in answers[:2]] == [answer.status_code for answer in answers[2:]]
    assert answers[0].json()["error"] == answers[2].json()["error"]


BROKEN: dict[str, list[Event]] = {
    "in_a_text": [ResponseStart(), PartStart(0, Text("")), PartDelta(0, "hel")],
    "before_its_first_word": [ResponseStart()],
    "in_a_call": [ResponseStart(), PartStart(0, ToolCall("look", "")), PartDelta(0, '{"path": ')],
}


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
@pytest.mark.parametrize("events", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_broke_breaks_again_where_it_broke(events: list[Event], dialect: str) -> None:
    async def breaks(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for event in events:
                await stream.send(event)
            raise UpstreamError("cut", status=502)

    bodies: list[str] = []

    async def act(rollout: Rollout) -> None:
        async with httpx2.AsyncClient(verify=False) as client:
            try:
                async with client.stream(
                    "POST", url_of(rollout, dialect), json=ask_body(stream=True), headers=bearer(rollout)
                ) as answer:
                    bodies.append("")
                    async for piece in answer.aiter_text():
                        bodies[-1] += piece
            except httpx2.RemoteProtocolError:
                pass

    trace = await play(breaks, act)
    again = await play(Replay(trace), act)
    assert told(again) == told(trace)
    first, second = ([frame for frame in body.split("\n\n") if frame] for body in bodies)
    assert first, "the agent was given its beginning"
    assert [frame.partition("{")[0] for frame in second] == [frame.partition("{")[0] for frame in first]
    assert ("hel" in bodies[1], "[DONE]" in bodies[1]) == ("hel" in bodies[0], False)


class Heard:
    """A handler that tells when it has a call."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.event = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.event.set()
        await self._handler(exchange)

    async def hang_up(self, rollout: Rollout, act: Callable[[Rollout], Awaitable[object]] = ask) -> None:
        """Ask, and hang up as soon as the call is heard."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act, rollout)
            await self.event.wait()
            nursery.cancel_scope.cancel()
        while not len(rollout.trace):
            await trio.sleep(0.005)


async def silent(exchange: Exchange) -> None:
    await trio.sleep_forever()


async def test_raw_bytes_are_sent_again_as_they_were() -> None:
    async def raw(exchange: Exchange) -> None:
        await exchange.respond_raw(200, {"content-length": "9"}, [b"abc", 0.01, b"d"], end="close")

    async def act(rollout: Rollout) -> None:
        with pytest.raises(httpx2.RemoteProtocolError, match="peer closed"):
            await ask(rollout)

    record = await play(raw, act)
    again = await play(Replay(record), act)
    assert again[0].raw is not None
    assert again[0].raw == msgspec.structs.replace(record[0].raw, body=(b"abc", 0.0, b"d"))
    assert again[0].outcome == record[0].outcome == "refused"


async def test_raw_bytes_that_were_redacted_are_a_failure_when_they_are_replayed() -> None:
    async def raw(exchange: Exchange) -> None:
        await exchange.respond_raw(200, {}, b"secret")

    redact = Redaction(["secret"])
    record = await play(raw, lambda rollout: ask(rollout), redact=redact)
    assert record[0].raw is not None
    again = await play(Replay(record), lambda rollout: ask(rollout))
    assert again[0].error.status == 500


async def test_an_agent_that_hung_up_is_left_to_hang_up_again() -> None:
    first = Heard(silent)
    trace = await play(first, first.hang_up)
    second = Heard(Replay(trace))
    assert [turn.outcome for turn in await play(second, second.hang_up)] == ["abandoned"]


async def test_an_agent_that_hung_up_and_now_waits_is_told_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._recording.play.HANG_UP", 0.1)
    first = Heard(silent)
    trace = await play(first, first.hang_up)
    with pytest.raises(
        ReplayMiss, match=r"no complete recorded answer: the recorded agent disconnected from turn 0 "
    ):
        await play(Replay(trace), ask)


async def test_an_answer_that_was_not_waited_for_is_given_to_the_next_call() -> None:
    """Of two answers to one question."""
    replies = iter("12")

    async def slow(exchange: Exchange) -> None:
        await trio.sleep(0.3)
        await exchange.respond(next(replies))

    async def ask_once(rollout: Rollout) -> None:
        headers = bearer(rollout) | {"x-session-id": "s"}
        async with httpx2.AsyncClient(verify=False) as client:
            await client.post(url_of(rollout), json=ask_body(), headers=headers)

    async def ask_twice(rollout: Rollout) -> None:
        for _ in range(2):
            await ask_once(rollout)

    async def hang_up_first(rollout: Rollout) -> None:
        await heard.hang_up(rollout, ask_once)
        await ask_twice(rollout)

    trace = await play(slow, ask_twice)
    heard = Heard(Replay(trace, timing="recorded"))
    again = await play(heard, hang_up_first)
    assert [turn.response and turn.response.text for turn in again] == [None, "1", "2"]


async def stream_slowly(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        for text in ("a", "bc", "def"):
            await trio.sleep(0.05)
            await stream.send(text)


async def read_stream(pieces: list[tuple[float, str]], rollout: Rollout) -> None:
    begun = time.monotonic()
    body = ask_body(stream=True)
    async with httpx2.AsyncClient(verify=False) as client:
        async with client.stream("POST", url_of(rollout), json=body, headers=bearer(rollout)) as answer:
            async for line in answer.aiter_lines():
                choices = msgspec.json.decode(line[6:])["choices"] if line.startswith("data: {") else []
                pieces += [
                    (time.monotonic() - begun, text)
                    for choice in choices
                    if (text := choice["delta"].get("content"))
                ]


@pytest.mark.parametrize(("timing", "least"), [("none", 0.0), ("recorded", 0.15), (3, 0.45)])
async def test_a_stream_comes_in_its_pieces_and_in_its_time(timing: Any, least: float) -> None:
    trace = await play(stream_slowly, partial(read_stream, []), record_increments=True)
    increments = trace[0].increments
    assert (increments.runs, increments.lengths) == (((0, 3),), (1, 2, 3))
    assert all(45 <= wait < 5000 for wait in increments.waits)
    pieces: list[tuple[float, str]] = []
    begun = time.monotonic()
    again = await play(Replay(trace, timing=timing), partial(read_stream, pieces), record_increments=True)
    assert time.monotonic() - begun >= least
    assert [text for _, text in pieces] == ["a", "bc", "def"]
    assert pieces[0][0] >= least / 3
    assert again[0].increments.lengths == increments.lengths


async def test_nobody_keeps_pieces_unless_somebody_asks() -> None:
    trace = await play(stream_slowly, partial(read_stream, []))
    assert trace[0].increments is None
    pieces: list[tuple[float, str]] = []
    await play(Replay(trace, timing="recorded"), partial(read_stream, pieces))
    assert "".join(text for _, text in pieces) == "abcdef"
    assert pieces[0][0] >= 0.15


async def test_a_whole_answer_takes_its_time_too() -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(1)
        await exchange.respond("x")

    trace = await play(slow, ask)
    for timing, least, most in ((0.5, 0.5, 30), ("none", 0, 1)):
        begun = time.monotonic()
        again = await play(Replay(trace, timing=timing), ask)
        assert least <= again[0].duration <= most
        assert time.monotonic() - begun >= least


async def test_directories_are_those_of_now_both_ways() -> None:
    trace = await recorded()
    agents: list[Agent] = []

    async def act(rollout: Rollout) -> None:
        agents.append(Agent(rollout, folder="/live/here"))
        await agents[-1].run()

    again = await play(Replay(trace, paths={"/recorded": "/live/here"}), act)
    assert agents[0].seen == [{"path": "/live/here/a"}, {"path": "/live/here/b"}]
    assert len(again) == 3
    with pytest.raises(ReplayMiss):
        await play(Replay(trace), act)


async def test_a_directory_that_json_has_to_escape_is_escaped() -> None:
    trace = await recorded()
    agents: list[Agent] = []

    async def act(rollout: Rollout) -> None:
        agents.append(Agent(rollout, folder='/a "quoted" b'))
        await agents[0].run()

    await play(Replay(trace, paths={"/recorded": '/a "quoted" b'}), act)
    assert agents[0].seen[0] == {"path": '/a "quoted" b/a'}


async def test_what_is_redacted_in_the_record_is_redacted_before_it_is_compared() -> None:
    redact = Redaction([r"hunter\d"])
    trace = await play(ScriptedModel(["fine"]), lambda rollout: ask(rollout, "my key is [redacted]"))
    await play(Replay(trace, redact=redact), lambda rollout: ask(rollout, "my key is hunter2"))
    with pytest.raises(ReplayMiss):
        await play(Replay(trace), lambda rollout: ask(rollout, "my key is hunter2"))
    async with serve_endpoint(redact=redact) as endpoint, endpoint.open_rollout(Replay(trace)) as rollout:
        await ask(rollout, "my key is hunter2")
    assert rollout.trace[0].notes["replay"]["turn"] == trace[0].id


async def test_what_is_redacted_makes_no_other_result() -> None:
    redact = Redaction([r"hunter\d"])
    act = lambda rollout: Agent(rollout, results=("my key is hunter2", "two")).run()  # noqa: E731
    trace = await recorded_by(act, redact=redact)
    for again in (
        await play(Replay(trace), act, redact=redact),
        await play(Replay(trace, redact=redact), act),
    ):
        assert [note.get("other_results") for note in replays(again)] == [None, None, None]


@pytest.mark.parametrize("depth", [500, 3_000, 100_000])
async def test_arguments_that_are_nested_however_deep_are_replayed(depth: int) -> None:
    arguments = f'{{"path": {"[" * depth}{"]" * depth}}}'
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}

    async def act(rollout: Rollout) -> None:
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        history = [said, {"role": "tool", "tool_call_id": "c", "content": "fine"}]
        asked = [{"role": "user", "content": "go"}]
        for messages in (asked, [*asked, *history]):
            answer = await ask(rollout, messages=messages)
            assert answer.status_code == 200, answer.text

    trace = await play(ScriptedModel([Response.of(ToolCall("look", arguments, "c")), "Done."]), act)
    assert [each.kind for each in trace.relations.values()] == ["begins", "continues"]
    assert told(await play(Replay(trace), act)) == told(trace)


async def test_the_nearest_turn_answers_an_agent_that_has_changed() -> None:
    trace = await recorded()
    again = await play(Replay(trace, match="nearest"), lambda rollout: Agent(rollout).run("Do it better."))
    assert told(again) == told(trace)
    shown = [note["nearest"] for note in replays(again)]
    assert all("- user:" in each and "Do it better." in each for each in shown), "where the two part"
    same = await play(Replay(trace, match="nearest"), lambda rollout: Agent(rollout).run())
    assert [note.get("nearest") for note in replays(same)] == [None] * 3
    with pytest.raises(ReplayMiss):
        await play(Replay(trace), lambda rollout: Agent(rollout).run("Do it better."))


# Forks


async def test_from_a_fork_on_another_handler_answers_and_the_trace_says_so() -> None:
    trace = await recorded()
    then = ScriptedModel([ToolCall.of("look", path="/else"), "Otherwise."])
    again = await play(
        Replay(trace, until=1, then=then), lambda rollout: Agent(rollout, results=("1", "2", "3")).run()
    )
    assert [turn.response and turn.response.text for turn in again] == ["", "", "Otherwise."]
    assert told(again)[0] == told(trace)[0]
    at = {"rollout": trace.rollout, "fork": trace[1].id}
    assert [note.get("fork") for note in replays(again)] == [None, trace[1].id, trace[1].id]
    assert replays(again)[1:] == [at | {"turn": trace[1].id}, at | {"turn": None}]
    assert then.remaining == 0


async def test_a_fork_that_says_what_was_recorded_is_one_all_the_same() -> None:
    trace = await recorded()
    again = await play(Replay(trace, until=trace[0].id, then=model()), lambda rollout: Agent(rollout).run())
    assert told(again) == told(trace)
    assert [note["fork"] for note in replays(again)] == [trace[0].id] * 3


async def test_before_its_fork_a_replay_makes_nothing_up() -> None:
    trace = await recorded()
    with pytest.raises(ReplayMiss):
        await play(Replay(trace, until=2, then=model()), lambda rollout: Agent(rollout).run("Else."))


async def test_without_a_fork_what_is_new_goes_to_the_other_handler() -> None:
    trace = await recorded()

    async def act(rollout: Rollout) -> None:
        assert await Agent(rollout).run() == "All done."
        assert (await ask(rollout, "new")).json()["choices"][0]["message"]["content"] == "news"

    again = await play(Replay(trace, then=ScriptedModel(["news"])), act)
    assert replays(again)[3] == {"rollout": trace.rollout}


# Wherever the agent is, and however the body waits


async def in_this_program(rollout: Rollout) -> None:
    await Agent(rollout).run()


async def in_a_thread(rollout: Rollout) -> None:
    await trio.to_thread.run_sync(trio.run, Agent(rollout).run)


async def in_a_process(rollout: Rollout) -> None:
    result = await rollout.run_agent([sys.executable, "-c", AGENT])
    assert result.stdout_text == "All done.\n", result.stderr_text


@pytest.mark.parametrize("act", [in_this_program, in_a_thread, in_a_process])
async def test_an_agent_is_answered_wherever_it_is(act: Callable[[Rollout], Awaitable[None]]) -> None:
    trace = await recorded()
    again = await play(Replay(trace), act)
    assert told(again) == told(trace)


async def asleep(rollout: Rollout) -> None:
    await trio.sleep_forever()


async def looping(rollout: Rollout) -> None:
    while True:
        await trio.lowlevel.checkpoint()


async def failing(rollout: Rollout) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError("mine")


@pytest.mark.parametrize("body", [asleep, looping, failing])
async def test_a_miss_reaches_its_owner_however_the_body_waits(
    body: Callable[[Rollout], Awaitable[None]],
) -> None:
    trace = await recorded()

    async def act(rollout: Rollout) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_a_process_that_fails, rollout)
            await body(rollout)

    async def in_a_process_that_fails(rollout: Rollout) -> None:
        await rollout.run_agent([sys.executable, "-c", AGENT.replace("Do it.", "Do that.")])

    with pytest.raises(BaseException) as caught:  # noqa: PT011
        await play(Replay(trace), act)
    misses = [exc for exc in leaves(caught.value) if isinstance(exc, ReplayMiss)]
    assert len(misses) == 1
    assert "+   - user: Do that." in str(misses[0])


def leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in leaves(inner)]
    return [exc]


@pytest.mark.parametrize(("options", "error"), [
    ({"match": "loose"}, ValueError),
    ({"timing": "fast"}, ValueError),
    ({"timing": -1}, ValueError),
    ({"timing": True}, TypeError),
    ({"until": 0}, TypeError),
    ({"until": 7, "then": ScriptedModel([])}, LookupError),
    ({"then": "x"}, TypeError),
    ({"compare_results": 1}, TypeError),
    ({"until": True, "then": ScriptedModel([])}, TypeError),
    ({"until": ("main", "0"), "then": ScriptedModel([])}, TypeError),
    ({"until": 1.0, "then": ScriptedModel([])}, TypeError),
    ({"paths": ["/a"]}, TypeError),
    ({"paths": {"/a": Path("/b")}}, TypeError),
    ({"paths": {"": "/b"}}, ValueError),
    ({"paths": {"/a": "/"}}, ValueError),
    ({"redact": str}, TypeError),
])  # fmt: skip
def test_what_is_no_option_is_told_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Replay(Trace("r"), **options)


def test_what_is_no_trace_is_told_with_how_one_is_read() -> None:
    with pytest.raises(TypeError, match=r"read_traces\(path\)\[0\]"):
        Replay("run.jsonl")  # type: ignore[arg-type]


def test_a_replay_says_what_it_is() -> None:
    assert repr(Replay(Trace("r_1"))) == "<Replay of rollout r_1: 0 turns>"
