import trio
import triocept
from triocept import ToolCall

TASK = "Make a file proof.txt that says hello."
MINI = ["mini", "-y", "--exit-immediately", "-m", "openai/any", "-t", TASK]
ENVIRONMENT = {
    "MSWEA_CONFIGURED": "true",  # no questions at the first start
    "MSWEA_COST_TRACKING": "ignore_errors",  # our model has no price
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download of prices either
}


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout() as rollout,
        rollout.open_agent(MINI, env=ENVIRONMENT) as agent,
    ):
        commands = [
            "echo hello > proof.txt",
            "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT",  # how this agent is ended
        ]
        async for exchange in agent:
            if commands:
                command = commands.pop(0)
                await exchange.respond(ToolCall.of("bash", command=command))
            else:
                await exchange.respond("There is nothing left to do.")
    print("it returned:", agent.result.returncode)
    print("it wrote:", (await trio.Path("proof.txt").read_text()).strip())


trio.run(main)
