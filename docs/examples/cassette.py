from pathlib import Path

import trio
import triocept
from triocept import testing

HELLO = [{"role": "user", "content": "Which is the oldest city of France?"}]
FILE = Path("cassettes/france.yaml")


async def ask_openai(model: triocept.Handler) -> str | None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
        rollout.client("openai_chat") as openai,
    ):
        answer = await openai.chat.completions.create(
            model="m-2026-11-27", messages=HELLO
        )
    return answer.choices[0].message.content


async def ask_anthropic(model: triocept.Handler) -> str:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
        rollout.client("anthropic_messages") as anthropic,
    ):
        answer = await anthropic.messages.create(
            model="m", max_tokens=100, messages=HELLO
        )
    return answer.content[0].text


async def main() -> None:
    real_model = triocept.ScriptedModel(["Marseille."])  # open_upstream("https://…", …)
    async with testing.open_cassette(
        FILE, record="once", upstream=real_model
    ) as cassette:
        print("recorded:", await ask_openai(cassette))
    async with testing.open_cassette(FILE) as cassette:
        print("from the file:", await ask_anthropic(cassette))


trio.run(main)
print(FILE.read_text())
