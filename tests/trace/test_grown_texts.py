"""Conversations without tools that go on in a longer text (a program of DSPy), and many that do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trace.telling import AS_RECORDED
from triocept import Message, Request, Response, Text, Trace, Turn
from triocept._trace import conversations
from triocept._trace.conversations import _is_grown
from triocept._trace.trace import TraceWriter


def tell(trace: Trace, text: str) -> str:
    """One more call, without tools; its id."""
    said = (Message("system", (Text("You answer."),)), Message("user", (Text(text),)))
    turn = Turn(
        id=f"x{len(trace)}",
        rollout="r",
        number=len(trace),
        dialect="openai_chat",
        request=AS_RECORDED(Request(dialect="openai_chat", model="m", messages=said)),
        outcome="answered",
        response=Response.of("a thought"),
        started_at=0.0,
        duration=0.0,
    )
    TraceWriter(trace).add(turn)
    return turn.id


def ask(trace: Trace, text: str) -> str:
    """The same; the id of its conversation."""
    turn = tell(trace, text)
    return trace.conversations[turn].id


def is_grown_slowly(new: str, old: str) -> bool:
    """The definition: every place is tried."""
    more = len(new) - len(old)
    return more > 0 and any(new == old[:at] + new[at : at + more] + old[at:] for at in range(len(old) + 1))


@given(
    old=st.text("ab", max_size=300), put=st.text("abc", max_size=5), part=st.floats(0, 1), flip=st.booleans()
)
def test_a_text_has_grown_wherever_something_was_put_in(old: str, put: str, part: float, flip: bool) -> None:
    at = int(part * len(old))
    new = old[:at] + put + old[at:]
    if flip and new:
        new = new[: at // 2] + "c" + new[at // 2 + 1 :]
    assert _is_grown(new, old) == is_grown_slowly(new, old)


@pytest.mark.parametrize("at", [0, 1, 70, 150, 299, 300])
def test_a_call_that_says_more_in_the_same_text_goes_on_with_its_conversation(at: int) -> None:
    trace, text = Trace("r"), "".join(f"{number:03}" for number in range(100))
    mine = ask(trace, text)
    for number in range(20):
        assert ask(trace, f"Question {number}? In one word, please.") != mine
    assert ask(trace, f"{text[:at]} a thought, {text[at:]}") == mine


def test_programs_that_take_turns_each_go_on_with_their_own() -> None:
    trace, template = (
        Trace("r"),
        "[[ ## question ## ]]\n{}\n[[ ## trajectory ## ]]\n{}\nRespond with `answer`.",
    )
    first = [ask(trace, template.format(f"What is {number:02}?", "")) for number in range(32)]
    assert len(set(first)) == 32
    assert [ask(trace, template.format(f"What is {number:02}?", "I look.")) for number in range(32)] == first


def test_what_a_question_costs_does_not_grow_with_the_questions_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []

    def look(new: str, old: str) -> bool:
        looked.append(new)
        return _is_grown(new, old)

    monkeypatch.setattr(conversations, "_is_grown", look)
    trace = Trace("r")
    for number in range(300):
        tell(trace, f"Question {number}: what is {number} times {number}?")
    assert len(set(trace.conversations.values())) == 300
    assert len(looked) < 300 * 80
