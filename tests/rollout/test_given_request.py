"""What a program asks is checked where it is given, as what it answers is: nothing of a prompt is lost in silence."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf, nan
from typing import Any

import pytest
from msgspec.structs import replace

from triocept import (
    Endpoint,
    Exchange,
    Message,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    open_upstream,
    serve_endpoint,
)
from triocept.errors import Refusal
from triocept.types import Blob, Sampling

ANY: Any = None
REQUEST = Request(dialect="openai_chat", model="m", messages=(Message("user", (Text("hi"),)),))


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with serve_endpoint() as endpoint:
        yield endpoint


def with_message(role: Any, content: Any) -> Request:
    return replace(REQUEST, messages=(Message(role, content),))


WRONG: dict[str, tuple[Request, str]] = {
    "a role": (with_message("usr", (Text("x"),)), "messages[0]: unknown role 'usr'; the roles are system, "),
    "a role None": (with_message(None, ()), "unknown role None"),
    "content None": (with_message("user", None),
     "messages[0].content must be a tuple of parts, not None; write Message("),
    "content int": (with_message("user", 5), "messages[0].content must be a tuple of parts, not int: 5"),
    "a str in it": (with_message("user", ("hi",)), "content[0] must be one of Text, "),
    "what to say": (with_message("user", ["hi"]), "not str: 'hi'; write Text('hi')"),
    "a dict in it": (with_message("user", ({"text": "x"},)), "content[0] must be one of Text, "),
    "a blob in it": (with_message("user", (Blob("a", "b", "c"),)), "content[0] must be one of Text, "),
    "bytes": (with_message("user", (Text(ANY or b"x"),)),
     "messages[0].content[0].text: expected `str`, got `bytes`"),
    "an object": (with_message("user", (Text(ANY or object()),)), "`messages` cannot be written as JSON"),
    "no message": (replace(REQUEST, messages=("x",)), "messages[0] must be a Message, not str: 'x'"),
    "a str": (replace(REQUEST, messages="x"), "Request.messages must be a tuple of Messages, not str: 'x'"),
    "no messages": (replace(REQUEST, messages=None), "Request.messages must be a tuple of Messages, not None"),
    "model": (replace(REQUEST, model=None), "Request.model: expected `str`, got `null`"),
    "a tool": (replace(REQUEST, tools=("search",)), "Request.tools[0]: expected `object`, got `str`"),
    "stop": (replace(REQUEST, sampling=Sampling(stop=ANY or "END")),
     "sampling.stop: expected `array`, got `str`"),
    "hot": (replace(REQUEST, sampling=Sampling(temperature=ANY or "hot")),
     "sampling.temperature: expected `float"),
    "nan": (replace(REQUEST, sampling=Sampling(top_p=nan)), "sampling.top_p must be 0 or more, not nan"),
    "infinite": (replace(REQUEST, sampling=Sampling(presence_penalty=-inf)),
     "sampling.presence_penalty must be finite"),
}  # fmt: skip


async def last_text(exchange: Exchange) -> None:
    message = exchange.request.messages[-1]
    await exchange.respond(f"{message.role}: {message.text}")


def in_user_code(exc: BaseException) -> str:
    """The file of the last frame but one: the last is the function that was called."""
    return traceback.extract_tb(exc.__traceback__)[-2].filename


@pytest.mark.parametrize(("given", "said"), WRONG.values(), ids=WRONG)
async def test_a_request_that_is_none_is_told_where_it_is_given(
    endpoint: Endpoint, given: Request, said: str
) -> None:
    async with endpoint.open_rollout(last_text) as rollout:
        with pytest.raises((TypeError, ValueError)) as told:
            await rollout.ask(given)
        assert said in str(told.value)
        assert in_user_code(told.value) == __file__
        assert len(rollout.trace) == 0


ASKED: dict[str, tuple[Any, str]] = {
    "a text as content": (with_message("user", "hello there"), "user: hello there"),
    "a list as content": (with_message("system", [Text("a"), Text("b")]), "system: ab"),
    "a list of messages": (replace(REQUEST, messages=[Message("user", ANY or "x")]), "user: x"),
    "no text": (with_message("user", ""), "user: "),
    "surrogates in a text": (with_message("user", "\ud83d\ude00"), "user: \U0001f600"),
}


@pytest.mark.parametrize(("given", "answer"), ASKED.values(), ids=ASKED)
async def test_what_is_meant_is_asked(endpoint: Endpoint, given: Any, answer: str) -> None:
    async with endpoint.open_rollout(last_text) as rollout:
        assert (await rollout.ask(given)).text == answer
        assert (await rollout.ask(given.messages)).text == answer
        provider = open_upstream(
            rollout.base_url("openai_chat"), dialect="openai_chat", api_key=rollout.api_key
        )
        async with provider as upstream:
            assert (await upstream.fetch(given)).text == answer


async def test_the_text_of_a_tools_result_is_its_content(endpoint: Endpoint) -> None:
    async def result(exchange: Exchange) -> None:
        await exchange.respond(exchange.request.tool_results[0].text)

    called = Message("assistant", (ToolCall("ls", id="c"),))
    answered = Message("tool", (ToolResult(id="c", content=ANY or "a.txt"),))
    async with endpoint.open_rollout(result) as rollout:
        assert (await rollout.ask([called, answered])).text == "a.txt"


async def test_a_good_request_is_asked_as_it_is(endpoint: Endpoint) -> None:
    """The very messages: nothing is copied."""
    seen: list[Request] = []

    async def keep(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.respond("x")

    request = replace(REQUEST, tools=(Tool(name="ls"),))
    async with endpoint.open_rollout(keep) as rollout:
        await rollout.ask(request)
    assert seen[0].messages[0] is request.messages[0]
    assert seen[0].tools is request.tools


@pytest.mark.parametrize("call", ["fetch", "open_response", "count_input_tokens"])
async def test_an_upstream_tells_it_before_it_asks(endpoint: Endpoint, call: str) -> None:
    async def ask(function: Callable[[Any], Any], given: Any) -> None:
        asked = function(given)
        if isinstance(asked, Awaitable):
            await asked
        else:
            async with asked:
                pass

    async with (
        endpoint.open_rollout(last_text) as rollout,
        open_upstream(
            rollout.base_url("openai_chat"), dialect="openai_chat", api_key=rollout.api_key
        ) as upstream,
    ):
        with pytest.raises(ValueError, match=rf"{call}: Request.messages\[0\]: unknown role 'usr'"):
            await ask(getattr(upstream, call), with_message("usr", ()))
        with pytest.raises(TypeError, match=f"{call} takes a Request, not str: 'hi'"):
            await ask(getattr(upstream, call), "hi")
        with pytest.raises(TypeError, match=f"{call}: Request.model: expected `str`"):
            await ask(getattr(upstream, call), replace(REQUEST, model=None))
        assert len(rollout.trace) == 0


async def test_what_a_simulated_user_says_is_checked_as_a_request_is(endpoint: Endpoint) -> None:
    said: list[Any] = [Message("user", ANY or "hello"), Message(ANY or "usr", ())]

    async def user(messages: Any, rollout: Any) -> Any:
        return said.pop(0)

    async with endpoint.open_rollout(last_text, user=user) as rollout:
        assert (await rollout._core.services.ask_user(rollout._core, ()))[0].text == "hello"
        with pytest.raises(Refusal, match="unknown role 'usr'"):
            await rollout._core.services.ask_user(rollout._core, ())


def test_a_message_of_a_text_has_that_text() -> None:
    message = Message("user", "hello")
    assert (message.text, message.tool_calls, message.tool_results) == ("hello", (), ())
