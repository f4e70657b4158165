import trio
import triocept
from triocept import ScriptedModel, ToolCall

TASK = "Make a file proof.txt that says hello."
CLAUDE_CODE = ["claude", "-p", TASK, "--dangerously-skip-permissions"]


async def main() -> None:
    model = ScriptedModel(
        [ToolCall.of("Bash", command="echo hello > proof.txt"), "All done."]
    )
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        with trio.fail_after(60):
            result = await rollout.run_agent(CLAUDE_CODE, env={"IS_SANDBOX": "1"})
    result.check()  # AgentFailed, unless it returned 0
    print("it printed:", result.stdout_text.strip())
    print("it wrote:", (await trio.Path("proof.txt").read_text()).strip())


trio.run(main)
