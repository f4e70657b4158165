from functools import partial

import trio
import triocept


async def main() -> None:
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(partial(triocept.run_endpoint, grace=0.5))
        print("accepting on", endpoint.url)
        async with endpoint.open_rollout(triocept.ScriptedModel(["hello"])) as rollout:
            async with rollout.client("openai_chat") as client:
                completion = await client.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": "hi"}]
                )
            print(completion.choices[0].message.content)
        nursery.cancel_scope.cancel()  # ends the endpoint, and whatever else runs here
    print("the port is free again")


trio.run(main)
