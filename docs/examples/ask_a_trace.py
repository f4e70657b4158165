import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def main() -> None:
    model = ScriptedModel([ToolCall.of("bash", command="date"), "It is late."])
    async with triocept.serve_endpoint() as endpoint:
        async with endpoint.open_rollout(model) as rollout:
            await rollout.run_agent([*TINY_AGENT, "How late is it?"])
    trace = rollout.trace

    for turn in trace:
        relation = trace.relations[turn.id]
        print(turn.number, trace.conversations[turn.id].kind, relation.kind)

    print(
        "date was called in", [turn.number for turn in trace.find("date", tool="bash")]
    )
    for change in trace.diff(0, 1).changes:
        print(change.kind, change.new.role)
    print(trace.usage.input_tokens, "tokens read, an estimate:", trace.usage.estimated)


trio.run(main)
