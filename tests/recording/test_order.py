"""What an answer waits for, where sub-agents run beside; and nothing ever waits for what can only come later."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recording.recorded import record_of, resulted, said, turn
from triocept import Response, ToolCall, Turn
from triocept._recording.replay.order import Happening, Order
from triocept._trace.conversation import CallKind

LAUNCH = Response.of("Agent", ToolCall.of("Agent", prompt="SUBTASK: count the files"))
TASK = said("user", "SUBTASK: count the files")


def waits(*turns: Turn, clock: tuple[float, float] = (float("inf"), 0)) -> dict[str, set[str]]:
    """By a turn's id, what it waits for: `x1` to have settled, `x1?` to have come."""
    record = record_of(turns, clock=clock)
    order = Order(record)
    name = {each.number: each.turn.id for each in record.turns}
    return {
        name[each.number]: {
            name[it.number] + ("" if it.settled else "?") for it in order.waits.get(each.number, ())
        }
        for each in record.turns
        if order.waits.get(each.number, ())
    }


@pytest.mark.parametrize("by", [-3600, 3600])
@pytest.mark.parametrize("when", [0.5, 1.2, 1.7, 8])
def test_an_order_is_the_same_though_the_clock_was_set_meanwhile(when: float, by: float) -> None:
    run = (
        *(turn(0, 1, "go", answer=LAUNCH), turn(1.5, 2.5, TASK, of="a"), turn(1.6, 4.5, TASK, of="b")),
        *(
            turn(2, 3, "go", "2"), turn(2.6, 8.5, TASK, "more", of="a"), turn(6, 7, "go", "3"),
            turn(9, 10, "go", "4"),
        ),
    )  # fmt: skip
    assert waits(*run, clock=(when, by)) == waits(*run)


def test_without_sub_agents_nothing_waits() -> None:
    assert waits(turn(0, 1, "go"), turn(2, 3, "go", "on"), turn(0, 5, "title", kind="side")) == {}


def test_the_call_that_a_sub_agents_end_is_pushed_behind_waits_for_that_end() -> None:
    """The main conversation asks at 2, is answered at 3 and asks again at 6; the sub-agent ended at 5."""
    found = waits(
        turn(0, 1, "go", answer=LAUNCH),
        turn(1.5, 5, TASK, of="a"),
        turn(2, 3, "go", "2"),
        turn(6, 7, "go", "2", "told"),
    )
    assert found == {"x2": {"x1.5"}, "x1.5": {"x2?"}}


def test_an_end_waits_for_the_calls_that_came_before_it_and_holds_up_none_of_them() -> None:
    found = waits(
        turn(0, 1, "go", answer=LAUNCH),
        turn(1.5, 8, TASK, of="a"),
        turn(2, 3, "go", "2"),
        turn(6, 7, "go", "3"),
        turn(9, 10, "go", "4"),
    )
    assert found == {"x6": {"x1.5"}, "x1.5": {"x6?"}}


def test_sub_agents_end_in_their_order() -> None:
    found = waits(
        turn(0, 1, "go", answer=LAUNCH),
        turn(1.5, 5, TASK, of="a"),
        turn(1.6, 4, TASK, of="b"),
        turn(2, 3, "go", "2"),
        turn(6, 7, "go", "told"),
    )
    assert found["x1.5"] == {"x2?", "x1.6"}
    assert found["x2"] == {"x1.5", "x1.6"}


OK = said("assistant", "ok")
ENDED = turn(1.5, 5.95, TASK, of="a", answer="there are twelve files in it")
NEWS = "the agent says: there are twelve files in it"


def test_what_calls_say_of_an_end_decides_where_it_is_put() -> None:
    """The end was seen 50 ms before the call at 6, which tells nothing of it: it was on its way; the next one does."""
    before = (turn(0, 1, "go", answer=LAUNCH), ENDED, turn(2, 3, "go", "2"))
    untold = waits(*before, turn(6, 7, "go", "2", OK, "3"), turn(9, 10, "go", "2", OK, "3", OK, NEWS))
    assert untold == {"x6": {"x1.5"}, "x1.5": {"x6?"}}
    told = waits(*before, turn(6, 7, "go", "2", OK, NEWS), turn(9, 10, "go", "2", OK, NEWS, OK, "4"))
    assert told == {"x2": {"x1.5"}, "x1.5": {"x2?"}}


def compacted(ended: Turn, at_once: str, later: str) -> dict[str, set[str]]:
    """The main conversation is compacted by the call at 6; what it says then, at 9 and 12."""
    return waits(
        *(turn(0, 1, "go", answer=LAUNCH), ended, turn(2, 3, "go", said("assistant", "Agent"), "2")),
        *(turn(6, 7, "go", said("assistant", "Agent"), "summarise"), turn(9, 10, "summary", at_once)),
        turn(12, 13, "summary", at_once, OK, later),
    )


@pytest.mark.parametrize(
    ("settled", "at_once", "later", "behind"),
    [
        (5.95, NEWS, "on", "x2"),  # what follows a compaction tells what was there before its call
        (5.95, "on", NEWS, "x9"),  # it ended when that call was on its way; it is told as one that ends later
        (6.5, "on", NEWS, "x9"),
        (7.5, "on", NEWS, "x9"),  # what follows is made when the summary is there
        (9.5, "on", NEWS, "x9"),
    ],
)
def test_what_is_told_behind_a_compaction_decides_too(
    settled: float, at_once: str, later: str, behind: str
) -> None:
    ended = turn(1.5, settled, TASK, of="a", answer="there are twelve files in it")
    found = compacted(ended, at_once, later)
    assert found == {behind: {"x1.5"}, "x1.5": {f"{behind}?"}}


def notice(name: str) -> str:
    """As Claude Code 2.1.332 has it."""
    told = f"<task-id>{name}</task-id>\n<status>completed</status>\n<result>there are twelve files in it</result>"
    return f"<task-notification>\n{told}\n</task-notification>"


OVER = "Task a (type: local_agent) (status: completed) (description: count) Read the output file"
RUNS = 'Background agent "count" (a) is still running. Do NOT spawn a duplicate.'


@pytest.mark.parametrize(
    ("settled", "at_once", "later", "behind"),
    [
        (5.95, OVER, NEWS, "x6"),  # it was on its way when that call was made
        (6.5, OVER, NEWS, "x6"),
        (7.5, OVER, notice("a"), "x6"),  # before the answer: what follows it says so
        (6.5, OVER, "on", "x6"),  # the run ends before it is told
        (5.95, RUNS, NEWS, "x9"),
        (5.95, RUNS, "on", "x9"),
        (6.5, RUNS, notice("a"), "x9"),
        (5.95, f"{notice('a')}\n{OVER}", "on", "x2"),
    ],
)
def test_what_the_agent_says_of_a_sub_agent_behind_a_compaction_decides(
    settled: float, at_once: str, later: str, behind: str
) -> None:
    ended = turn(1.5, settled, TASK, of="a", answer="there are twelve files in it")
    assert compacted(ended, at_once, later) == {behind: {"x1.5"}, "x1.5": {f"{behind}?"}}


def test_ends_with_the_same_words_are_told_apart_by_their_names() -> None:
    words = "there are twelve files in it"
    found = waits(
        *(turn(0, 1, "go", answer=LAUNCH), turn(1.5, 5, TASK, of="s/a", answer=words)),
        *(turn(1.6, 5.98, TASK, of="s/b", answer=words), turn(2, 3, "go", "2")),
        turn(6, 7, "go", "2", OK, notice("a")),
        turn(9, 10, "go", "2", OK, notice("a"), OK, notice("b")),
    )
    assert found == {"x2": {"x1.5"}, "x1.5": {"x2?"}, "x6": {"x1.6"}, "x1.6": {"x6?", "x1.5"}}


SUMMARY = "<summary>the task is to count files</summary>"


@pytest.mark.parametrize("settled", [6.5, 7.5])
def test_a_compaction_may_go_on_from_the_call_before_it(settled: float) -> None:
    """An agent that asks for its summary behind all that was said: what follows was made when that was there."""
    ended = turn(1.5, settled, TASK, of="a", answer="there are twelve files in it")
    found = waits(
        *(turn(0, 1, "go", answer=LAUNCH), ended, turn(2, 3, "go", said("assistant", "Agent"), "2")),
        turn(6, 7, "go", said("assistant", "Agent"), "2", OK, "summarise", answer=SUMMARY),
        turn(9, 10, f"go on from {SUMMARY}"),
        turn(12, 13, f"go on from {SUMMARY}", OK, NEWS),
    )
    assert found == {"x9": {"x1.5"}, "x1.5": {"x9?"}}


@pytest.mark.parametrize("kind", ["main", "side"])
@pytest.mark.parametrize("settled", [5.5, 6.5])
def test_a_summary_waits_for_the_end_of_a_sub_agent_that_the_call_before_it_launched(
    settled: float, kind: CallKind
) -> None:
    """That call cannot wait for it; and what follows the summary tells it."""
    found = waits(
        turn(0, 1, "go"),
        turn(2, 3, "go", OK, "2", answer=LAUNCH),
        turn(3.5, settled, TASK, of="a", answer="there are twelve files in it"),
        turn(6, 7, "go", OK, "2", said("assistant", "Agent"), "summarise", answer=SUMMARY, kind=kind),
        turn(9, 10, f"go on from {SUMMARY}", NEWS),
        turn(12, 13, f"go on from {SUMMARY}", NEWS, OK, "3"),
    )
    assert found == {"x6": {"x3.5"}, "x3.5": {"x2?"}}


def test_an_end_that_is_told_behind_a_summary_that_was_asked_for_aside_is_put_there() -> None:
    ended = turn(1.5, 6.5, TASK, of="a", answer="there are twelve files in it")
    found = waits(
        *(turn(0, 1, "go", answer=LAUNCH), ended, turn(2, 3, "go", said("assistant", "Agent"), "2")),
        turn(6, 7, "all that was said: …; summarise", answer=SUMMARY, kind="side"),
        turn(9, 10, f"go on from {SUMMARY}"),
        turn(12, 13, f"go on from {SUMMARY}", OK, NEWS),
    )
    assert found == {"x9": {"x1.5"}, "x1.5": {"x9?"}}


@pytest.mark.parametrize(("later", "first"), [(5.02, "b"), (5.5, "a")])
def test_ends_that_are_near_are_in_the_order_in_which_they_are_told(later: float, first: str) -> None:
    """Who was recorded first need not be who came to its agent first; half a second later it is."""
    found = waits(
        turn(0, 1, "go", answer=LAUNCH),
        turn(1.5, 5, TASK, of="a", answer="there are twelve files in it"),
        turn(1.6, later, TASK, of="b", answer="there are forty files in it"),
        turn(2, 3, "go", said("assistant", "Agent"), "2"),
        turn(6, 7, "go", said("assistant", "Agent"), "2", OK, "there are forty files in it", NEWS),
    )
    assert found["x1.5"] == ({"x2?", "x1.6"} if first == "b" else {"x2?"})
    assert found["x1.6"] == ({"x2?", "x1.5"} if first == "a" else {"x2?"})


def test_a_last_call_right_behind_an_end_that_it_does_not_tell_was_made_before_it() -> None:
    """Nothing is told of that end: there was no further call to tell it."""
    run = (turn(0, 1, "go", answer=LAUNCH), ENDED, turn(2, 3, "go", "2"))
    assert waits(*run, turn(6, 7, "go", "2", OK, "3")) == {"x6": {"x1.5"}, "x1.5": {"x6?"}}
    slow = msgspec.structs.replace(
        ENDED, started_at=2.2, duration=3.75
    )  # its first call came after the one that ran on
    assert waits(run[0], slow, run[2], turn(6, 7, "go", "2", OK, "3")) == {"x6": {"x1.5"}, "x1.5": {"x6?"}}
    later = waits(*run, turn(6.5, 7, "go", "2", OK, "3"))
    assert later == {"x2": {"x1.5"}, "x1.5": {"x2?"}}, "so long behind it is another matter"


def test_a_tool_that_waits_for_an_end_tells_it_too() -> None:
    """Codex waits for its sub-agents by a tool, which gives what they said as JSON."""
    given = resulted('{"status": {"completed": "there are twelve files in it"}}')
    run = (turn(0, 1, "go", answer=LAUNCH), ENDED, turn(2, 3, "go", "2"), turn(6, 7, "go", "2", OK, given))
    assert waits(*run) == {"x2": {"x1.5"}, "x1.5": {"x2?"}}


def test_nothing_waits_for_a_sub_agent_that_it_has_itself_begun() -> None:
    """It ended before the next call came: an agent that waits for it by itself."""
    found = waits(turn(0, 1, "go", answer=LAUNCH), turn(1.5, 2, TASK, of="a"), turn(3, 4, "go", "result"))
    assert found == {"x1.5": {"x0?"}}


def test_nothing_waits_for_one_of_the_same_task_that_it_has_begun_and_the_record_holds_for_the_other() -> (
    None
):
    """The first was refused, so that its agent began another: two conversations that nobody names are one."""
    found = waits(
        *(turn(0, 1, "go", answer=LAUNCH), turn(1.5, 2, TASK, of="a", outcome="refused")),
        *(
            turn(3, 4, "go", "failed", answer=LAUNCH),
            turn(4.5, 5, TASK, of="a"),
            turn(6, 7, "go", "failed", "result"),
        ),
    )
    assert found.get("x3", set()) <= {"x1.5"}


def test_nothing_waits_for_a_hang_up() -> None:
    """The agent ended when its main conversation did, and its sub-agent with it."""
    found = waits(
        *(turn(0, 1, "go", answer=LAUNCH), turn(1.5, 5, TASK, of="a", outcome="abandoned")),
        turn(2, 4, "go", "2"),
    )
    assert found == {"x1.5": {"x2?"}}


STEPS = st.lists(st.floats(0.01, 2), min_size=2, max_size=8)


@st.composite
def runs(draw: st.DrawFn) -> list[Turn]:
    """Any run of a main conversation that launches sub-agents."""
    turns: list[Turn] = []
    at, launched = 0.0, [0.0]
    subs = draw(st.lists(STEPS, max_size=4))
    for number, step in enumerate(draw(STEPS)):
        settled = at + step * draw(st.floats(0.1, 0.9))
        answer: str | Response = LAUNCH if number < len(subs) else "ok"
        turns.append(turn(at, settled, "go", str(number), answer=answer))
        launched.append(settled)
        at += step
    for name, steps in enumerate(subs):
        at = launched[draw(st.integers(1, min(len(launched) - 1, name + 1)))] + 0.001
        for number, step in enumerate(steps):
            settled = at + step * draw(st.floats(0.1, 0.9))
            turns.append(turn(at, settled, TASK, str(number), of=f"sub{name}"))
            at += step
    return turns


@settings(max_examples=60, deadline=None)
@given(runs())
def test_no_run_ever_waits_for_itself(turns: list[Turn]) -> None:
    """An agent whose calls come when the answers before them were given is answered to its end."""
    record = record_of(turns)
    order = Order(record)
    happened: set[Happening] = set()
    while len(happened) < 2 * len(turns):
        before = len(happened)
        for thread, family in record.threads.items():
            launch = order.launches.get(thread)
            free = launch is None or Happening(launch.number, settled=True) in happened
            for each in family:
                came, settled = Happening(each.number, settled=False), Happening(each.number, settled=True)
                if not free:
                    break
                happened.add(came)
                if happened.issuperset(order.waits.get(each.number, ())):
                    happened.add(settled)
                free = settled in happened
        assert len(happened) > before, "stuck"
