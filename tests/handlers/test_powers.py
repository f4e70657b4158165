"""Handlers around handlers: what the agent gets, what the turn keeps, and how they compose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import msgspec
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from triocept import (
    Exchange,
    Handler,
    Limits,
    Message,
    Request,
    Response,
    Text,
    Tool,
    ToolCall,
    UpstreamError,
)
from triocept._rollout.draft import AHEAD, open_draft, pass_on
from triocept.errors import UpstreamTruncated
from triocept.handlers import (
    Decision,
    Fault,
    ScriptedModel,
    approve,
    best_of,
    limits,
    rewrite,
    stop_when,
    withhold,
)
from triocept.testing import open_memory_agent
from triocept.types import Event, Media, PartDelta, ToolChoice, ToolResult

STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def shout(response: Response) -> Response:
    upper = [Text(part.text.upper()) if isinstance(part, Text) else part for part in response.content]
    return msgspec.structs.replace(response, content=tuple(upper))


def shout_event(event: Event) -> Event:
    return msgspec.structs.replace(event, text=event.text.upper()) if isinstance(event, PartDelta) else event


def renamed(request: Request) -> Request:
    return msgspec.structs.replace(request, model="other")


async def streams(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        for word in ("one ", "two ", "three"):
            await stream.send(word)


@STREAMS
@pytest.mark.parametrize(
    "make", [lambda: streams, lambda: ScriptedModel(["one two three"])], ids=["streams", "whole"]
)
@pytest.mark.parametrize("options", [{"response": shout}, {"event": shout_event}], ids=["response", "event"])
async def test_a_changed_answer_reaches_the_agent_and_the_turn_keeps_the_original(
    make: Callable[[], Handler], options: dict[str, object], stream: bool
) -> None:
    async with open_memory_agent(rewrite(make(), **options)) as agent:  # type: ignore[arg-type]
        assert (await agent.ask("hi", stream=stream)).text == "ONE TWO THREE"
        (turn,) = agent.rollout.trace
    assert turn.rewritten
    (draft,) = turn.drafts
    assert draft.response is not None
    assert (draft.why, draft.response.text, draft.counted) == ("rewrite", "one two three", False)


async def test_a_changed_request_is_answered_and_the_turn_has_both() -> None:
    seen: list[str] = []

    async def model(exchange: Exchange) -> None:
        seen.append(exchange.request.model)
        await exchange.respond("hello")

    async with open_memory_agent(rewrite(model, request=renamed), model="mine") as agent:
        await agent.ask("hi")
        (turn,) = agent.rollout.trace
    assert seen == ["other"]
    assert turn.request.model == "mine"
    assert turn.drafts[0].changed
    assert not turn.rewritten


async def test_an_inner_handler_waits_for_an_outer_one_that_reads_slowly() -> None:
    sent = 0

    async def inner(exchange: Exchange) -> None:
        nonlocal sent
        async with exchange.open_stream() as stream:
            for number in range(5 * AHEAD):
                await stream.send(f"{number} ")
                sent += 1

    async def outer(exchange: Exchange) -> None:
        async with open_draft(exchange, inner) as draft:
            await wait_all_tasks_blocked()
            assert AHEAD / 2 < sent <= AHEAD
            await pass_on(exchange, draft, why="slow")

    async with open_memory_agent(outer) as agent:
        answer = await agent.ask("hi", stream=True)
    assert answer.text.split() == [str(number) for number in range(5 * AHEAD)]


async def test_events_flow_while_the_inner_handler_still_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for word in ("one ", "two"):
                await stream.send(word)
                await trio.sleep(10)

    async with open_memory_agent(rewrite(slow, event=shout_event)) as agent:
        async with agent.open_stream("hi") as events:
            times = [
                (event.text, round(trio.current_time()))
                async for event in events
                if isinstance(event, PartDelta)
            ]
    assert [text for text, _ in times] == ["ONE ", "TWO"]
    assert times[1][1] - times[0][1] == 10


@STREAMS
@pytest.mark.parametrize(
    ("error", "status"), [(UpstreamError("down", status=503), 503), (ValueError("a bug"), 500)]
)
async def test_an_error_of_the_inner_handler_has_its_usual_effect(
    error: Exception, status: int, stream: bool
) -> None:
    async def fails(exchange: Exchange) -> None:
        raise error

    async def run() -> None:
        async with open_memory_agent(rewrite(fails, event=shout_event)) as agent:
            with pytest.raises(UpstreamError) as caught:
                await agent.ask("hi", stream=stream)
            assert caught.value.status == status

    if status == 500:
        with pytest.raises(ValueError, match="a bug"):
            await run()
    else:
        await run()


async def test_a_stream_that_breaks_inside_breaks_outside_too() -> None:
    async def breaks(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise UpstreamError("lost")

    async with open_memory_agent(rewrite(breaks, event=shout_event)) as agent:
        with pytest.raises((UpstreamError, UpstreamTruncated)):
            await agent.ask("hi", stream=True)
        (turn,) = agent.rollout.trace
    assert turn.outcome == "refused"
    assert turn.response is not None
    assert turn.response.text == "HALF"


async def test_raw_bytes_are_passed_on() -> None:
    async with open_memory_agent(rewrite(Fault.status(429).__call__, response=shout)) as agent:
        with pytest.raises(UpstreamError) as caught:
            await agent.ask("hi")
        assert caught.value.status == 429
    async with open_memory_agent(rewrite(Fault.html(502).__call__, response=shout)) as agent:
        with pytest.raises(UpstreamError) as caught:
            await agent.ask("hi")
        assert caught.value.status == 502


def nonsense(value: object) -> object:
    return "nonsense"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"request": nonsense}, "the result of `nonsense` takes a Request, not str"),
        ({"response": nonsense}, "`nonsense` returned str.*needs a Response"),
        ({"event": nonsense}, "str"),
    ],
)
async def test_a_function_that_returns_something_else_is_a_clear_fault(
    options: dict[str, object], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        async with open_memory_agent(rewrite(streams, **options)) as agent:  # type: ignore[arg-type]
            with pytest.raises(UpstreamError):
                await agent.ask("hi")


async def test_the_inner_handler_is_cancelled_with_the_agent(autojump_clock: trio.testing.MockClock) -> None:
    cancelled = trio.Event()

    async def waits(exchange: Exchange) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with open_memory_agent(rewrite(waits, response=shout)) as agent:
        with trio.move_on_after(1):
            await agent.ask("hi")
        with trio.fail_after(30):
            await cancelled.wait()
        assert agent.rollout.trace[0].outcome == "abandoned"


def longest(answers: Sequence[Response]) -> int:
    return max(range(len(answers)), key=lambda place: len(answers[place].text))


async def test_the_best_of_three_is_the_answer_and_the_others_are_kept_and_counted() -> None:
    model = ScriptedModel(["short", "the longest one", "medium"])
    async with open_memory_agent(best_of(3, model, longest), limits=Limits(turns=3)) as agent:
        assert (await agent.ask("hi", stream=True)).text == "the longest one"
        (turn,) = agent.rollout.trace
        with pytest.raises(UpstreamError, match="3 turns"):
            await agent.ask("again")
    assert turn.response is not None
    assert [draft.counted for draft in turn.drafts] == [True, True]
    usages = [turn.response.usage, *(draft.response.usage for draft in turn.drafts if draft.response)]
    assert agent.rollout.trace.usage.output_tokens == sum(usage.output_tokens for usage in usages if usage)


async def test_an_answer_that_failed_is_left_out_of_the_best() -> None:
    calls = 0

    async def model(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        if calls != 2:
            raise UpstreamError("down", status=503)
        await exchange.respond("alive")

    async with open_memory_agent(best_of(3, model, longest)) as agent:
        assert (await agent.ask("hi")).text == "alive"
        with pytest.raises(UpstreamError) as caught:
            await agent.ask("hi")
        assert caught.value.status == 503


@pytest.mark.parametrize("place", [3, -1, "0", True, None])
async def test_a_judge_that_returns_no_index_is_a_clear_fault(place: object) -> None:
    with pytest.raises(TypeError, match="must return an index from 0 to 1, not"):
        async with open_memory_agent(best_of(2, streams, lambda answers: place)) as agent:  # type: ignore[arg-type, return-value]
            with pytest.raises(UpstreamError):
                await agent.ask("hi")


@STREAMS
async def test_stop_when_delivers_the_answer_and_stops_the_rollout(stream: bool) -> None:
    handler = stop_when(ScriptedModel(["not yet", "DONE", "never"]), lambda response: "DONE" in response.text)
    async with open_memory_agent(handler) as agent:
        assert (await agent.ask("hi", stream=stream)).text == "not yet"
        assert (await agent.ask("hi", stream=stream)).text == "DONE"
        with pytest.raises(UpstreamError) as caught:
            await agent.ask("hi", stream=stream)
        assert caught.value.status == 404


async def test_stop_when_may_keep_the_answer_from_the_agent() -> None:
    async def reason(response: Response) -> str:
        return "it calls a tool" if response.tool_calls else ""

    handler = stop_when(ScriptedModel([ToolCall.of("rm")]), reason, deliver=False)
    async with open_memory_agent(handler) as agent:
        with pytest.raises(UpstreamError, match="it calls a tool"):
            await agent.ask("hi", stream=True)
        (turn,) = agent.rollout.trace
    assert turn.outcome == "refused"
    assert turn.drafts[0].response is not None
    assert turn.drafts[0].response.tool_calls[0].name == "rm"


PICTURE = Media(kind="image", url="https://pictures.example/a.png")
INLINE = Media(kind="image", data="aGk=", media_type="image/png")


def asked(**more: object) -> Request:
    fields: dict[str, object] = {
        "dialect": "anthropic_messages",
        "model": "m",
        "messages": (
            Message("user", (Text("look"), PICTURE, INLINE)),
            Message("assistant", (ToolCall("see", "{}", "c1"),)),
            Message("tool", (ToolResult(id="c1", content=(PICTURE,)),)),
        ),
        "tools": (
            Tool(name="see", parameters={"type": "object"}),
            Tool(
                name="web_search", kind="server", extra={"type": "web_search_20250305", "name": "web_search"}
            ),
        ),
    }
    return Request(**(fields | more))  # type: ignore[arg-type]


async def withheld_from(request: Request, **options: object) -> tuple[Request, list[str]]:
    seen: list[Request] = []

    async def model(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.respond("ok")

    async with open_memory_agent(withhold(model, **options), dialect="anthropic_messages") as agent:  # type: ignore[arg-type]
        await agent.ask(request)
        (turn,) = agent.rollout.trace
    return seen[0], turn.notes.get("withheld", [])


async def test_provider_tools_are_withheld_and_the_model_is_told() -> None:
    request, paths = await withheld_from(
        asked(tool_choice=ToolChoice(mode="tool", name="web_search"), extra={"mcp_servers": [{"url": "x"}]}),
        network=True,
    )
    assert [tool.name for tool in request.tools] == ["see"]
    assert request.tool_choice is None
    assert "mcp_servers" not in (request.extra or {})
    assert paths == ["tools[1]", "mcp_servers"]
    assert (
        request.messages[-1].text == "Not available here: the tool web_search, mcp servers. Continue without."
    )


async def test_media_by_url_are_withheld_inline_ones_stay() -> None:
    request, paths = await withheld_from(asked(), urls=True)
    assert paths == ["messages[0].content[1]", "messages[2].content[0].content[0]"]
    media = [part for message in request.messages for part in message.content if isinstance(part, Media)]
    assert [part.data for part in media] == ["aGk="]
    request, paths = await withheld_from(asked(), media=["image"])
    assert len(paths) == 3


async def test_a_mistyped_tool_of_withhold_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    handler = withhold(ScriptedModel(["a", "b"]), tools=["seee", "web_search_20250305", "mcp__*"])
    async with open_memory_agent(handler, dialect="anthropic_messages") as agent:
        for _ in range(2):
            await agent.ask(asked())
    assert [record.getMessage() for record in caplog.records] == [
        "withhold(tools=…) names tools that the agent's requests do not offer: 'seee'; did you mean see?"
    ]


async def test_a_request_with_nothing_to_withhold_is_passed_on_unchanged() -> None:
    request, paths = await withheld_from(asked(), tools=["Bash", "web_fetch*"])
    assert not paths
    assert request.messages[-1].role != "user" or "Not available" not in request.messages[-1].text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "withhold has nothing to remove"),
        ({"tools": "Bash"}, r"tools=\['Bash'\]"),
        ({"tools": [1]}, "a list of names"),
        ({"media": ["video"]}, "image, audio, file, not 'video'"),
        ({"urls": 1}, "urls"),
    ],
)
def test_wrong_arguments_of_withhold_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        withhold(streams, **options)  # type: ignore[arg-type]


def layers(model: Handler) -> dict[str, Callable[[Handler], Handler]]:
    return {
        "approve": lambda inner: approve(inner, {"read": Decision.approve(), "*": Decision.reject("no")}),
        "rewrite": lambda inner: rewrite(inner, event=shout_event),
        "best_of": lambda inner: best_of(2, inner, lambda answers: 0),
        "withhold": lambda inner: withhold(inner, tools=["secret*"]),
        "limits": lambda inner: limits(inner, turns=50),
        "stop_when": lambda inner: stop_when(inner, lambda response: "STOP" in response.text.upper()),
    }


ORDERS = list(permutations(("approve", "rewrite", "best_of", "withhold", "stop_when")))


@settings(max_examples=80, deadline=None)
@given(
    order=st.sampled_from(ORDERS),
    stream=st.booleans(),
    text=st.sampled_from(["", "some words", "stop"]),
    calls=st.lists(st.sampled_from(["read", "run"]), max_size=3),
)
def test_five_powers_compose_in_any_order(
    order: tuple[str, ...], stream: bool, text: str, calls: list[str]
) -> None:
    """The agent gets the text in capitals, and the approved calls; rejected calls never reach it."""

    async def model(exchange: Exchange) -> None:
        assert not any(tool.name.startswith("secret") for tool in exchange.request.tools)
        told = any(message.tool_results for message in exchange.request.messages)
        parts = [] if told else [ToolCall.of(name) for name in calls]
        async with exchange.open_stream() as answer:
            await answer.send("again" if told else text)
            for part in parts:
                await answer.send(part)

    handler: Handler = model
    for name in order:
        handler = layers(model)[name](handler)
    tools = tuple(Tool(name=name, parameters={"type": "object"}) for name in ("read", "run", "secret_one"))

    async def run() -> None:
        with trio.fail_after(20):
            async with open_memory_agent(handler) as agent:
                request = Request(
                    dialect="openai_chat",
                    model="m",
                    messages=(Message("user", (Text("hi"),)),),
                    tools=tools,
                    stream=stream,
                )
                answer = await agent.ask(request, stream=stream)
                assert [call.name for call in answer.tool_calls] == [name for name in calls if name == "read"]
                only_rejected = calls and "read" not in calls
                glue = "\n\n" if text else ""
                assert answer.text == (text.upper() + glue + "AGAIN" if only_rejected else text.upper())
                with trio.move_on_after(10):  # a rollout that is being stopped
                    while len(agent.rollout.trace) < 1:
                        await trio.lowlevel.checkpoint()
            assert len(agent.rollout.trace) == 1

    trio.run(run)
