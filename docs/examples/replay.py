import sys
from pathlib import Path

import trio
import triocept
from triocept import JSONLRecorder, ScriptedModel, ToolCall
from triocept.handlers import Replay

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
FILE = Path(sys.argv[1] if len(sys.argv) > 1 else "run.jsonl")


async def run(handler: triocept.Handler, **options) -> triocept.Trace:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(handler, **options) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "How late is it?"])
    print(result.stdout_text.strip())
    return rollout.trace


async def main() -> None:
    model = ScriptedModel([ToolCall.of("bash", command="date +%N"), "It is late."])
    await run(model, recorder=JSONLRecorder(FILE))

    (trace,) = triocept.read_traces(FILE)
    again = await run(Replay(trace))
    for turn in again:
        print(turn.notes["replay"]["turn"] == trace[turn.number].id)
    print("other results:", len(again[1].notes["replay"]["other_results"]))


trio.run(main)
