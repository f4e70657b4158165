"""A script of rules says to each request what was written down for it, and nothing else."""

import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import ask, bearer
from triocept import (
    Message,
    Refusal,
    Request,
    Response,
    Rollout,
    ScriptedModel,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    serve_endpoint,
)
from triocept.errors import ScriptExhausted
from triocept.handlers import Conditions, Fault, ShadowedRule, Stream, Template, otherwise, when
from triocept.handlers.script import NotAReply
from triocept.types import Media, OutputFormat

USER = Message("user", (Text("what is the weather"),))
CALLED = Message("assistant", (ToolCall("search", "{}", "c1"),))
RESULT = Message("tool", (ToolResult(id="c1", content=(Text("42 hits"),)),))
SYSTEM = Message("system", (Text("You are a cook."),))


def request(*messages: Message, **fields: Any) -> Request:
    given = tuple(messages) or (USER,)
    return Request(dialect="openai_chat", **{"model": "gpt-5", "messages": given, **fields})


async def said(script: ScriptedModel, *texts: str) -> list[str]:
    """What it answers to these, one after the other."""
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
            for text in texts:
                await ask(rollout, text)
    return [
        turn.response.text if turn.response else str(turn.error and turn.error.status)
        for turn in rollout.trace
    ]


HOLDS: list[tuple[dict[str, Any], Request, Request]] = [
    ({"text": "weather"}, request(), request(Message("user", (Text("Weather"),)))),
    ({"text": "weather"}, request(USER, CALLED, RESULT), request(SYSTEM)),
    ({"text": "weather"}, request(USER, Message("user", (Media(kind="image", url="x"),))), request(RESULT)),
    ({"text": re.compile("^what")}, request(), request(Message("user", (Text("so what"),)))),
    ({"system": "cook"}, request(SYSTEM, USER), request()),
    ({"system": "later"}, request(USER, Message("developer", (Text("later"),))), request(SYSTEM)),
    ({"model": "gpt-5"}, request(model="gpt-5-2025-08-07"), request(model="gpt-5-mini")),
    (
        {"model": "claude-haiku-4-5"},
        request(model="claude-haiku-4-5-20251001"),
        request(model="claude-haiku-4"),
    ),
    ({"model": re.compile("mini")}, request(model="gpt-5-mini"), request()),
    ({"tool_result": "42"}, request(USER, CALLED, RESULT), request(USER, CALLED, RESULT, CALLED)),
    ({"tool_result": True}, request(USER, CALLED, RESULT), request()),
    ({"tool_result": False}, request(), request(USER, CALLED, RESULT)),
    ({"result_of": "search"}, request(USER, CALLED, RESULT), request(tools=(Tool(name="search"),))),
    ({"offered_tool": "search"}, request(tools=(Tool(name="search"),)), request(USER, CALLED, RESULT)),
    ({"output": "json_schema"}, request(output_format=OutputFormat(kind="json_schema")), request()),
    ({"output": "text"}, request(), request(output_format=OutputFormat(kind="json_object"))),
    ({"predicate": lambda asked: len(asked.messages) == 1}, request(), request(SYSTEM, USER)),
    ({"text": "weather", "system": "cook"}, request(SYSTEM, USER), request()),
]


@pytest.mark.parametrize(("said", "yes", "no"), HOLDS)
def test_a_condition_holds_of_one_request_and_not_of_another(
    said: dict[str, Any], yes: Request, no: Request
) -> None:
    assert Conditions(**said).holds(yes)
    assert not Conditions(**said).holds(no)
    assert list(Conditions(**said).failures(no)) != []


async def test_each_request_gets_what_its_rule_says_and_plain_replies_answer_the_rest_in_order() -> None:
    script = ScriptedModel(
        [
            when(text="weather").reply("sun", "rain"), when(text="joke").cycle("one", "two"),
            when(text="who").repeat("me"), "first", "second",
        ],
    )  # fmt: skip
    asked = ["joke", "a", "weather", "who", "joke", "weather", "joke", "who", "weather"]
    assert script.remaining == 4
    answers = await said(script, *asked)
    assert answers == ["one", "first", "sun", "me", "two", "rain", "one", "me", "second"]
    assert script.remaining == 0
    assert script.unused == ()


async def test_a_plain_reply_before_a_rule_is_given_whatever_is_asked() -> None:
    script = ScriptedModel(["first", when(text="weather").reply("sun"), otherwise("hm", "well")])
    assert await said(script, "weather", "x", "weather", "weather", "x") == [
        "first", "hm", "sun", "well", "hm",
    ]  # fmt: skip


async def test_two_rules_for_the_same_are_used_one_after_the_other() -> None:
    script = ScriptedModel([when(text="a").reply(Fault.status(429), "x"), when(text="a").repeat("y")])
    assert await said(script, "a", "a", "a", "a") == ["429", "x", "y", "y"]


async def test_every_kind_of_reply_may_stand_in_a_rule() -> None:
    replies = (0.01, "text", Refusal(400, "no"), lambda asked: "made", Template("{text}!"), Stream("a", "b"))
    script = ScriptedModel([when(text="go").reply(*replies, Response.of("whole"), ["two", " parts"])])
    assert script.remaining == 7
    assert await said(script, *["go"] * 7) == ["text", "400", "made", "go!", "ab", "whole", "two parts"]


async def test_what_is_left_is_told_with_its_place() -> None:
    script = ScriptedModel(["a", 0.5, "b", when(text="x").reply("c", "d"), otherwise("e")])
    await said(script, "1", "2", "x")
    assert script.remaining == 1
    assert script.unused == ("replies[3], when(text='x'), reply 1: 'd'",)
    assert repr(script) == "<ScriptedModel: 1 of 4 replies left, one answers any number of times>"


def test_a_script_of_rules_alone_says_how_many_there_are() -> None:
    rules = [when(text="a").repeat("x"), otherwise("e")]
    assert repr(ScriptedModel(rules)) == "<ScriptedModel: 2 answer any number of times>"
    assert repr(ScriptedModel(["a"])) == "<ScriptedModel: 1 of 1 replies left>"
    assert repr(ScriptedModel([])) == "<ScriptedModel: 0 of 0 replies left>"


async def test_a_request_that_no_rule_is_for_is_shown_with_the_closest_rules() -> None:
    rules = [
        when(text="joke", system="clown", model="gpt-4").reply("far"),
        when(text="weather", offered_tool="search").reply("near"),
        when(text="time").reply("near, too"),
        when(model=re.compile("claude")).reply("and this"),
    ]
    with pytest.raises(ScriptExhausted) as caught:
        await said(ScriptedModel(rules), "what is the weather")
    first, *closest, _, asked, _ = str(caught.value).splitlines()
    assert first == "the script has no reply for this request; its closest entries are:"
    assert closest == [
        "  replies[1], when(text='weather', offered_tool='search'): no tool is offered",
        "  replies[2], when(text='time'): the user says 'what is the weather'",
        "  replies[3], when(model=/claude/): the model is 'm'",
    ]
    assert "… and 1 more" in str(caught.value)
    assert asked == "The request was openai_chat, model 'm', 1 message; the last messages:"


async def test_a_rule_that_has_said_all_is_told_to_have_said_it() -> None:
    with pytest.raises(ScriptExhausted, match=r"when\(text='a'\): its 2 replies are used up"):
        await said(ScriptedModel([when(text="a").reply("x", 0, "y")]), "a", "a", "a")


async def test_a_hang_up_during_the_pause_of_a_rule_gives_the_reply_back() -> None:
    script = ScriptedModel([when(text="hello").cycle(30, "worth it")])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        for number in (1, 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, rollout, "hello")
                while len(rollout.calls) < number:
                    await trio.sleep(0.005)
                await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
            while len(rollout.trace) < number:
                await trio.sleep(0.005)
    source = script._sources[0]
    taken = source.take(request(Message("user", (Text("hello"),))))
    assert (taken.reply, taken.pause, taken.number) == ("worth it", 30, 1)


SHADOWED: list[tuple[list[Any], str]] = [
    (
        [when(text="a").repeat("x"), when(text="bab").reply("y")],
        r"replies\[1\], when\(text='bab'\)\) is never.*\[0\]",
    ),
    ([when(text="a").repeat("x"), when(text="a", model="m").repeat("y")], r"replies\[1\]"),
    ([otherwise("x"), when(text="a").reply("y")], r"replies\[1\].*replies\[0\], otherwise"),
    ([otherwise("x"), "plain"], r"replies\[1\], given to every request"),
    ([when(tool_result=True).repeat("x"), when(tool_result="a").reply("y")], r"replies\[1\]"),
    ([when(tool_result=True).repeat("x"), when(result_of="t").reply("y")], r"replies\[1\]"),
    ([when(model="gpt-5").cycle("x"), when(model="gpt-5-2025-08-07").reply("y")], r"replies\[1\]"),
    ([when(text=re.compile("a")).repeat("x"), "b", when(text=re.compile("a")).reply("y")], r"replies\[2\]"),
]


@pytest.mark.parametrize(("rules", "words"), SHADOWED)
def test_a_rule_that_no_request_can_reach_is_an_error_with_both_places(rules: list[Any], words: str) -> None:
    with pytest.raises(ShadowedRule, match=words):
        ScriptedModel(rules)


@pytest.mark.parametrize("rules", [
    [when(text="a").reply("x"), when(text="a").reply("y")],
    [when(text="ab").repeat("x"), when(text="a").reply("y")],
    [when(text=re.compile("a")).repeat("x"), when(text=re.compile("ab")).reply("y")],
    [when(text=re.compile("a")).repeat("x"), when(text="a").reply("y")],
    [when(text="a", model="m").repeat("x"), when(text="a").reply("y")],
    [when(tool_result=True).repeat("x"), when(tool_result=False).reply("y")],
    [when(tool_result="a").repeat("x"), when(tool_result=True).reply("y")],
    [when(offered_tool="a").repeat("x"), when(result_of="a").reply("y")],
    ["a", "b", otherwise("x")],
])  # fmt: skip
def test_a_rule_that_some_request_reaches_is_none(rules: list[Any]) -> None:
    assert ScriptedModel(rules).remaining < 3


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: when(txet="a"),
        TypeError,
        r"when\(\) got an unexpected keyword argument 'txet'; did you mean text\?",
    ),
    (lambda: when(tool="a"), TypeError, r"'tool'; did you mean offered_tool=… .* or result_of=…"),
    (lambda: when(), TypeError, r"otherwise\(…\) \(used each time\)"),
    (lambda: when(text=3), TypeError, "when: text must be a str or a compiled pattern, not int: 3"),
    (lambda: when(text=re.compile(b"a")), TypeError, "not of bytes"),
    (lambda: when(text=""), ValueError, "an empty text would match every request"),
    (lambda: when(result_of=""), ValueError, "no tool has an empty name"),
    (lambda: when(offered_tool=True), TypeError, "offered_tool must be a str"),
    (lambda: when(output="json"), ValueError, "'text', 'json_object' or 'json_schema', not 'json'"),
    (lambda: when(predicate="a"), TypeError, "predicate must be a function"),
    (lambda: when(predicate=lambda: True), TypeError, "does not take one argument"),
    (lambda: when(predicate=later), TypeError, "is async"),
    (lambda: when(text="a").reply(), NotAReply, r"when\(text='a'\)\.reply must end with a reply"),
    (lambda: when(text="a").reply("x", 1), NotAReply, "must end with a reply"),
    (lambda: when(text="a").reply("x", None), NotAReply, r"reply: reply 1 is not a reply: None"),
    (lambda: when(text="a").repeat(1), NotAReply, "only a pause: add a reply"),
    (
        lambda: ScriptedModel([42]),
        NotAReply,
        r'replies\[0\] is a pause of 42 s, but no reply .*write "42" if it is a text',
    ),
    (
        lambda: ScriptedModel(["a", 0.5, 2]),
        NotAReply,
        r"replies\[2\] is a pause of 2 s, but no reply follows it",
    ),
    (lambda: otherwise(), NotAReply, "otherwise must end with a reply"),
    (
        lambda: ScriptedModel([when(text="a")]),
        NotAReply,
        r"replies\[0\] is a rule without a reply: write when\(text='a'\)",
    ),
    (lambda: ScriptedModel(when(text="a").reply("b")), TypeError, "a script must be a list"),
    (
        lambda: ScriptedModel([1, when(text="a").reply("b")]),
        NotAReply,
        r"replies\[0\] is a pause before a rule",
    ),
    (lambda: Template("{txet}"), ValueError, "braces must contain one of text, system"),
    (lambda: Template("{text.__class__}"), ValueError, "braces must contain"),
    (lambda: Template("{text!r}"), ValueError, "braces must contain"),
    (lambda: Template("{text:>10}"), ValueError, "braces must contain"),
    (lambda: Template("{0}"), ValueError, "braces must contain"),
    (lambda: Template('{"a": 1}'), ValueError, "write a literal brace twice"),
    (lambda: Template("{"), ValueError, "write a literal brace twice"),
    (lambda: Template(3), TypeError, "a Template's text must be a str"),
]


async def later(asked: Request) -> bool:
    return True


@pytest.mark.parametrize(("wrong", "kind", "words"), WRONG)
def test_a_mistake_in_a_script_is_told_where_it_is_made(
    wrong: Callable[[], object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        wrong()


def test_a_template_says_what_the_request_says_and_nothing_of_it_is_run() -> None:
    asked = request(SYSTEM, USER, CALLED, RESULT, tools=(Tool(name="a"), Tool(name="b")))
    template = Template("{{{text}}} {system} {tool_result} {model} {dialect} {tools}")
    assert template(asked) == "{what is the weather} You are a cook. 42 hits gpt-5 openai_chat a, b"
    assert Template("<{text}{tool_result}>")(request(SYSTEM)) == "<>"
    assert Template("{text}")(request(Message("user", (Text("{model}"),)))) == "{model}"


async def test_anthropics_tool_results_are_results_too() -> None:
    """There they stand in a message of the user's."""
    script = ScriptedModel(
        [
            when(text="go", tool_result=False).reply(ToolCall.of("search")),
            when(text="go", result_of="search", tool_result="42").reply(Template("{tool_result}")),
        ]
    )
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        messages: list[Any] = [{"role": "user", "content": "go"}]
        answer = await post(rollout, messages)
        (use,) = answer["content"]
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": "42"}
        messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        answer = await post(rollout, messages)
    assert answer["content"][0]["text"] == "42"
    assert script.remaining == 0


async def post(rollout: Rollout, messages: list[Any]) -> Any:
    async with httpx2.AsyncClient() as http:
        answer = await http.post(
            rollout.base_url("anthropic_messages") + "/v1/messages",
            headers=bearer(rollout),
            json={"model": "m", "max_tokens": 9, "messages": messages},
        )
    return answer.json()
