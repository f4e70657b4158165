"""An application on asyncio."""

import anthropic
import openai


async def ask(text: str) -> str:
    async with openai.AsyncOpenAI(max_retries=0) as client:
        completion = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": text}]
        )
    return completion.choices[0].message.content or ""


async def stream(text: str) -> str:
    async with anthropic.AsyncAnthropic(max_retries=0) as client:
        async with client.messages.stream(
            model="claude-sonnet-5", max_tokens=99, messages=[{"role": "user", "content": text}]
        ) as answer:
            return "".join([piece async for piece in answer.text_stream])
