import sys
from typing import Annotated

import msgspec
import trio
import triocept
from triocept import ToolCall

BOOKS = {"Emma": 1815, "Persuasion": 1817, "Dracula": 1897}


async def search(
    word: Annotated[str, msgspec.Meta(description="what is in the title")],
    before: int = 2100,
) -> dict[str, int]:
    """Find books by title. Gives titles and years."""
    await trio.lowlevel.checkpoint()  # or ask a database
    found = [(title, year) for title, year in BOOKS.items() if year < before]
    return {title: year for title, year in found if word.lower() in title.lower()}


async def lend(title: str, rollout: triocept.Rollout) -> str:
    """Lend a book."""
    if title not in BOOKS:
        raise LookupError(f"there is no {title!r}")
    return f"{title} is lent to {rollout.id}"


async def answer(exchange: triocept.Exchange) -> None:
    results = exchange.request.tool_results
    if not results:
        await exchange.respond(ToolCall.of("search", word="a", before=1850))
    elif "1815" in results[0].text:
        await exchange.respond(ToolCall.of("lend", title="Emma"))
    else:
        await exchange.respond(f"Done: {results[0].text}.")


# An agent that knows nothing of triocept but two variables in its environment.
AGENT = """
import json, os, urllib.request

def call(path, document=None):
    request = urllib.request.Request(
        f"{os.environ['TRIOCEPT_URL']}/{path}",
        data=None if document is None else json.dumps(document).encode(),
        headers={"authorization": f"Bearer {os.environ['TRIOCEPT_API_KEY']}"},
    )
    return json.load(urllib.request.urlopen(request))

tools = call("tools")["tools"]
print([tool["function"]["name"] for tool in tools])
messages = [{"role": "user", "content": "Lend me something old."}]
while True:
    body = {"model": "any", "messages": messages, "tools": tools}
    said = call("v1/chat/completions", body)["choices"][0]["message"]
    messages.append(said)
    if not said.get("tool_calls"):
        break
    for wish in said["tool_calls"]:
        name, arguments = wish["function"]["name"], wish["function"]["arguments"]
        result = call(f"tools/{name}", {"arguments": json.loads(arguments)})["result"]
        text = result if isinstance(result, str) else json.dumps(result)
        messages.append({"role": "tool", "tool_call_id": wish["id"], "content": text})
print(said["content"])
"""


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer, id="you", tools=[search, lend]) as rollout,
    ):
        result = await rollout.run_agent([sys.executable, "-c", AGENT])
    print(result.check().stdout_text)
    for call in rollout.trace.services:
        print(call.name, call.arguments, call.outcome, call.result)


trio.run(main)
