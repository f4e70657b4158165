"""Which recorded turn answers a live call."""

import pytest

from tests.recording.recorded import called, record_of, resulted, said, turn
from triocept import Message, Response, ToolCall, Turn
from triocept._recording.miss import difference
from triocept._recording.replay.order import Order
from triocept._recording.replay.record import (
    Key,
    Matching,
    Record,
    TurnName,
    find_turn,
    following,
    key_of,
    shown_form,
)
from triocept._trace.conversation import CallKind, Conversation
from triocept.types import Opaque

LAUNCH = Response.of(ToolCall.of("Agent", prompt="SUBTASK: count the files"))
TASK = "SUBTASK: count the files"


class Live:
    """A rollout that asks."""

    def __init__(self, *turns: Turn) -> None:
        self.record = record_of(turns)
        self.matching = Matching(self.record)

    def key(self, *messages: Message | str) -> Key:
        return key_of(turn(0, 0, *messages).request, self.record.normal)

    def ask(
        self, *messages: Message | str, of: str = "live", kind: CallKind = "main", nearest: bool = False
    ) -> str | None:
        """The id of the turn that answers."""
        find = self.matching.nearest if nearest else self.matching.exact
        found = find(self.key(*messages), Conversation(id=of, kind=kind))
        return None if found is None else found.turn.id


def test_the_same_call_again_gets_the_same_turn_in_any_order() -> None:
    live = Live(turn(0, 1, "a"), turn(2, 3, "b"))
    assert [live.ask(text) for text in "bababb"] == ["x2", "x0", "x2", "x0", "x2", "x2"]
    assert live.ask("c") is None


def test_what_was_asked_several_times_is_answered_in_order_and_the_last_one_from_then_on() -> None:
    live = Live(turn(0, 1, "a", outcome="refused"), turn(2, 3, "a", outcome="refused"), turn(4, 5, "a"))
    assert [live.ask("a") for _ in range(5)] == ["x0", "x2", "x4", "x4", "x4"]


def test_a_call_that_was_hung_up_on_is_the_last_to_be_chosen() -> None:
    live = Live(turn(0, 1, "a", outcome="abandoned"), turn(2, 3, "a"), turn(4, 5, "b", outcome="abandoned"))
    assert [live.ask("a"), live.ask("a"), live.ask("b")] == ["x2", "x2", "x4"]


def test_two_sub_agents_with_one_task_keep_to_one_recorded_one_each() -> None:
    live = Live(
        turn(0, 1, "go", answer=LAUNCH),
        turn(2, 3, TASK, of="a"),
        turn(2.5, 3.5, TASK, of="b"),
        turn(4, 5, TASK, said("assistant", "ok"), "more", of="a"),
        turn(4.5, 5.5, TASK, said("assistant", "ok"), "more", of="b"),
    )
    more = (TASK, said("assistant", "ok"), "more")
    assert live.ask(TASK, of="1", kind="sub_agent") == "x2"
    assert live.ask(TASK, of="2", kind="sub_agent") == "x2.5"
    assert live.ask(*more, of="2", kind="sub_agent") == "x4.5"
    assert live.ask(*more, of="1", kind="sub_agent") == "x4"
    assert live.ask(TASK, of="3", kind="sub_agent") in ("x2", "x2.5"), "nothing is consumed"


def test_sub_agents_of_one_task_that_a_record_holds_for_one_get_what_all_of_them_were_told() -> None:
    """Two ran at once: one was refused, and asked again. Both were there before an agent of that task had ended."""
    asked = turn(2, 3, TASK, of="a")
    both = [turn(4, 5, TASK, of="b", outcome="refused"), turn(4.1, 6, TASK, of="b"), turn(7, 8, TASK, of="b")]
    live = Live(turn(0, 1, "go", answer=LAUNCH), asked, *both)
    assert [live.ask(TASK, of=of, kind="sub_agent") for of in "12321"] == ["x2", "x4", "x4.1", "x7", "x2"]


def test_a_hang_up_gives_the_turn_back() -> None:
    live = Live(turn(0, 1, "a"), turn(2, 3, "a"))
    live.ask("a")
    live.matching.give_back(Conversation(id="live"), live.record.turns[0])
    assert live.ask("a") == "x0"


def test_the_nearest_turn_has_most_moves_in_common_whatever_the_system_prompt_says() -> None:
    record = (
        turn(0, 1, said("system", "v1"), "go"),
        turn(2, 3, said("system", "v1"), "go", called("t", a=1), resulted("x")),
        turn(
            4, 5, said("system", "v1"), "go", called("t", a=1), resulted("x"), called("t", a=2), resulted("y")
        ),
    )
    live = Live(*record)
    new = said("system", "v2")
    assert live.ask(new, "go", called("t", a=1), resulted("x"), "hurry", nearest=True) == "x2"
    assert live.ask(new, "go", called("t", a=1), resulted("x"), "hurry", nearest=True) == "x2", "again"


def test_the_nearest_of_equals_is_the_first_that_the_conversation_has_not_had() -> None:
    live = Live(turn(0, 1, "a"), turn(2, 3, "b"), turn(4, 5, TASK, of="sub"))
    assert [live.ask(text, nearest=True) for text in ("u", "v", "v", "w")] == ["x0", "x2", "x2", None]


def test_the_nearest_of_what_was_asked_again_is_one_after_the_other() -> None:
    """A new version of the agent is refused, asks again, and is answered; the last one it gets from then on."""
    live = Live(
        turn(0, 1, "a", outcome="refused"),
        turn(2, 3, "a", outcome="refused"),
        turn(4, 5, "a"),
        turn(6, 7, "a", said("assistant", "ok"), "b"),
    )
    assert [live.ask("u", nearest=True) for _ in range(4)] == ["x0", "x2", "x4", "x4"]
    assert live.ask("u", said("assistant", "ok"), "b", nearest=True) == "x6"


def test_a_hang_up_gives_the_nearest_turn_back() -> None:
    live = Live(turn(0, 1, "a"), turn(2, 3, "b"))
    assert live.ask("u", nearest=True) == "x0"
    live.matching.give_back(Conversation(id="live"), live.record.turns[0])
    assert live.ask("u", nearest=True) == "x0"


FORKED = (
    turn(0, 1, "go", answer=LAUNCH),
    turn(1.2, 9, TASK, of="a"),
    turn(2, 3, "go", "2", answer=Response.of(ToolCall.of("Agent", prompt="ANOTHER task of its own"))),
    turn(3.5, 8, "ANOTHER task of its own", of="b"),
    turn(4, 5, "go", "3"),
    turn(4.5, 6, "title", kind="side"),
)


@pytest.mark.parametrize(("name", "ids"), [
    (0, {"x0", "x1.2", "x2", "x3.5", "x4"}),
    (1, {"x2", "x3.5", "x4"}),
    (-1, {"x4"}),
    ("x1.2", {"x1.2"}),
    (("b", 0), {"x3.5"}),
])  # fmt: skip
def test_what_follows_a_turn_is_the_rest_of_its_conversation_and_the_sub_agents_that_begin_there(
    name: TurnName, ids: set[str]
) -> None:
    record = record_of(FORKED)
    found = following(record, Order(record).launches, find_turn(record, name))
    assert {record.turns[number].turn.id for number in found} == ids


@pytest.mark.parametrize(("name", "problem"), [
    ("x9", "has no turn 'x9'; its turns are: x0, x2, x4, "),
    (3, "the main conversation of rollout r has no turn 3; its turns are: 0 to 2"),
    (-4, "no turn -4; its turns are: 0 to 2"),
    (("c", 0), "rollout r has no conversation 'c'; its conversations are: main, sub-agent 1, sub-agent 2"),
])  # fmt: skip
def test_a_turn_that_is_not_there_is_told_with_what_is(name: TurnName, problem: str) -> None:
    with pytest.raises(LookupError, match=problem):
        find_turn(record_of(FORKED), name)


@pytest.mark.parametrize(
    ("name", "id"),
    [("sub-agent 1", "x3.5"), (("sub-agent 2", -1), "x1.2"), (("main", 1), "x2"), (("b", 0), "x3.5")],
)
def test_a_conversation_goes_by_its_name_in_show_too(name: TurnName, id: str) -> None:  # noqa: A002
    """`b` is the first sub-agent whose turn was recorded."""
    assert find_turn(record_of(FORKED), name).turn.id == id


def shown(record: Record, *messages: Message | str) -> list[str]:
    live = key_of(turn(0, 0, *messages).request, record.normal)
    return difference(shown_form(record.turns[0].key), shown_form(live)).splitlines()


def test_a_difference_shows_where_two_calls_part() -> None:
    record = record_of([turn(0, 1, "go", called("t", a=1), resulted("x"), "and then " + "y" * 300)])
    assert shown(record, "go", called("t", a=1), resulted("x"), "and then not") == [
        "@@ -6,3 +6,3 @@", "        - {a: 1}", '    - tool result: ""',
        "-   - user: and then " + "y" * 151 + "…", "+   - user: and then not",
    ]  # fmt: skip
    assert shown(record, "go", called("t", a=2)) == [
        "@@ -4,5 +4,3 @@", "    - assistant call:", "        - t", "-       - {a: 1}",
        '-   - tool result: ""', "-   - user: and then " + "y" * 151 + "…", "+       - {a: 2}",
    ]  # fmt: skip


def test_a_difference_shows_only_the_moves_that_differ_each_from_where_it_does() -> None:
    git, skills = "on branch main, " + "z" * 300, "y" * 300
    record = record_of(
        [turn(0, 1, said("system", f"{git}clean"), said("user", "go"), said("system", skills), "now")]
    )
    lines = shown(record, said("system", f"{git}dirty"), said("user", "go"), said("system", skills), "then")
    assert [line for line in lines if line[0] in "-+"] == [
        f"-   - system: …{'z' * 40}clean",
        f"+   - system: …{'z' * 40}dirty",
        "-   - user: now",
        "+   - user: then",
    ]


def test_a_difference_of_many_moves_is_shown_only_so_far() -> None:
    record = record_of([turn(0, 1, "go")])
    more = [
        each for number in range(50) for each in (said("assistant", f"{number}"), said("user", f"{number}"))
    ]
    lines = shown(record, "go", *more)
    assert lines[3] == '+   - assistant: "0"'
    assert lines[-1] == "… and more"


def test_a_difference_of_tools_is_one_too() -> None:
    record = record_of([turn(0, 1, "go")])
    live = record.turns[0].key._replace(tools=("u",))
    assert difference(shown_form(record.turns[0].key), shown_form(live)).splitlines()[1:3] == [
        "- tools: [t]",
        "+ tools: [u]",
    ]


def test_a_move_whose_json_a_mask_has_broken_is_shown_as_text() -> None:
    record = record_of([turn(0, 1, Message("user", (Opaque("anthropic_messages", {"n": 1234567e8}),)))])
    assert "user opaque" in str(shown_form(record.turns[0].key))
