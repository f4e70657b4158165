"""A request of very many items: read in a thread, then counted and kept in steps. What is usual is read in place.

An item costs some microseconds, so a document of 100,000 would hold up every other agent for half a second.

Rules:

1. Whether there are many is asked only of a large body, and is a look at its lists.
2. A thread has the rollout's memory for itself: what another call reads meanwhile has a fresh one, which is given up.
3. What the estimate and the table of messages know already costs them next to nothing when the call is recorded.
"""

from __future__ import annotations

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.memory import Memory
from .._canonical.request import Request
from .._rollout.rollout_core import RolloutCore
from ..dialects import Dialect, Target

__all__ = ["LARGE", "read_large"]

LARGE = 512 * 1024
"""Bytes of a body that is asked; what is smaller is read by its dialect at once."""
_MANY = 10_000
"""Items that are read in place: 10 to 30 ms."""
_STEPS = 8


async def read_large(dialect: Dialect, document: Json, target: Target, rollout: RolloutCore) -> Request:
    """The request that a large body says. A schedule point only where it has very many items.

    Args:
        dialect: in which it is.
        document: the body, decoded.
        target: what its path said.
        rollout: whose call it is.

    Raises:
        DialectError: with the path in the document.

    Cancellation: the thread is waited for, a second or two.
    """
    if not _has_many(document):
        return dialect.parse_request(document, target, rollout.memory)
    memory, rollout.memory = rollout.memory, Memory()
    try:
        request = await trio.to_thread.run_sync(dialect.parse_request, document, target, memory)
    finally:
        rollout.memory = memory
    await _count(request, rollout)
    return request


def _has_many(document: Json) -> bool:
    """Whether its lists, and those of their items, are that long."""
    lists = (
        [value for value in document.values() if type(value) is list] if isinstance(document, dict) else []
    )
    count = sum(map(len, lists))
    if count <= _MANY:
        items = (item for items in lists for item in items if type(item) is dict)
        count += sum(len(inner) for item in items for inner in item.values() if type(inner) is list)
    return count > _MANY


async def _count(request: Request, rollout: RolloutCore) -> None:
    """Estimate the tokens and keep the messages, as far as they go, a piece at a time."""
    count = len(request.messages)
    step = max(_MANY, count // _STEPS)
    for end in range(step, count + step, step):
        head = msgspec.structs.replace(request, messages=request.messages[:end])
        rollout.estimator.input_tokens(head)
        await trio.lowlevel.checkpoint()
        rollout.records.writer.intern(head)
        await trio.lowlevel.checkpoint()
