"""What a turn of a long conversation costs beside the bytes that it sends again.

An agent sends its whole conversation with every call. The bytes have to be decoded and compared with those of the call
before; what is behind that (the turn is recorded, its messages are kept once, its tokens are estimated) should cost
what is new, whatever came before.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import msgspec

from triocept._canonical.memory import Memory
from triocept._canonical.request import Request
from triocept._canonical.response import Response
from triocept._canonical.tokens import Estimator
from triocept._rollout.retries import likeness
from triocept._trace.trace import Trace
from triocept.dialects import dialect

from .bodies import CHAT, make_body, make_turn

__all__ = ["growth"]

EARLY, LATE = 20, 500
"""Turns."""
AROUND = 10
"""Turns before and after, of which the median counts."""
_ANSWER = Response.of("Let me look at the file.")


def growth(rounds: int = 5) -> dict[str, float]:
    """Microseconds of a turn early and late in a conversation: to read it, and to record it."""
    found = [_conversation() for _ in range(rounds)]
    figures = {name: median(seen[name] for seen in found) for name in found[0]}
    early, late = (figures[f"us to record turn {turn}"] for turn in (EARLY, LATE))
    return {**figures, "growth of recording": late / early}


def _conversation() -> dict[str, float]:
    document = msgspec.json.decode(make_body(4 * 1024))
    said = document["messages"][:2]
    memory, estimator, trace = Memory(), Estimator(), Trace("bench")
    read: list[float] = []
    record: list[float] = []
    for number in range(LATE + AROUND):
        said += make_turn(number)
        wire: Any = msgspec.json.decode(msgspec.json.encode({**document, "messages": said}))
        start = time.perf_counter()
        request = dialect(CHAT).parse_request(wire, memory=memory)
        middle = time.perf_counter()
        _record(request, estimator, trace)
        record.append(time.perf_counter() - middle)
        read.append(middle - start)
    return {
        f"us to {what} turn {turn}": 1e6 * median(times[turn - AROUND : turn + AROUND])
        for what, times in (("read", read), ("record", record))
        for turn in (EARLY, LATE)
    }


def _record(request: Request, estimator: Estimator, trace: Trace) -> None:
    likeness(request, None)
    estimator.usage(request, _ANSWER)
    trace._intern(request)


if __name__ == "__main__":
    for name, value in growth().items():
        print(f"{name:28} {value:.1f}")
