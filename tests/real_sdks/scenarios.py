"""What the Python programs share. A scenario is named by its prompt: so the model knows what to answer (`model.py`)."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
STATUSES = (400, 401, 403, 404, 409, 422, 429, 500, 503, 529)
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def sunny(city: str) -> str:
    """The weather."""
    return f"sun in {city}"


def run(scenarios: dict[str, Callable[[str], Awaitable[Any]]]) -> None:
    """Run the scenarios in their order, and print one line of JSON for each."""

    async def main() -> None:
        for scenario, play in scenarios.items():
            line: dict[str, Any] = {"scenario": scenario}
            try:
                line["result"] = await play(scenario)
            except Exception:
                line["error"] = traceback.format_exc()
            print(json.dumps(line), flush=True)

    asyncio.run(main())


async def errors(ask: Callable[[str], Awaitable[Any]], describe: Callable[[Any], Any]) -> list[Any]:
    """The errors that a library raises for each status: what `describe` says of them."""
    seen: list[Any] = []
    for status in STATUSES:
        try:
            await ask(f"error {status}")
            seen.append("none")
        except Exception as exc:
            seen.append(describe(exc))
    return seen


async def raised(play: Callable[[], Awaitable[Any]]) -> dict[str, bool]:
    """What a stream that breaks in the middle raises."""
    try:
        await play()
    except Exception as exc:
        return {"raised": True, "reason": "overloaded" in str(exc)}
    return {"raised": False, "reason": False}
