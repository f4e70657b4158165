import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall
from triocept.evaluation import includes
from triocept.fleets import Processes

PROGRAM = str(Path(__file__).with_name("tiny_agent.py"))
TASKS = [
    {"id": "sum", "prompt": "What is 17 + 25?", "target": "42"},
    {"id": "greet", "prompt": "Say hello.", "target": "hello"},
    {"id": "files", "prompt": "How many files are here?", "target": "3"},
]


def model():  # in its place: partial(open_upstream, url, dialect=…)
    return ScriptedModel(
        [ToolCall.of("bash", command="echo $((17 + 25))"), "It is 42."]
    )


def used_bash(trace, task, workdir):
    """A scorer of your own: 1 if the agent ran a command."""
    return any(turn.response.tool_calls for turn in trace)


async def main():
    results = await triocept.evaluate(
        TASKS,
        [sys.executable, PROGRAM, "{prompt}"],  # in its place: "claude-code"
        model=model,
        scorers=[includes(), used_bash],
        samples=2,
        engine=Processes(2, slots_per_worker=4),
        store="run",
        name="arithmetic",
    )
    print(results.table())


if __name__ == "__main__":
    trio.run(main)
