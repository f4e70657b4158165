from pathlib import Path
from tempfile import TemporaryDirectory

import trio
import triocept
from triocept import ScriptedModel, ToolCall, agents

TASK = "Make a file proof.txt that says hello."


async def main() -> None:
    model = ScriptedModel(
        [ToolCall.of("Bash", command="echo hello > proof.txt"), "All done."]
    )
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        with TemporaryDirectory() as folder:  # for its configuration and its state
            launch = agents.claude_code(rollout, Path(folder), TASK)
            result = await rollout.run_agent(launch.argv, env=launch.env)
    print(Path(launch.argv[0]).name, "returned", result.check().returncode)
    print("it wrote:", (await trio.Path("proof.txt").read_text()).strip())


trio.run(main)
