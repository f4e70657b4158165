"""What workers do here: rollouts of an agent process each, which say which processes they are."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from triocept import Endpoint, Exchange

AGENT = """
import json, os, sys, time, urllib.request
note, seconds = sys.argv[1:3]
with open(note, "w") as file:
    file.write(str(os.getpid()))
def call(text):
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode(),
        {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
call("one")
time.sleep(float(seconds))
print(call("two"))
"""


async def answer(exchange: Exchange) -> None:
    assert exchange.request.last is not None
    await exchange.respond(f"heard {exchange.request.user_text}")


async def roll_out(worker: Endpoint, task: tuple[str, int, float], *, attempt: int) -> str:
    """A rollout of two calls and some seconds between. It leaves a note: which process did it, and its agent's."""
    folder, number, seconds = task
    name = f"{number}.{attempt}.{os.getpid()}.{secrets.token_hex(4)}"
    async with worker.open_rollout(answer) as rollout:
        result = await rollout.run_agent(
            [sys.executable, "-S", "-c", AGENT, str(Path(folder) / name), str(seconds)]
        )
    return result.check().stdout_text.strip()
