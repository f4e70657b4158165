from functools import partial

import trio
import triocept
from triocept.handlers import fallback, route


async def provider(name, exchange):  # stands for a real model
    if name == "busy":
        await exchange.refuse(529, "overloaded")
    else:
        await exchange.respond(f"{name} answers for {exchange.request.model}")


async def main():
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(partial(provider, "busy")) as busy,
        endpoint.open_rollout(partial(provider, "spare")) as spare,
        triocept.open_upstream(
            busy.base_url("openai_chat"), dialect="openai_chat", api_key=busy.api_key
        ) as first,
        triocept.open_upstream(
            spare.base_url("gemini"), dialect="gemini", api_key=spare.api_key
        ) as second,
    ):
        handler = route({"gpt-*": fallback([first, second]), "gemini-*": second})
        async with (
            endpoint.open_rollout(handler) as rollout,
            rollout.client("openai_chat") as client,
        ):
            question = [{"role": "user", "content": "Hello."}]
            for model in ("gpt-x", "gemini-x"):
                answered = await client.chat.completions.create(
                    model=model, messages=question
                )
                print(answered.choices[0].message.content)
            print("failed before:", len(rollout.trace[0].notes["failed"]))


trio.run(main)
