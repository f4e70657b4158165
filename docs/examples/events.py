import trio
import triocept
from triocept import Response, ToolCall
from triocept.types import assemble, events_of

response = Response.of("Let me see.", ToolCall.of("bash", command="ls"))
for event in events_of(response):
    print(type(event).__name__)
assert assemble(events_of(response)).content == response.content


async def answer(exchange: triocept.Exchange) -> None:
    async with exchange.open_stream() as stream:
        for event in events_of(
            response
        ):  # or from anywhere else: a model server, another dialect
            await stream.send(event)


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
        rollout.client("openai_chat") as client,
    ):
        completion = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "What is here?"}]
        )
        print(completion.choices[0].message.content)


trio.run(main)
