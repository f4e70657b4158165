import httpx2
import trio
import triocept
from triocept import Response, ToolCall


async def model(exchange: triocept.Exchange) -> None:
    """Adds numbers; what is more than two of them it lets others do."""
    task = exchange.request.messages[0].text
    numbers = [int(word) for word in task.split() if word.isdecimal()]
    parts = [int(result.text) for result in exchange.request.tool_results]
    if len(numbers) <= 2 or parts:
        await exchange.respond(str(sum(parts or numbers)))
        return
    half = len(numbers) // 2
    tasks = [" ".join(map(str, part)) for part in (numbers[:half], numbers[half:])]
    calls = [ToolCall.of("delegate", task=f"add {part}") for part in tasks]
    await exchange.respond(Response.of(*calls))


async def delegate(task: str, rollout: triocept.Rollout) -> str:
    """Let an agent of its own do a part of the task."""
    async with rollout.open_child(model, tools=[delegate]) as child:
        return await run(child, task)


async def run(rollout: triocept.Rollout, task: str) -> str:
    """The agent: it asks its model, and runs the tools that the model calls."""
    messages = [{"role": "user", "content": task}]
    key = {"authorization": f"Bearer {rollout.api_key}"}
    async with (
        rollout.client("openai_chat") as openai,
        httpx2.AsyncClient(timeout=None) as http,
    ):
        listed = await http.get(rollout.service_url("tools"), headers=key)
        while True:
            completion = await openai.chat.completions.create(
                model=rollout.model, messages=messages, tools=listed.json()["tools"]
            )
            said = completion.choices[0].message
            if not said.tool_calls:
                return said.content
            messages.append(said.model_dump(exclude_none=True))
            for call in said.tool_calls:
                result = await http.post(
                    rollout.service_url(f"tools/{call.function.name}"),
                    content=b'{"arguments":' + call.function.arguments.encode() + b"}",
                    headers=key,
                )
                text = result.json()["result"]
                messages.append(
                    {"role": "tool", "tool_call_id": call.id, "content": text}
                )


def show(trace: triocept.Trace, depth: int = 0) -> None:
    task, answer = trace[0].request.messages[0].text, trace[-1].response.text
    print(f"{'    ' * depth}{task}: {answer} ({len(trace)} turns)")
    for child in trace.children:
        show(child, depth + 1)


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model, tools=[delegate]) as rollout,
    ):
        await run(rollout, "add 1 2 3 4 5 6")
    show(rollout.trace)


trio.run(main)
