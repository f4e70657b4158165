import trio
import triocept


async def main() -> None:
    async with triocept.serve_endpoint(
        host="0.0.0.0", advertise="gpu1.example"
    ) as endpoint:
        async with endpoint.open_rollout() as rollout:
            print("here     ", rollout.environ()["ANTHROPIC_BASE_URL"])
            print("elsewhere", rollout.environ(reach="public")["ANTHROPIC_BASE_URL"])


trio.run(main)
