"""A fault: a value, and a handler that does to one model call what it says.

Rules:

1. A fault is a value: it may answer any number of calls, in any dialect, and does the same to each.
2. What it cannot be made with is an error where it is made, and names the argument.
3. What is told of an answer is told by the dialect's own renderers: a cut stream is a cut of its real stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import getmembers, ismethod
from typing import final

from .answers import OddAnswers, Quirks
from .base import Act
from .bodies import BrokenBodies
from .connections import BrokenConnections
from .refusals import Refusals
from .streams import BrokenStreams

__all__ = ["MAKERS", "Act", "Fault"]


@final
class Fault(Refusals, BrokenConnections, BrokenBodies, BrokenStreams, OddAnswers, Quirks):
    """Something that goes wrong, as a reply: `ScriptedModel([Fault.status(429, retry_after=1), "ok"])`.

    Made by its constructors only. It is a handler, too: `await fault(exchange)` gives the call what it says, in the
    agent's own dialect, whole or as a stream, as the agent has asked. Two that were made alike are equal.
    """

    __slots__ = ()


MAKERS: Mapping[str, Callable[..., Fault]] = {
    name: maker for name, maker in getmembers(Fault, ismethod) if not name.startswith("_")
}
"""The constructors, by name."""

# Python's own text for a wrong argument names the class that it is written in.
for _name, _maker in MAKERS.items():
    _maker.__func__.__qualname__ = f"Fault.{_name}"  # type: ignore[attr-defined]
