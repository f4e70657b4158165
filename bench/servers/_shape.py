"""What a measured server is, and what all of them do alike.

The work is the same in each: answer "hello" at once; or a stream of `CHUNKS` increments, as fast as they are taken;
or, where the request has the header `x-bench: hold`, hold it until the command `release`. With `x-bench: short`, and
once it was held, a stream has one increment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Ability: TypeAlias = str
"""What a peer can take: `answer`, `stream`, `hold`, `endpoint` (cheap to bring up in-process), `stall`, `dialects`
(all of them, not chat completions only); and of ours `growth` (and powers) and `cores`, which are about itself."""

HEADER = "x-bench"
HOLD, SHORT = "hold", "short"
ANSWER = "hello"
CHUNKS = 100
"""Increments of text in a stream."""

COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "bench",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001},
}
"""The whole answer, for peers whose program writes the wire's own document."""


_BODY = json.dumps(COMPLETION, separators=(",", ":")).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
"""The whole answer with its head."""


def increments(headers: Mapping[str, str]) -> int:
    """Return the number of increments of a stream, for a request with these headers."""
    return 1 if headers.get(HEADER) in (SHORT, HOLD) else CHUNKS


def chunk(text: str | None) -> dict[str, Any]:
    """An increment of a stream, for the same; None ends the text."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if text is None else None}
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [choice],
    }


@dataclass(frozen=True)
class Route:
    """Where a rollout is reached, and with which key."""

    path: str
    key: str


class Server(Protocol):
    """A running server."""

    port: int

    async def renew(self, count: int) -> list[Route]:
        """End the rollouts there are, and begin so many new ones."""


OpenServer: TypeAlias = Callable[["Gate"], AbstractAsyncContextManager[Server]]


class _Event(Protocol):
    def set(self) -> None: ...
    def wait(self) -> Awaitable[object]: ...


class Gate:
    """Where held requests wait, on whatever event loop."""

    def __init__(self, make_event: Callable[[], _Event]) -> None:
        self._make_event = make_event
        self._event = make_event()
        self.held = 0
        """How many wait."""

    async def wait(self) -> None:
        """Wait for the next release."""
        self.held += 1
        await self._event.wait()

    def release(self) -> float:
        """Let all go that wait, and say when."""
        event, self._event = self._event, self._make_event()
        self.held = 0
        now = time.monotonic()
        event.set()
        return now
