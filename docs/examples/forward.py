import os

import trio
import triocept


async def provider(
    exchange,
):  # stands for a real model, so that this runs without a key
    async with exchange.open_stream() as stream:
        for word in ("Hello ", "from ", "the ", "provider."):
            await stream.send(word)


async def main():
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(provider) as real,
    ):
        url, key = real.base_url("openai_chat"), real.api_key
        url, key = (
            os.environ.get("PROVIDER_URL", url),
            os.environ.get("PROVIDER_KEY", key),
        )

        async with (
            triocept.open_upstream(
                url, dialect="openai_chat", api_key=key, model="gpt-x"
            ) as upstream,
            endpoint.open_rollout(upstream) as rollout,  # an upstream is a handler
            rollout.client(
                "anthropic_messages"
            ) as client,  # the agent speaks another dialect
        ):
            question = [{"role": "user", "content": "Hello?"}]
            asked = client.messages.stream(
                model="claude", max_tokens=50, messages=question
            )
            async with asked as stream:
                async for text in stream.text_stream:
                    print(repr(text))
        (turn,) = rollout.trace
        print(
            turn.outcome,
            turn.notes["upstream"]["dialect"],
            turn.notes["upstream"]["model"],
        )


trio.run(main)
