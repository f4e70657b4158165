import sys
from pathlib import Path

import trio
from triocept import ScriptedModel, ToolCall
from triocept.fleets import Processes, open_fleet

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
TASKS = [
    {"id": "sum", "prompt": "What is 17 + 25?", "target": "42"},
    {"id": "greet", "prompt": "Say hello.", "target": "hello"},
    {"id": "files", "prompt": "How many files are here?", "target": "3"},
]


def model():  # in its place: a handler made by open_upstream(url, dialect=…)
    return ScriptedModel(
        [ToolCall.of("bash", command="echo $((17 + 25))"), "It is 42."]
    )


async def run_task(endpoint, task, *, attempt, sample):
    """Run the agent on one task, and score what it did."""
    name = f"{task['id']}-{sample}"
    metadata = {"task": task["id"], "target": task["target"]}
    async with endpoint.open_rollout(model(), id=name, metadata=metadata) as rollout:
        result = await rollout.run_agent([*TINY_AGENT, task["prompt"]])
        correct = task["target"] in result.stdout_text
        await rollout.score("correct", correct)
    return correct


async def main():
    table = {task["id"]: [] for task in TASKS}
    async with (
        open_fleet(Processes(2, slots_per_worker=4)) as fleet,
        fleet.map(run_task, TASKS, group_size=2) as results,
    ):
        async for result in results:
            table[result.task["id"]].append(result.value)
    for name, values in table.items():
        print(f"{name:8} {sum(values)} of {len(values)}")
    every = [value for values in table.values() for value in values]
    print(f"{'all':8} {sum(every) / len(every):.0%}")


if __name__ == "__main__":
    trio.run(main)
