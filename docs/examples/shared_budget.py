import trio
import triocept
from triocept.handlers import limits, route


async def dear_model(exchange: triocept.Exchange) -> None:
    await exchange.respond("well considered")


async def cheap_model(exchange: triocept.Exchange) -> None:
    await exchange.respond("quickly said")


async def try_to_ask(rollout: triocept.Rollout, model: str) -> None:
    messages = (triocept.Message("user", (triocept.Text("What now?"),)),)
    request = triocept.Request(dialect="openai_chat", model=model, messages=messages)
    try:
        print((await rollout.ask(request)).text)
    except triocept.Refusal as refusal:
        print(refusal)


async def main() -> None:
    handler = route({"dear": limits(dear_model, turns=2), "*": cheap_model})
    async with triocept.serve_endpoint() as endpoint:
        for _ in range(2):
            async with endpoint.open_rollout(handler) as rollout:
                for model in ("dear", "cheap", "dear"):
                    await try_to_ask(rollout, model)


trio.run(main)
