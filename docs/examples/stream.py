import trio
import triocept
from triocept import ToolCall, Usage
from triocept.types import Reasoning


async def answer(exchange: triocept.Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send(Reasoning("They want a greeting. "))  # a part, whole
        for word in ("Hello", ", ", "world", "."):
            await stream.send(word)  # more of the same text
        await stream.send(ToolCall.of("wave", hands=2))
        await stream.end(usage=Usage(input_tokens=12, output_tokens=9))


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
        rollout.client("openai_chat") as client,
    ):
        chunks = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hello."}], stream=True
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                if choice.delta.content:
                    print(repr(choice.delta.content))
                for call in choice.delta.tool_calls or ():
                    if call.function.name:
                        print("calls", call.function.name)
                if choice.finish_reason:
                    print("finish reason:", choice.finish_reason)
    (turn,) = rollout.trace
    print("in the trace:", repr(turn.response.text), turn.response.usage)


trio.run(main)
