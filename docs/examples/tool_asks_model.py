import httpx2
import trio
import triocept


async def model(exchange: triocept.Exchange) -> None:
    question = exchange.request.messages[-1].text
    print(f"{exchange.conversation.kind:>4} asks: {question}")
    await exchange.respond("a cat, asleep")


async def describe(path: str, rollout: triocept.Rollout) -> str:
    """Say what is on a picture."""
    answer = await rollout.ask(f"In three words: what is on {path}?")
    return f"{path} shows {answer.text}."


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model, tools=[describe]) as rollout,
        httpx2.AsyncClient() as client,
    ):
        called = await client.post(
            rollout.service_url("tools/describe"),
            json={"arguments": {"path": "cat.png"}},
            headers={"authorization": f"Bearer {rollout.api_key}"},
        )
        print(called.json())


trio.run(main)
