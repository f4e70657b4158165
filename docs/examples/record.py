import sys
from pathlib import Path

import trio
import triocept
from triocept import JSONLRecorder, ScriptedModel, ToolCall

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
FILE = Path(sys.argv[1] if len(sys.argv) > 1 else "traces.jsonl")


async def main() -> None:
    model = ScriptedModel([ToolCall.of("bash", command="date"), "It is late."])

    async def answer(exchange: triocept.Exchange) -> None:
        exchange.annotate(remaining=model.remaining)
        await model(exchange)

    async with (
        triocept.serve_endpoint(recorder=JSONLRecorder(FILE)) as endpoint,
        endpoint.open_rollout(answer, id="demo") as rollout,
    ):
        await rollout.run_agent([*TINY_AGENT, "How late is it?"])
    print(rollout.trace)


trio.run(main)
