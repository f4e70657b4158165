"""`Fault`: a failure as a value, and a handler that applies the failure to one model call.

Rules:

1. A fault is an immutable value. It may answer any number of calls in any dialect, and its effect on each call is the
   same.
2. Invalid arguments raise an error when the fault is created; the error names the argument.
3. The code that renders real answers also renders the answers of faults. So a cut stream is the beginning of a real
   stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import getmembers, ismethod
from typing import final

from .answers import OddAnswers, Quirks
from .base import Act
from .bodies import BrokenBodies, Refusals
from .streams import BrokenConnections, BrokenStreams

__all__ = ["MAKERS", "Act", "Fault"]


@final
class Fault(Refusals, BrokenConnections, BrokenBodies, BrokenStreams, OddAnswers, Quirks):
    """A failure that takes the place of a reply: `ScriptedModel([Fault.status(429, retry_after=1), "ok"])`.

    Create a fault only with its constructors, such as `Fault.cut()`. A fault is also a handler: `await fault(exchange)`
    applies it to the call. The response is in the agent's dialect, and it is streamed if the agent requested a stream.
    Two faults are equal if they have the same constructor and equal arguments.
    """

    __slots__ = ()


MAKERS: Mapping[str, Callable[..., Fault]] = {
    name: maker for name, maker in getmembers(Fault, ismethod) if not name.startswith("_")
}
"""The constructors of `Fault`, by name."""

# Python's own error text for a wrong argument names the class in which the constructor is defined.
for _name, _maker in MAKERS.items():
    _maker.__func__.__qualname__ = f"Fault.{_name}"  # type: ignore[attr-defined]
