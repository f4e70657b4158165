"""The graph of a trace: what is found step by step is what the rules say of the whole."""

import time
from itertools import groupby
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace.telling import AS_RECORDED
from triocept import Message, Request, Response, Text, Tool, ToolCall, ToolResult, Trace, Turn
from triocept._canonical.form import join_messages, message_key
from triocept._trace import graph
from triocept._trace.trace import Derived, TraceWriter

Outcome = Literal["answered", "failed", "abandoned", "refused"]


def make_turn(
    trace: Trace, messages: list[Message], answer: str | Response | None, outcome: Outcome = "answered"
) -> Turn:
    """One more turn of the trace, recorded as a rollout does."""
    tools = (Tool(name="t"),)
    request = Request(dialect="openai_chat", model="m", messages=tuple(messages), tools=tools)
    turn = Turn(
        id=f"x{len(trace)}",
        rollout="r",
        number=len(trace),
        dialect="openai_chat",
        request=AS_RECORDED(request),
        outcome=outcome,
        response=Response.of(answer) if isinstance(answer, str) else answer,
        started_at=0.0,
        duration=0.0,
    )
    TraceWriter(trace).add(turn)
    return turn


def said(*texts: str) -> list[Message]:
    """`user: …`, `assistant: …`; without a role it is the user's."""
    found = []
    for text in texts:
        role, colon, rest = text.partition(": ")
        found.append(Message(role if colon else "user", (Text(rest if colon else text),)))  # type: ignore[arg-type]
    return found


# The slow definition


def keys_of(messages: tuple[Message, ...]) -> list[tuple[bool, bytes]]:
    """The messages as keys; what the model says in a row is one. And whether it is the model's."""
    keys = []
    for role, group in groupby(messages, key=lambda message: message.role):
        same = tuple(group)
        told = [join_messages(same)] if role == "assistant" else same
        keys += [(role == "assistant", message_key(message)) for message in told]
    return keys


def slow_parents(turns: list[Turn]) -> dict[str, str | None]:
    ends: list[tuple[list[tuple[bool, bytes]], Turn]] = []
    asked: list[tuple[list[tuple[bool, bytes]], Turn]] = []
    broken: list[tuple[list[tuple[bool, bytes]], Message]] = []
    found: dict[str, str | None] = {}
    for turn in turns:
        keys = keys_of(turn.request.messages)
        found[turn.id] = slow_parent(keys, ends, asked)
        content = turn.response.content if turn.response is not None else ()
        whole = turn.outcome == "answered"
        if turn.response is None or not (whole or content):
            continue
        answer = Message("assistant", tuple(content))
        before = [each for at, each in broken if at == keys][-8:]
        for number in range(len(before) + 1):
            end = keys_of((*turn.request.messages, *before[number:], answer))
            ends.append((end, turn))
        asked.append((keys, turn))
        broken = [(at, each) for at, each in broken if at != keys] if whole else [*broken, (keys, answer)]
    return found


def slow_parent(
    keys: list[tuple[bool, bytes]],
    ends: list[tuple[list[tuple[bool, bytes]], Turn]],
    asked: list[tuple[list[tuple[bool, bytes]], Turn]],
) -> str | None:
    for length in range(len(keys), 0, -1):
        if best := best_of([turn for end, turn in ends if end == keys[:length]]):
            return best
        goes_on = length + 1 < len(keys) and keys[length][0]
        if goes_on and (best := best_of([turn for each, turn in asked if each == keys[:length]])):
            return best
    return None


def best_of(turns: list[Turn]) -> str | None:
    whole = [turn for turn in turns if turn.outcome == "answered"]
    return (whole or turns)[-1].id if turns else None


texts = st.sampled_from(["a", "b", "", "ab"])
messages = st.builds(
    lambda role, text: Message(role, (Text(text),)), st.sampled_from(["user", "assistant", "system"]), texts
)
moves = st.tuples(
    st.integers(0, 9),
    st.sampled_from(["keep", "retell", "drop", "half", "same"]),
    st.lists(messages, max_size=2),
    texts,
    st.sampled_from(["answered", "answered", "answered", "failed", "abandoned", "refused"]),
)


@given(st.lists(moves, max_size=12), st.lists(st.integers(0, 12), max_size=3))
@settings(max_examples=400, deadline=None)
def test_parents_found_step_by_step_are_those_of_the_slow_definition(
    calls: list[tuple[int, str, list[Message], str, Outcome]], looks: list[int]
) -> None:
    trace = Trace("r")
    for number, (which, how, new, answer, outcome) in enumerate(calls):
        old: list[Message] = []
        if len(trace):
            earlier = trace[which % len(trace)]
            told = earlier.response.text if earlier.response is not None else ""
            old = list(earlier.request.messages)
            kept = {"keep": told, "retell": f"say: {told}", "half": told[:1]}
            old += [Message("assistant", (Text(kept[how]),))] if how in kept else []
        again = [msgspec.json.decode(msgspec.json.encode(each), type=Message) for each in old]
        make_turn(trace, [*again, *new], answer if outcome != "refused" else None, outcome)
        if number in looks:
            trace.parents  # noqa: B018 - whenever somebody asks
    assert trace.parents == slow_parents(list(trace))


def test_each_distinct_message_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def key(message: Message) -> bytes:
        hashed.append(message.text)
        return message_key(message)

    monkeypatch.setattr(graph, "message_key", key)
    trace, history, aside = Trace("r"), said("system: s", "task"), said("system: other", "aside")
    for number in range(50):
        make_turn(trace, history, f"answer {number}")
        history = [*history, *said(f"assistant: answer {number}", f"result {number}")]
        make_turn(trace, aside, f"aside {number}")
        aside = [*aside, *said(f"assistant: aside {number}", f"more {number}")]
        assert len(trace.parents) == len(trace)
        assert len(trace.conversations) == len(trace)
    assert len(hashed) == 4 + 100 + 98, (
        "what is asked first, each answer, and each result; not what comes back as it was said"
    )


def test_the_graph_of_a_long_run_costs_little_whenever_it_is_asked_for() -> None:
    trace, history = Trace("r"), said("system: s", "task")
    costs = []
    for number in range(500):
        make_turn(trace, history, f"answer {number}")
        history = [*history, *said(f"assistant: answer {number}", f"result {number}")]
        start = time.process_time()
        trace.parents  # noqa: B018
        trace.conversations  # noqa: B018
        costs.append(time.process_time() - start)
    late = sorted(costs[-50:])[25]
    assert late < 0.005, "it was 1.2 s"


def test_the_last_turns_of_a_thousand_that_send_everything_again_cost_about_what_the_first_did() -> None:
    trace, history = Trace("r"), said("system: s", "task")
    for number in range(1000):
        make_turn(trace, history, f"answer {number}")
        history = [*history, *said(f"assistant: answer {number}", f"result {number}")]

    def late_by_early() -> float:
        turns: list[Turn] = []
        derived, costs = Derived(turns), []
        for turn in trace:
            turns.append(turn)
            start = time.thread_time()
            assert derived.parents
            costs.append(time.thread_time() - start)
        return sorted(costs[-100:])[50] / sorted(costs[10:110])[50]

    assert min(late_by_early() for _ in range(5)) < 3, "it was over 5: a look at each message that came again"


# What agents make of their answers


def test_a_name_and_other_ids_make_no_other_message() -> None:
    call, named = ToolCall("t", '{"n": 1}', "call_1"), ToolCall("t", '{"n":1.0}', "x")
    assert message_key(Message("assistant", (call,))) == message_key(Message("assistant", (named,), "boss"))
    results = [Message("tool", (ToolResult(id=each, content=(Text("a"),)),)) for each in ("call_1", "x")]
    assert message_key(results[0]) == message_key(results[1])
    assert message_key(Message("user", (Text("a"),), "ann")) != message_key(
        Message("user", (Text("a"),), "bob")
    )


def test_the_half_of_an_answer_that_broke_is_continued_too() -> None:
    trace = Trace("r")
    make_turn(trace, said("task"), "hel", "failed")
    make_turn(trace, said("task", "assistant: hel", "go on"), "well", "abandoned")
    make_turn(trace, said("task", "assistant: hel", "go on"), "well then")
    make_turn(
        trace, said("task", "assistant: hel", "go on", "assistant: well", "assistant: well then", "a"), "x"
    )
    make_turn(trace, said("task", "assistant: hel", "go on", "assistant: well then", "a"), "x")
    assert trace.parents == {"x0": None, "x1": "x0", "x2": "x0", "x3": "x2", "x4": "x2"}
    assert {each.kind for each in trace.conversations.values()} == {"main"}
    assert len({each.id for each in trace.conversations.values()}) == 1


def test_a_broken_answer_takes_nothing_from_a_whole_one() -> None:
    trace = Trace("r")
    make_turn(trace, said("task"), "hello")
    make_turn(trace, said("task"), "hello", "abandoned")
    make_turn(trace, said("task", "assistant: hello", "a"), "x")
    assert trace.parents["x2"] == "x0"


def test_an_answer_in_other_words_is_continued_and_a_beginning_of_one_is_not() -> None:
    trace = Trace("r")
    make_turn(trace, said("system: s", "task"), "I look.")
    make_turn(trace, said("system: s", "task", "assistant: I look. Calling tools: […]", "result"), "done")
    make_turn(trace, said("system: s", "task", "assistant: {"), "}")
    assert trace.parents == {"x0": None, "x1": "x0", "x2": None}
    conversations = trace.conversations
    assert conversations["x0"] == conversations["x1"] == conversations["x2"]


def test_of_a_conversation_that_has_grown_only_what_is_new_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Message] = []
    number_of_one = graph._Nodes._number_of_one

    def look(nodes: graph._Nodes, message: Message) -> int:
        looked.append(message)
        return number_of_one(nodes, message)

    monkeypatch.setattr(graph._Nodes, "_number_of_one", look)
    trace, messages = Trace("r"), said("task")
    for number in range(100):
        make_turn(trace, messages, f"answer {number}")
        messages = [*messages, *said(f"assistant: answer {number}", f"task {number}")]
    assert trace.parents["x99"] == "x98"
    assert len(looked) < 500


def test_a_dropped_answer_begins_no_conversation() -> None:
    trace = Trace("r")
    make_turn(trace, said("system: s", "task"), "nonsense")
    make_turn(trace, said("system: s", "task", "that was nonsense"), "done")
    assert trace.parents == {"x0": None, "x1": None}
    assert trace.conversations["x1"] == trace.conversations["x0"]


def test_sub_agents_of_the_same_prompt_or_system_stay_apart() -> None:
    trace = Trace("r")
    make_turn(trace, said("system: main", "task"), "two helpers")
    make_turn(trace, said("system: sub", "count"), "one")
    make_turn(trace, said("system: sub", "count files"), "one")
    make_turn(trace, said("system: sub", "count"), "two")
    make_turn(trace, said("system: sub", "count files", "assistant: one", "go on"), "done")
    make_turn(trace, said("system: main", "task", "assistant: two helpers", "they say"), "done")
    found = list(trace.conversations.values())
    assert [each.kind for each in found] == ["main", *["sub_agent"] * 4, "main"]
    assert len({each.id for each in found[:4]}) == 4
    assert (found[4], found[5]) == (found[2], found[0])
