import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall
from triocept.handlers import Fault, Template, otherwise, when

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
COUNT = ToolCall.of("bash", command="printf 2")


async def main() -> None:
    model = ScriptedModel(
        [
            when(text="count", tool_result=False).reply(COUNT),
            when(result_of="bash").repeat(Template("The tool said {tool_result}.")),
            when(text="sing").reply(Fault.status(403, "I do not sing.")),
            when(text="dance").reply("Not today.", "Nor tomorrow."),
            otherwise(Template("What is {text}?")),
        ]
    )
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        for task in ("count", "dance", "sing", "eat", "dance", "dance"):
            result = await rollout.run_agent([*TINY_AGENT, task])
            print(f"{task}: {(result.stdout_text or result.stderr_text).strip()}")
    print(model)


trio.run(main)
