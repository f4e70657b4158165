"""The form in which a cassette compares calls: equal for what says the same, and a fixed point."""

from base64 import b64encode, encodebytes
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import strategies as some
from triocept import Message, Request, Text, Tool, ToolCall, ToolResult
from triocept._recording.cassettes.request_form import key_of, normal_form, restored_form, without_date
from triocept.dialects import DIALECTS
from triocept.types import Media, OutputFormat, Reasoning, ReasoningAsk, Sampling, ToolChoice

TALKING = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")
PNG = "iVBORw0KGgo="
WRAPPED_AND_URL_SAFE = encodebytes(bytes(range(256))).decode().translate(str.maketrans("+/", "-_", "="))
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}

words = st.text("abc é😀", min_size=1, max_size=8).filter(str.strip)
users = st.lists(words, min_size=1, max_size=2).map(
    lambda each: [Message("user", (Text(text),)) for text in each]
)
call_lists = st.lists(
    st.tuples(
        st.sampled_from(["search", "fetch"]),
        st.dictionaries(words, st.integers(0, 9) | words, max_size=2),
        words,
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def turns_with_tools(draw: st.DrawFn) -> list[Message]:
    """An assistant that calls tools, and what they gave."""
    calls = draw(call_lists)
    start = draw(st.integers(0, 1000))
    said = [Text(draw(words))] if draw(st.booleans()) else []
    made = [
        ToolCall(name, msgspec.json.encode(arguments).decode(), f"call_{start + number}")
        for number, (name, arguments, _) in enumerate(calls)
    ]
    results = [
        Message("tool", (ToolResult(id=call.id, name=call.name, content=(Text(result),)),))
        for call, (_, _, result) in zip(made, calls, strict=True)
    ]
    return [Message("assistant", (*said, *made)), *results]


@st.composite
def conversations(draw: st.DrawFn) -> Request:
    """What an application asks that knows several SDKs."""
    messages = [Message("system", (Text(draw(words)),)), *draw(users)]
    for _ in range(draw(st.integers(0, 2))):
        messages += draw(turns_with_tools())
        if draw(st.booleans()):
            messages += [Message("assistant", (Text(draw(words)),)), *draw(users)]
    tools = draw(st.lists(st.sampled_from(["search", "fetch"]), unique=True))
    return Request(
        dialect="",
        model="m",
        messages=tuple(messages),
        tools=tuple([Tool(name=name, description="It does.", parameters=SCHEMA) for name in tools]),
        sampling=Sampling(max_output_tokens=100),
    )


def through(request: Request, dialect: str) -> Request:
    """The request, as it arrives in a dialect."""
    codec = DIALECTS[dialect]
    document = msgspec.json.decode(msgspec.json.encode(codec.render_request(request)))
    document.pop("model", None)
    return msgspec.structs.replace(codec.parse_request({"model": "m", **document}), model="m")


@given(conversations())
@settings(max_examples=60, deadline=None)
def test_a_conversation_has_one_form_in_every_dialect(request: Request) -> None:
    form = normal_form(request)
    for dialect in TALKING:
        assert normal_form(through(request, dialect)) == form, dialect


@pytest.mark.once
@pytest.mark.parametrize("dialect", [*TALKING, "openai_completions"])
def test_the_form_is_a_fixed_point(dialect: str) -> None:
    @given(some.any_request(dialect), st.booleans())
    @settings(max_examples=30, deadline=None)
    def check(request: Request, sampling: bool) -> None:
        form = normal_form(request, sampling=sampling)
        assert normal_form(restored_form(form), sampling=sampling) == form

    check()


def form_of(*messages: Message, **more: Any) -> dict[str, Any]:
    return normal_form(Request(dialect="", model="m", messages=messages, **more))


def said(*messages: Message) -> Any:
    return form_of(*messages)["messages"]


def test_a_form_reads_like_the_conversation() -> None:
    called = Message(
        "assistant",
        (
            Reasoning("hm"),
            Text("I look."),
            ToolCall("search", '{"q": "trio", "n": 2.0}', "call_x"),
            ToolCall("now", "", "y"),
        ),
    )
    results = Message(
        "user",
        (
            ToolResult(id="y", content=(Text("noon"),), is_error=True),
            ToolResult(id="call_x", content=(Text('{"hits": [1, 2]}'),)),
            Text("Go on."),
        ),
    )
    image = Message("user", (Media(kind="image", data=PNG), Media(kind="file", url="https://a/b")))
    assert said(Message("developer", (Text("Be brief."),)), called, results, image) == [
        {"system": "Be brief."},
        {
            "assistant": [
                {"text": "I look."},
                {"call": "search", "arguments": {"q": "trio", "n": 2}},
                {"call": "now", "arguments": {}},
            ]
        },
        {"tool": [{"json": {"hits": [1, 2]}}, {"result": "noon", "failed": True}]},
        {
            "user": [
                {"text": "Go on."},
                {"image": "sha256:4c4b6a3be1314ab86138bef4314dde02"},
                {"file": "https://a/b"},
            ]
        },
    ]


USER = Message("user", (Text("hi"),))
CALLS = Message("assistant", (ToolCall("a", "{}", "1"), ToolCall("b", "{}", "2")))


def result(identity: str, text: str) -> Message:
    return Message("tool", (ToolResult(id=identity, content=(Text(text),)),))


SAME = {
    "developer is system": ((Message("developer", (Text("a"),)),), (Message("system", (Text("a"),)),)),
    "empty texts": ((Message("user", (Text(""), Text("hi"))),), (USER,)),
    "an empty message": ((USER, Message("assistant", ())), (USER,)),
    "what was thought": ((Message("assistant", (Reasoning("hm"), Text("a"))),),
     (Message("assistant", (Text("a"),)),)),
    "cache marks": ((Message("user", (Text("hi", {"cache_control": {"type": "ephemeral"}}),)),), (USER,)),
    "an assistant's text in pieces": (
     (Message("assistant", (Text("he"),)), Message("assistant", (Text("llo"),))),
     (Message("assistant", (Text("hello"),)),)),
    "an assistant's name": ((Message("assistant", (Text("a"),), "Bob"),),
     (Message("assistant", (Text("a"),)),)),
    "Claude Code's billing line": ((Message("system", (Text("x-anthropic-billing-header: a"), Text("b"))),),
     (Message("system", (Text("b"),)),)),
    "results in another order": ((CALLS, result("2", "b"), result("1", "a")),
     (CALLS, result("1", "a"), result("2", "b"))),
    "other ids": ((CALLS, result("1", "a"), result("2", "b")),
     (Message("assistant", (ToolCall("a", "{}", "x"), ToolCall("b", "{}", "y"))),
      Message("user", (ToolResult(id="x", content=(Text("a"),)), ToolResult(id="y", content=(Text("b"),)))))),
    "JSON written otherwise": ((Message("assistant", (ToolCall("a", '{"x":1,"y":"é"}', "1"),)),),
     (Message("assistant", (ToolCall("a", '{ "y": "\\u00e9", "x": 1.0 }', "1"),)),)),
    "a file in base64 of another spelling": (
     (Message("user", (Media(kind="image", data=b64encode(bytes(range(256))).decode()),)),),
     (Message("user", (Media(kind="image", data=WRAPPED_AND_URL_SAFE),)),)),
    "a result that is JSON, written otherwise": ((CALLS, result("1", '{"x":1,"y":2}')),
     (CALLS, result("1", '{"y": 2, "x": 1}'))),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_what_means_the_same_has_the_same_form(case: str) -> None:
    one, other = SAME[case]
    assert said(*one) == said(*other)


OTHER = {
    "another text": ((USER,), (Message("user", (Text("hi "),)),)),
    "another role": ((USER,), (Message("system", (Text("hi"),)),)),
    "another speaker": ((Message("user", (Text("hi"),), "Ann"),), (USER,)),
    "one text more": ((USER, USER), (USER,)),
    "other arguments": ((Message("assistant", (ToolCall("a", '{"x": 1}'),)),),
     (Message("assistant", (ToolCall("a", '{"x": "1"}'),)),)),
    "the result of another call": ((CALLS, result("1", "a")), (CALLS, result("2", "a"))),
    "results the other way round": ((CALLS, result("1", "a"), result("2", "b")),
     (CALLS, result("1", "b"), result("2", "a"))),
    "a failure": ((CALLS, result("1", "a")),
     (CALLS, Message("tool", (ToolResult(id="1", content=(Text("a"),), is_error=True),)))),
    "another image": ((Message("user", (Media(kind="image", data=PNG),)),),
     (Message("user", (Media(kind="image", data="AAAA"),)),)),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER)
def test_what_means_something_else_has_another_form(case: str) -> None:
    one, other = OTHER[case]
    assert said(*one) != said(*other)


SEARCH = Tool(name="search", description="Searches.", parameters=SCHEMA)
BESIDE: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"stream": True}, {}, True),
    ({"user": "ann", "extra": {"metadata": {"a": 1}}}, {}, True),
    ({"sampling": Sampling(temperature=0.5, max_output_tokens=9)}, {}, True),
    ({"reasoning": ReasoningAsk(effort="high")}, {}, True),
    ({"tool_choice": ToolChoice(mode="auto")}, {}, True),
    ({"tool_choice": ToolChoice(mode="required")}, {}, False),
    ({"tool_choice": ToolChoice(mode="tool", name="a")}, {"tool_choice": ToolChoice(mode="tool", name="b")},
     False),
    ({"output_format": OutputFormat(kind="json_object")}, {}, False),
    ({"output_format": OutputFormat(kind="json_schema", name="a", schema=SCHEMA, strict=True)},
     {"output_format": OutputFormat(kind="json_schema", name="b", schema=SCHEMA)}, True),
    ({"tools": (SEARCH,)}, {}, False),
    ({"tools": (SEARCH, Tool(name="a"))}, {"tools": (Tool(name="a"), SEARCH)}, True),
    ({"tools": (SEARCH,)}, {"tools": (msgspec.structs.replace(SEARCH, description="Looks."),)}, False),
    ({"tools": (SEARCH,)}, {"tools": (msgspec.structs.replace(SEARCH, parameters={"type": "object"}),)},
     False),
    ({"tools": (Tool(name="a"),)},
     {"tools": (Tool(name="a", parameters={"type": "object", "properties": {}}),)}, True),
    ({"tools": (Tool(name="a", strict=True),)}, {"tools": (Tool(name="a"),)}, True),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "same"), BESIDE)
def test_what_is_asked_beside_the_conversation_counts_if_it_is_the_applications(
    one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    assert (form_of(USER, **one) == form_of(USER, **other)) is same
    assert (key_of(form_of(USER, **one)) == key_of(form_of(USER, **other))) is same


def test_sampling_counts_where_that_is_asked() -> None:
    request = Request(
        dialect="",
        model="m",
        messages=(USER,),
        sampling=Sampling(temperature=0.5),
        reasoning=ReasoningAsk(effort="high"),
    )
    assert normal_form(request, sampling=True)["sampling"] == {
        "temperature": 0.5,
        "reasoning": {"effort": "high"},
    }
    assert "sampling" not in normal_form(request)


@pytest.mark.parametrize(("model", "bare"), [
    ("gpt-4o-2024-08-06", "gpt-4o"),
    ("claude-sonnet-4-20250514", "claude-sonnet-4"),
    ("claude-3-5-haiku@20241022", "claude-3-5-haiku"),
    ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
    ("llama-3.1-70b", "llama-3.1-70b"),
    ("gpt-4-0613", "gpt-4-0613"),
    ("-20250514", "-20250514"),
])  # fmt: skip
def test_a_model_is_known_without_the_date_of_its_version(model: str, bare: str) -> None:
    assert without_date(model) == bare
