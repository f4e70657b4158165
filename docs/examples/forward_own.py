import msgspec
import trio
import triocept
from triocept import Message, Text, UpstreamError


async def provider(exchange):  # stands for a real model
    if exchange.request.user_text.startswith("fail"):
        await exchange.refuse(529, "overloaded")
    else:
        await exchange.respond(f"You said: {exchange.request.user_text}")


async def main():
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(provider) as real,
        triocept.open_upstream(
            real.base_url("anthropic_messages"),
            dialect="anthropic_messages",
            api_key=real.api_key,
        ) as upstream,
    ):

        async def answer(exchange):
            words = exchange.request.user_text.upper()
            messages = (
                *exchange.request.messages[:-1],
                Message("user", (Text(words),)),
            )
            request = msgspec.structs.replace(exchange.request, messages=messages)
            if words == "STREAM":
                async with (
                    upstream.open_response(request) as events,
                    exchange.open_stream() as stream,
                ):
                    async for event in events:  # look at each, change it, leave it out
                        await stream.send(event)
            else:
                response = await upstream.fetch(request)
                await exchange.respond(response)

        async with (
            endpoint.open_rollout(answer) as rollout,
            rollout.client("openai_chat") as client,
        ):
            for words in ("hello", "stream"):
                answered = await client.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": words}]
                )
                print(answered.choices[0].message.content)

        try:
            request = msgspec.structs.replace(
                rollout.trace[0].request, messages=(Message("user", (Text("fail"),)),)
            )
            await upstream.fetch(request)
        except UpstreamError as exc:
            print(type(exc).__name__, exc.status, exc.message)


trio.run(main)
