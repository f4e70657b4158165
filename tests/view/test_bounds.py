"""What the view keeps, and what it leaves out: bounds of the log, of old runs, and the alignment of two runs."""

from __future__ import annotations

import time
from itertools import pairwise

import httpx2
import msgspec
import pytest
import trio
import trio.testing

from tests.exports.sample import trace_of, turn
from tests.view.watching import Agent, Viewer
from triocept import Exchange, Message, Response, ScriptedModel, Text, ToolCall, Trace, serve_endpoint
from triocept._rollout.questions import Question, Questions
from triocept._trace.trace import TraceWriter
from triocept._view import live
from triocept._view.compare import _aligned, compared
from triocept._view.live import LiveView
from triocept._view.source import Source
from triocept.handlers import Decision, approve, ask_page
from triocept.traces import (
    CallArrived,
    Decided,
    DecisionAsked,
    DecisionMade,
    IncrementSent,
    RolloutEnded,
    Turn,
    TurnLost,
    TurnSettled,
)


def arrived(number: int = 0) -> CallArrived:
    request = turn(number, (Message("user", (Text("hi"),)),), Response.of("ok")).request
    return CallArrived(
        rollout="r",
        run="run_1",
        number=0,
        at=1.0,
        clock=1.0,
        exchange="x0",
        dialect="d",
        request=request,
        agent=None,
    )


def piece(text: str, part: int = 0) -> IncrementSent:
    return IncrementSent(
        rollout="r",
        run="run_1",
        number=1,
        at=2.0,
        clock=2.0,
        exchange="x0",
        index=0,
        kind="text",
        part=part,
        text=text,
    )


async def test_a_viewer_that_reads_nothing_takes_no_memory_and_then_gets_a_snapshot() -> None:
    view = LiveView()
    view.opened(Trace("r", run="run_1"))
    stream = view.stream(None)
    first = await anext(stream)
    assert b"event: snapshot" in first
    view.take(arrived())
    for number in range(3_000):  # the viewer does not come back for the next chunk meanwhile
        view.take(piece("w" * 5_000, part=number % 2))
    kept = sum(len(data) for _, _, data in view._log) + len(msgspec.json.encode(view._pending))
    assert kept < 3 * live._MOST_LOG
    again = await anext(stream)
    while b"event: snapshot" not in again:
        again = await anext(stream)
    data = msgspec.json.decode(again.split(b"data: ")[1])
    [call] = data["calls"]
    assert sum(len(part["text"]) + part["skipped"] for part in call["parts"]) == 3_000 * 5_000
    assert all(len(part["text"]) <= 20_000 for part in call["parts"])
    await stream.aclose()
    assert (view.viewers, len(view._log), view._pending) == (0, 0, [])


async def test_frames_without_text_of_an_answer_take_no_memory_behind_a_viewer_that_reads_nothing() -> None:
    view = LiveView()
    view.opened(Trace("r", run="run_1"))
    stream = view.stream(None)
    await anext(stream)
    common = {"rollout": "r", "run": "run_1", "at": 2.0, "clock": 2.0}
    for number in range(2_000):
        asked = {"exchange": "x0", "call": "c", "tool": "bash", "arguments": "w" * 10_000}
        view.take(DecisionAsked(number=number, **common, **asked))
        made = Decided(call="c", tool="bash", kind="approve", seconds=0.0)
        view.take(DecisionMade(number=number, exchange="x0", asked=number, decision=made, **common))
        assert sum(len(data) for _, data in view._pending) < 2 * live._MOST_LOG
    assert sum(len(data) for _, _, data in view._log) <= live._MOST_LOG
    for number in range(3 * live._MOST_PENDING):
        view.take(TurnLost(number=number, exchange="x0", error="OSError", **common))
        assert len(view._pending) <= live._MOST_PENDING
    await stream.aclose()


async def test_adjacent_pieces_come_joined_and_no_frame_is_made_without_a_viewer() -> None:
    view = LiveView()
    view.opened(Trace("r", run="run_1"))
    view.take(arrived())
    for text in ("one ", "two "):
        view.take(piece(text))
    assert view._pending == []
    stream = view.stream(None)
    snapshot = msgspec.json.decode((await anext(stream)).split(b"data: ")[1])
    assert snapshot["calls"][0]["parts"][0]["text"] == "one two "
    for text in ("three ", "four "):
        view.take(piece(text))
    with trio.fail_after(30):
        frames = await anext(stream)
    assert frames.count(b"event: more") == 1
    assert b'"text":"three four "' in frames
    await stream.aclose()


def test_of_old_runs_only_the_row_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MOST_ENDED", 3)
    monkeypatch.setattr(live, "_MOST_ROWS", 4)
    view = LiveView()
    for number in range(10):
        trace = Trace("r", run=f"run_{number}")
        view.opened(trace)
        done = msgspec.structs.replace(
            turn(0, (Message("user", (Text("hi"),)),), Response.of("ok")), id=f"x{number}", run=trace.run
        )
        TraceWriter(trace).add(done)
        common = {"rollout": "r", "run": trace.run, "number": 2, "at": 3.0, "clock": 3.0}
        view.take(TurnSettled(turn=done, **common))
        TraceWriter(trace).seal()
        view.take(RolloutEnded(ended="body", stopped=None, turns=1, **common))
    assert [*view.runs] == ["run_7", "run_8", "run_9"]
    assert [(row["run"], row["kept"], row["turns"]) for row in view.snapshot()["rows"]][:4] == [
        (f"run_{number}", False, 1) for number in range(3, 7)
    ]
    assert view.turns("run_3") is None


def test_a_fault_of_the_view_is_logged_once_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    view = LiveView()
    view.opened(Trace("r", run="run_1"))
    broken = msgspec.structs.replace(arrived(), request=None)
    view.take(broken)
    view.take(broken)
    assert [record.name for record in caplog.records] == ["triocept.view"]


def test_two_runs_are_aligned_by_their_answers() -> None:
    def run(*answers: str) -> Trace:
        messages = (Message("user", (Text("task"),)),)
        return trace_of(*(turn(number, messages, Response.of(text)) for number, text in enumerate(answers)))

    pairs = compared([*run("a", "b", "c")], [*run("a", "x", "y", "c", "d")])
    assert [(pair["a"], pair["b"], pair["kind"]) for pair in pairs] == [
        ("x0", "x0", "same"),
        ("x1", "x1", "changed"),
        (None, "x2", "only_b"),
        ("x2", "x3", "same"),
        (None, "x4", "only_b"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ab" * 500, "ba" * 500),
        ("a" * 1_000, "a" * 1_000),
        ("a" * 1_000, "b" * 1_000),
        ("ab" * 500, "ac" * 500),
        ("".join(map(chr, range(1_000, 2_000))), "".join(map(chr, range(1_999, 999, -1)))),
    ],
)
def test_runs_of_a_thousand_turns_are_compared_in_order_and_soon(one: str, other: str) -> None:
    def run(text: str) -> list[Turn]:
        messages = (Message("user", (Text("task"),)),)
        return [turn(number, messages, Response.of(answer)) for number, answer in enumerate(text)]

    turns = run(one), run(other)
    began = time.thread_time()
    pairs = compared(*turns)
    assert time.thread_time() - began < 1  # some 20 ms; a comparison of each with each takes seconds
    for side, text in zip("ab", (one, other), strict=True):
        assert [pair[side] for pair in pairs if pair[side]] == [f"x{number}" for number in range(len(text))]
    places = [(int(pair["a"][1:]), int(pair["b"][1:])) for pair in pairs if pair["kind"] == "same"]
    assert [one[a] for a, b in places] == [other[b] for a, b in places]
    assert bool(places) == bool({*one} & {*other})


def test_turns_that_were_only_inserted_leave_all_others_the_same() -> None:
    assert [*_aligned([b"x", b"a", b"b", b"x", b"c"], [b"x", b"a", b"new", b"b", b"x", b"c"])] == [
        (0, 0),
        (1, 1),
        (2, 3),
        (3, 4),
        (4, 5),
    ]
    assert [*_aligned([b"a", b"b", b"c", b"d"], [b"d", b"a", b"c", b"b", b"e"])] == [(0, 1), (2, 2)]
    assert [*_aligned([], [b"a"])] == [*_aligned([b"a"], [b"b"])] == []


async def test_leaving_the_endpoint_while_a_question_waits_ends_at_once() -> None:
    with trio.fail_after(50):
        async with httpx2.AsyncClient() as client, trio.open_nursery() as nursery:
            async with serve_endpoint(view=True, grace=40) as endpoint:
                viewer = Viewer(client, endpoint.view_url)
                model = approve(ScriptedModel([ToolCall.of("bash", command="ls")]), {"bash": ask_page})
                async with viewer.stream() as events, endpoint.open_rollout(model) as rollout:
                    agent = Agent(client, rollout)
                    nursery.start_soon(agent.say, "go")
                    await events.until("asked")
                    began = trio.current_time()
            assert trio.current_time() - began < 30
    assert agent.status == 503


async def test_of_two_decisions_at_the_same_moment_one_counts_and_none_after_the_end() -> None:
    opened: list[Question] = []
    questions = Questions(opened.append, lambda question: None)
    made: list[Decision] = []

    async def ask() -> None:
        made.append(await questions.ask(ToolCall.of("bash"), ("run_1", 0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert opened[0].decide(Decision.approve(by="Ann"))
        assert not opened[0].decide(Decision.reject(by="Bob"))
    assert [each.by for each in made] == ["Ann"]
    with trio.move_on_after(0) as scope:
        await ask()
    assert scope.cancelled_caught
    assert not opened[1].decide(Decision.approve())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        assert not opened[2].decide(Decision.approve())  # its task has not run yet


async def test_a_call_that_another_policy_decides_is_not_left_waiting_when_the_agent_leaves() -> None:
    async def ask_elsewhere(call: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep_forever()
        raise AssertionError

    with trio.fail_after(20):
        async with httpx2.AsyncClient() as client, serve_endpoint(view=True) as endpoint:
            viewer = Viewer(client, endpoint.view_url)
            model = approve(ScriptedModel([ToolCall.of("bash", command="ls")]), {"bash": ask_elsewhere})
            async with viewer.stream() as events, endpoint.open_rollout(model) as rollout:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(Agent(client, rollout).say, "go")
                    asked = await events.until("asked")
                    assert not asked["here"]
                    assert (await viewer.decide(id=asked["id"], kind="approve")).status_code == 409
                    nursery.cancel_scope.cancel()
                gone = await events.until("decided")
                assert (gone["id"], gone["decision"]) == (asked["id"], None)
                assert (await viewer.json("snapshot"))["waiting"] == []


async def test_a_search_in_one_long_message_lets_other_tasks_run_meanwhile() -> None:
    """The words of the message are such that each place needs as many comparisons as the text is long."""
    source = Source("runs")
    trace = Trace("r", run="run_1")
    whole = "a" * 300_000 + "b"
    TraceWriter(trace).add(turn(0, (Message("user", (Text(whole),)),), Response.of("ok")))
    source.add(trace)
    moments: list[float] = []

    async def watch() -> None:
        while True:
            moments.append(time.thread_time())
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        found = await source.search("A" * 400 + "b")
        nursery.cancel_scope.cancel()
    [hit] = found["hits"]
    assert hit["excerpt"][hit["start"] : hit["end"]] == "a" * 400 + "b"
    steps = sorted(later - earlier for earlier, later in pairwise(moments))
    print(f"longest: {steps[-1] * 1000:.1f} ms")
    assert steps[-1] < 0.05
    assert len(moments) > 10
