import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


def sum_up(request: triocept.Request) -> str:
    return f"The tool said {request.tool_results[0].text.strip()!r}."


async def main() -> None:
    model = ScriptedModel(
        [
            # one response: text and a tool call
            ["Let me look.", ToolCall.of("bash", command="echo one")],
            0.1,  # think for a tenth of a second
            ToolCall.of("bash", command="echo two"),
            sum_up,  # made from the request
        ]
    )
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "count"])
    print(result.stdout_text.strip())
    print(model)


trio.run(main)
