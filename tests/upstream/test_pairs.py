"""Every agent on every provider: text, tools, images, reasoning, usage, stop reasons."""

import re
from typing import Any

import pytest
import trio

from triocept import (
    Exchange,
    Message,
    Request,
    Response,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    open_upstream,
    serve_endpoint,
)
from triocept._canonical.content import Media
from triocept.dialects import DIALECTS
from triocept.types import PartDelta, Reasoning, Sampling, StopReason, assemble

from .conftest import ask_roughly, staged
from .provider import (
    ALL,
    CHAT,
    COMPLETIONS,
    END,
    GEMINI,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    chunk,
    head,
    wire_stream,
)

TALKING = tuple(name for name in ALL if name != COMPLETIONS)
PAIRS = [(agent, provider) for agent in ALL for provider in ALL]
TALKING_PAIRS = [(agent, provider) for agent in TALKING for provider in TALKING]
PNG = "iVBORw0KGgo="


def request_of(dialect: str, *, stream: bool, **more: Any) -> Request:
    messages = more.pop("messages", (Message("user", (Text("hi"),)),))
    return Request(dialect=dialect, model="asked", messages=messages, stream=stream, **more)


class Pair:
    """An agent of one dialect, an endpoint, an upstream of another, and a model behind that: a second endpoint."""

    def __init__(self, agent: str, provider: str) -> None:
        self.agent = agent
        self.provider = provider
        self.asked: list[Exchange] = []

    async def ask(self, request: Request, answer: Any) -> Response:
        """What the agent understands of the answer. The request is one of the agent's dialect."""

        async def model(exchange: Exchange) -> None:
            self.asked.append(exchange)
            if isinstance(answer, Response):
                await exchange.respond(answer)
            else:
                await answer(exchange)

        with trio.fail_after(30):
            async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as back:
                base = back.base_url(self.provider)
                async with open_upstream(base, dialect=self.provider, api_key=back.api_key) as upstream:
                    async with endpoint.open_rollout(upstream) as front:
                        return await self._ask(front, request)

    async def _ask(self, front: Any, request: Request) -> Response:
        """The agent is an upstream too: of the front endpoint, in its own dialect."""
        async with open_upstream(
            front.base_url(self.agent), dialect=self.agent, api_key=front.api_key
        ) as agent:
            if not request.stream:
                return await agent.fetch(request)
            async with agent.open_response(request) as events:
                return assemble([event async for event in events])


@pytest.mark.parametrize(("agent", "provider"), PAIRS)
@pytest.mark.parametrize("stream", [False, True])
async def test_text_usage_and_the_reason_pass(agent: str, provider: str, stream: bool) -> None:
    usage = Usage(input_tokens=100, output_tokens=20, cached_tokens=60, reasoning_tokens=5)
    answer = Response((Text("Hello, \u00e9\n"),), usage=usage, stop_reason="max_tokens")
    got = await Pair(agent, provider).ask(request_of(agent, stream=stream), answer)
    assert got.text == "Hello, \u00e9\n"
    assert got.stop_reason == "max_tokens"
    assert (got.usage.input_tokens, got.usage.output_tokens) == (100, 20)
    if OLLAMA in (
        agent,
        provider,
    ):  # it counts no such tokens, and Responses writes 0 for what nobody counted
        assert got.usage.cached_tokens in (None, 0)
    else:
        assert got.usage.cached_tokens == 60


@pytest.mark.parametrize(("agent", "provider"), TALKING_PAIRS)
@pytest.mark.parametrize("stream", [False, True])
async def test_parallel_tools_pass_and_their_results_come_back(
    agent: str, provider: str, stream: bool
) -> None:
    tools = (
        Tool(
            name="ls",
            description="list",
            parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        ),
    )
    calls = (ToolCall.of("ls", path="a \u00e9"), ToolCall.of("ls", path="b"))
    pair = Pair(agent, provider)
    answer = Response((Text("Looking."), *calls), usage=Usage(input_tokens=5, output_tokens=6))
    got = await pair.ask(request_of(agent, stream=stream, tools=tools), answer)
    assert pair.asked[0].request.tools[0].name == "ls"
    assert pair.asked[0].request.tools[0].parameters == tools[0].parameters
    assert [call.parsed() for call in got.tool_calls] == [{"path": "a \u00e9"}, {"path": "b"}]
    assert (got.text, got.stop_reason) == ("Looking.", "tool_use")
    assert len({call.id for call in got.tool_calls}) == 2

    results = tuple(
        ToolResult(id=call.id, content=(Text(f"{n}"),), name="ls") for n, call in enumerate(got.tool_calls)
    )
    messages = (
        Message("user", (Text("hi"),)),
        Message("assistant", got.content),
        Message("user" if agent == MESSAGES else "tool", results),
    )
    pair = Pair(agent, provider)
    await pair.ask(request_of(agent, stream=stream, tools=tools, messages=messages), Response.of("Done."))
    request = pair.asked[0].request
    sent = [call for message in request.messages for call in message.tool_calls]
    back = [result for message in request.messages for result in message.tool_results]
    assert [call.parsed() for call in sent] == [{"path": "a \u00e9"}, {"path": "b"}]
    assert [result.text for result in back] == ["0", "1"]
    assert [result.id for result in back] == [call.id for call in sent]


@pytest.mark.parametrize(("agent", "provider"), TALKING_PAIRS)
async def test_an_image_and_the_sampling_pass(agent: str, provider: str) -> None:
    image = Media(kind="image", data=PNG, media_type="image/png")
    messages = (Message("system", (Text("Be brief."),)), Message("user", (Text("what?"), image)))
    sampling = Sampling(max_output_tokens=77, temperature=0.5)
    pair = Pair(agent, provider)
    await pair.ask(
        request_of(agent, stream=False, messages=messages, sampling=sampling), Response.of("A dot.")
    )
    request = pair.asked[0].request
    assert request.system == "Be brief."
    assert request.sampling.max_output_tokens == 77
    assert request.sampling.temperature == 0.5
    media = [part for message in request.messages for part in message.content if isinstance(part, Media)]
    assert len(media) == 1
    assert PNG in (media[0].data or media[0].url or "")


@pytest.mark.parametrize(("agent", "provider"), TALKING_PAIRS)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_model_thought_passes(agent: str, provider: str, stream: bool) -> None:
    answer = Response((Reasoning("Hmm."), Text("Yes.")), usage=Usage(input_tokens=5, output_tokens=6))
    got = await Pair(agent, provider).ask(request_of(agent, stream=stream), answer)
    assert got.text == "Yes."
    assert [part.text for part in got.content if isinstance(part, Reasoning)] == ["Hmm."]


# What each wire can say of why an answer ended; what it cannot, it says so.
REASONS: dict[StopReason, StopReason] = {"end": "end", "max_tokens": "max_tokens", "refused": "refused"}


@pytest.mark.parametrize(("agent", "provider"), TALKING_PAIRS)
@pytest.mark.parametrize("reason", REASONS)
async def test_the_reason_of_the_end_passes(agent: str, provider: str, reason: StopReason) -> None:
    answer = Response((Text("So."),), usage=Usage(input_tokens=5, output_tokens=6), stop_reason=reason)
    got = await Pair(agent, provider).ask(request_of(agent, stream=True), answer)
    told = reason != "refused" or OLLAMA not in (agent, provider)  # which has no word for it
    assert got.stop_reason == (REASONS[reason] if told else "end")


@pytest.mark.parametrize(("agent", "provider"), PAIRS)
async def test_an_event_is_translated_before_the_next_one_comes(agent: str, provider: str) -> None:
    """Nobody waits for the whole: the model speaks its second word when the agent has heard the first."""
    heard = trio.Event()

    async def model(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("first")
            await heard.wait()
            await stream.send("second")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as back:
        base = back.base_url(provider)
        async with open_upstream(base, dialect=provider, api_key=back.api_key) as upstream:
            async with endpoint.open_rollout(upstream) as front:
                async with open_upstream(front.base_url(agent), dialect=agent, api_key=front.api_key) as ear:
                    async with ear.open_response(request_of(agent, stream=True)) as events:
                        async for event in events:
                            if isinstance(event, PartDelta) and event.text == "first":
                                heard.set()
    assert heard.is_set()


@pytest.mark.parametrize("agent", TALKING)
async def test_the_agent_hears_the_name_that_it_asked_for(agent: str) -> None:
    provider = MESSAGES if agent != MESSAGES else CHAT
    for stream in (False, True):
        answer = Response((Text("hi"),), model="the-real-one-2026")
        got = await Pair(agent, provider).ask(request_of(agent, stream=stream), answer)
        assert got.model == "asked"


@pytest.mark.parametrize("agent", TALKING)
@pytest.mark.parametrize("provider", [CHAT, GEMINI])
async def test_an_end_for_no_known_reason_is_never_an_ordinary_end(agent: str, provider: str) -> None:
    bad = {
        CHAT: (b'"finish_reason":"stop"', b'"finish_reason":"odd"'),
        GEMINI: (b'"STOP"', b'"MALFORMED_FUNCTION_CALL"'),
    }
    data = b"".join(wire_stream(provider)).replace(*bad[provider])

    async def answer(asked: Any, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(data) + END)

    async with staged(answer, provider) as stage:
        told, _ = await ask_roughly(stage, agent)
    assert b'"error"' in told
    assert stage.rollout.trace[0].outcome == "refused"


def test_all_pairs_are_here() -> None:
    assert len(PAIRS) == 36
    assert {CHAT, COMPLETIONS, RESPONSES, MESSAGES, GEMINI, OLLAMA} == set(DIALECTS)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("agent", "provider"), TALKING_PAIRS)
async def test_a_name_that_the_provider_does_not_allow_is_another_there_and_its_own_to_the_agent(
    agent: str, provider: str, stream: bool
) -> None:
    pair = Pair(agent, provider)
    name = "mcp.files/" + "read_" * 13  # a slash and 75 characters: nobody allows them
    history = (
        Message("user", (Text("hi"),)),
        Message("assistant", (ToolCall(name, "{}", "call_1"),)),
        Message("tool", (ToolResult(id="call_1", content=(Text("out"),)),)),
    )
    request = request_of(agent, stream=stream, messages=history, tools=(Tool(name=name, parameters={}),))

    async def call_it(exchange: Exchange) -> None:
        offered = exchange.request.tools[0].name
        await exchange.respond(Response((ToolCall(offered, '{"a":1}', "call_2"),)))

    response = await pair.ask(request, call_it)

    there = pair.asked[0].request
    assert there.messages[1].tool_calls[0].name == there.tools[0].name
    if agent == provider or provider == OLLAMA:  # which allows any
        assert there.tools[0].name == name
    else:
        assert re.fullmatch(r"mcp_files_read_[a-z_]+_[0-9a-f]{8}", there.tools[0].name)
        assert len(there.tools[0].name) == 64
    assert [call.name for call in response.tool_calls] == [name]
