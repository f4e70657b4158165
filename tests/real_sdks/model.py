"""The model that the programs of this suite talk to. What it answers, the first thing that the user says names."""

from __future__ import annotations

from collections import Counter

import trio

from triocept import Exchange, Refusal, Response, Text, ToolCall, Usage
from triocept.types import Reasoning

USAGE = Usage(input_tokens=10, output_tokens=5)
HELLO = {"text": "hello", "usage": [10, 5]}
TOWN = {"city": "Oslo", "people": 700000}
SILENCE = 0.6
"""Seconds; the endpoint's own patience is shorter while this suite runs."""
OBJECT_TOOLS = ("json", "final_result", "Town", "json_tool_call")
"""The tools by which some libraries ask for an object."""


def asked(exchange_or_turn: object) -> str:
    """The scenario that a call belongs to."""
    request = exchange_or_turn.request  # type: ignore[attr-defined]
    text = next(message.text for message in request.messages if message.role == "user")
    return str(text).removeprefix("New task:\n")  # which smolagents puts before it


class Model:
    """Answers each call by the name of its scenario."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        name = asked(exchange)
        self._seen[name] += 1
        match name.split():
            case ["error", status]:
                raise Refusal(int(status), f"status {status}", should_retry=False)
            case ["retry", *_] if self._seen[name] < 3:
                raise Refusal(429, "wait", retry_after=0.01)
            case ["broken", *_]:
                async with exchange.open_stream() as stream:
                    await stream.send("half")
                    raise Refusal(503, "overloaded")
            case ["abort", *_]:
                async with exchange.open_stream() as stream:
                    await stream.send("half")
                    await trio.sleep_forever()
            case ["silence", *_]:
                await self._be_silent(exchange)
            case ["tools", *_]:
                await self._use_tools(exchange)
            case ["agent"]:
                await self._use_one_tool(exchange)
            case ["object", *_]:
                await self._give_object(exchange)
            case ["reasoning", *_]:
                await exchange.respond(Response((Reasoning("hm"), Text("hello")), usage=USAGE))
            case _:
                await exchange.respond(Response((Text("hello"),), usage=USAGE))

    async def _be_silent(self, exchange: Exchange) -> None:
        """Before the answer, and in the middle of it."""
        await trio.sleep(SILENCE)
        async with exchange.open_stream() as stream:
            await stream.send("hel")
            await trio.sleep(SILENCE)
            await stream.send("lo")
            await stream.end(usage=USAGE)

    async def _use_tools(self, exchange: Exchange) -> None:
        results = exchange.request.tool_results
        if not results:
            calls = (ToolCall.of("weather", city="Oslo"), ToolCall.of("weather", city="Rome"))
            await exchange.respond(Response.of("I look.", *calls))
        else:
            await exchange.respond(" and ".join(result.text for result in results))

    async def _use_one_tool(self, exchange: Exchange) -> None:
        last = exchange.request.last
        told = "" if last is None else last.text + "".join(result.text for result in last.tool_results)
        if "sun in Oslo" not in told:
            await exchange.respond(Response.of("I look.", ToolCall.of("sunny", city="Oslo")))
        elif any(tool.name == "final_answer" for tool in exchange.request.tools):
            await exchange.respond(ToolCall.of("final_answer", answer="It is sunny."))
        else:
            await exchange.respond("It is sunny.")

    async def _give_object(self, exchange: Exchange) -> None:
        tool = next((tool.name for tool in exchange.request.tools if tool.name in OBJECT_TOOLS), None)
        written = '{"city":"Oslo","people":700000}'
        await exchange.respond(written if tool is None else ToolCall(tool, written))
