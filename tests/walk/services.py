"""What a rollout of a walk serves beside model calls, and what its agents ask of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triocept import Message, Rollout

from .account import Raised
from .history import OpenRollout
from .wire import turns

if TYPE_CHECKING:
    from .world import World

FAULTY = "an embedding that fails"
_TALK = {"messages": [{"role": "user", "content": "hi"}]}
_RPC = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
VISITS: dict[str, dict[str, Any] | None] = {
    "/v1/models": None,
    "/health": None,
    "/nowhere": None,
    "/v1/messages/count_tokens": {"model": "m", **_TALK},
    "/v1/chat/completions": None,
    "/v1/embeddings": {"model": "m", "input": ["a word", "another word"]},
    "/v1/embeddings#faulty": {"model": "m", "input": [FAULTY]},
    "/v1/moderations": {"input": "a word"},
    "/api/embed": {"model": "m", "input": "a word"},
    "/tools": None,
    "/tools/look_up": {"arguments": {"word": "a"}},
    "/tools/nothing": {"arguments": {}},
    "/user": _TALK,
    "/stop": _TALK,
    "/state": None,
    "/mcp": None,
    "/mcp#tools": _RPC,
}
"""Paths that are visited, and the document of a POST; None: a GET. What is behind `#` is not sent."""


class EmbedFault(Exception):
    """What the function of embeddings raises."""


def services_of(world: World, step: OpenRollout) -> dict[str, Any]:
    """The options of a rollout that serves everything."""

    async def look_up(word: str) -> str:
        """Look a word up."""
        await turns(2)
        return f"{word}: a word"

    async def user(messages: Sequence[Message], rollout: Rollout) -> str:
        await turns(3)
        return "go on"

    async def stop(messages: Sequence[Message], rollout: Rollout) -> str | None:
        await turns(1)
        return None

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        await turns(2)
        if FAULTY in texts:
            error = EmbedFault(f"in rollout {step.number}")
            world.account.faults.append(Raised(error, step.number, "a fault of an embedding"))
            world.rollouts[step.number].end_by_fault()
            raise error
        return [[1.0, 0.0] for _ in texts]

    return {"tools": [look_up], "user": user, "stop": stop, "state": {"count": 0}, "embed": embed}
