import trio
import triocept

NOTES = [
    "Our refund policy: the money is paid back within 30 days.",
    "The office is closed on public holidays.",
    "Bananas ripen faster beside apples.",
]


async def answer(exchange: triocept.Exchange) -> None:
    question = exchange.request.user_text
    await exchange.respond(
        "30 days" if "within 30 days" in question else "I do not know"
    )


async def application(client) -> str:  # yours: it searches, then asks
    question = "What is your refund policy?"
    embedded = await client.embeddings.create(
        model="text-embedding-3-small", input=[question, *NOTES]
    )
    asked, *notes = [each.embedding for each in embedded.data]
    near = [sum(a * b for a, b in zip(asked, note, strict=True)) for note in notes]
    best = NOTES[near.index(max(near))]
    told = await client.chat.completions.create(
        model="gpt-5",
        messages=[{"role": "user", "content": f"{best}\n\n{question}"}],
    )
    return told.choices[0].message.content


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
        rollout.client("openai_chat") as client,
    ):
        print(await application(client))
    (call,) = rollout.trace.services
    print(call.kind, call.name, len(call.arguments["input"]), call.result)


trio.run(main)
