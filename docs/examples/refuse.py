import trio
import triocept


async def answer(exchange: triocept.Exchange) -> None:
    print("attempt", exchange.attempt)
    if exchange.attempt == 1:
        await exchange.refuse(429, "come again soon", retry_after=0.1)
    else:
        await exchange.respond("welcome back")


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
        rollout.client("openai_chat") as client,
    ):
        completion = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Anybody there?"}]
        )
        print(completion.choices[0].message.content)
    print(rollout.trace)


trio.run(main)
