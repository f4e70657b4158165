import trio
import triocept


async def answer(exchange: triocept.Exchange) -> None:
    await exchange.respond(f"I hear you in {exchange.dialect}.")


async def main() -> None:
    hello = [{"role": "user", "content": "Hello."}]
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
    ):
        async with rollout.client("openai_chat") as openai:  # an openai.AsyncOpenAI
            completion = await openai.chat.completions.create(
                model="any", messages=hello
            )
            print(completion.choices[0].message.content)
        async with rollout.client(
            "anthropic_messages", max_retries=0
        ) as anthropic:  # an AsyncAnthropic
            message = await anthropic.messages.create(
                model="any", max_tokens=100, messages=hello
            )
            print(message.content[0].text)
    print(rollout.trace)


trio.run(main)
