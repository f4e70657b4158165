"""What the workers of a paused fleet do: importable, as a user's functions are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import trio

from triocept import Endpoint, Upstream, open_upstream, serve_endpoint


@dataclass
class Worker:
    endpoint: Endpoint
    upstream: Upstream
    seen: int = 0


@asynccontextmanager
async def open_worker(url: str) -> AsyncIterator[Worker]:
    async with open_upstream(url, dialect="openai_chat", model="m") as upstream, serve_endpoint() as endpoint:
        upstream.policy_version = "w1"
        yield Worker(endpoint, upstream)


async def make_call(worker: Worker, task: str, *, attempt: int) -> tuple[str, str | None, str | None]:
    """Make one call; return its text, and the versions of the weights."""
    async with worker.endpoint.open_rollout(worker.upstream) as rollout:
        body = {"model": "m", "messages": [{"role": "user", "content": task}]}
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            key = {"authorization": f"Bearer {rollout.api_key}"}
            got = await client.post(
                f"{rollout.base_url('openai_chat')}/chat/completions", json=body, headers=key
            )
        (turn,) = rollout.trace
    return got.json()["choices"][0]["message"]["content"], turn.policy_start, turn.policy_end


async def process_id(worker: object) -> int:
    await trio.lowlevel.checkpoint()
    return os.getpid()


async def count(worker: Worker) -> int:
    await trio.lowlevel.checkpoint()
    worker.seen += 1
    return worker.seen


async def end_process(worker: object, marker: str) -> int:
    """End the process of the first worker that comes here."""
    await trio.lowlevel.checkpoint()
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return os.getpid()
    os._exit(3)


async def fail(worker: object) -> None:
    await trio.lowlevel.checkpoint()
    raise KeyError("mine")


def no_upstream(worker: Worker) -> Endpoint:
    return worker.endpoint
