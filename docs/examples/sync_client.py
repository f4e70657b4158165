import trio
import triocept


def blocking(client) -> str:
    """Code that knows nothing of trio."""
    with client:
        completion = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "hi"}]
        )
        return completion.choices[0].message.content


async def main() -> None:
    model = triocept.ScriptedModel(["hello, thread"])
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        print(
            await trio.to_thread.run_sync(
                blocking, rollout.client("openai_chat", sync=True)
            )
        )


trio.run(main)
