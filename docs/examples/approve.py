import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
ALLOWED = ("ls", "cat", "echo")


async def decide(call):
    """Return True if the agent may run this call. Ask a person, a policy or a model."""
    return call.parsed()["command"].split()[0] in ALLOWED


def guarded(upstream):
    async def answer(exchange):
        response = await upstream.fetch(exchange.request, exchange=exchange)
        for call in response.tool_calls:
            if not await decide(call):
                print("refused:", call.arguments)
                await exchange.respond(f"I was not allowed to run {call.name}.")
                return
        await exchange.respond(response)

    return answer


async def main():
    replies = [
        ToolCall.of("bash", command="echo safe > proof.txt"),
        ToolCall.of("bash", command="rm -rf /"),
    ]
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(ScriptedModel(replies)) as provider,  # a real model
        triocept.open_upstream(
            provider.base_url("openai_chat"),
            dialect="openai_chat",
            api_key=provider.api_key,
        ) as upstream,
        endpoint.open_rollout(guarded(upstream)) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "clean up"])
        print(result.stdout_text.strip())
        print([turn.rewritten for turn in rollout.trace])


trio.run(main)
