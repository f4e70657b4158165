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
from triocept._canonical.tokens import Estimator, usage_after
from triocept._rollout.calls import retry_key
from triocept._trace.redaction import Redactor
from triocept._trace.trace import Trace, TraceWriter
from triocept._trace.turn import Turn
from triocept.dialects import dialect

from .bodies import CHAT, make_body, make_turn

EARLY, LATE = 20, 500
"""Turns."""
AROUND = 10
"""Turns before and after, of which the median counts."""
_ANSWER = Response.of("Let me look at the file.")


def growth(rounds: int = 5) -> dict[str, float]:
    """Microseconds of CPU of a turn early and late in a conversation: to read it, to record it, and to say whose it is.

    Once more with a cache mark on the last message, as Claude Code sends it: it moves with each call.
    """
    found = [_conversation(marked=False) | _conversation(marked=True) for _ in range(rounds)]
    figures = {name: median(seen[name] for seen in found) for name in found[0]}
    early, late = (figures[f"us to record turn {turn}"] for turn in (EARLY, LATE))
    return {**figures, "growth of recording": late / early}


def _conversation(*, marked: bool) -> dict[str, float]:
    document = msgspec.json.decode(make_body(4 * 1024))
    said = document["messages"][:2]
    memory, estimator, trace = Memory(), Estimator(), Trace("bench")
    redactor, writer = Redactor(), TraceWriter(trace)
    times: dict[str, list[float]] = {"read": [], "record": [], "place": []}
    for number in range(LATE + AROUND):
        said += make_turn(number)
        messages = [*said[:-1], _marked(said[-1])] if marked else said
        wire: Any = msgspec.json.decode(msgspec.json.encode({**document, "messages": messages}))
        start = time.process_time()
        request = dialect(CHAT).parse_request(wire, memory=memory)
        read = time.process_time()
        record_turn(request, estimator, redactor, writer)
        recorded = time.process_time()
        trace.conversations  # noqa: B018
        placed = time.process_time()
        for name, seconds in zip(times, (read - start, recorded - read, placed - recorded), strict=True):
            times[name].append(seconds)
    more = ", the mark moves" if marked else ""
    return {
        f"us to {what} turn {turn}{more}": 1e6 * median(seconds[turn - AROUND : turn + AROUND])
        for what, seconds in times.items()
        for turn in (EARLY, LATE)
    }


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "text", "text": message["content"], "cache_control": {"type": "ephemeral"}}
    return {**message, "content": [text]}


def record_turn(
    request: Request, estimator: Estimator, redactor: Redactor, writer: TraceWriter, *, name: str = CHAT
) -> None:
    """Record an answered call of the dialect `name`, as a rollout does."""
    retry_key(request, None)
    usage_after(estimator.input_tokens(request), _ANSWER)
    turn = Turn(
        id=f"x{len(writer.trace)}",
        rollout="bench",
        number=len(writer.trace),
        dialect=name,
        request=redactor.request(request),
        outcome="answered",
        response=_ANSWER,
        started_at=0.0,
        duration=0.0,
    )
    writer.add(turn)


if __name__ == "__main__":
    for name, value in growth().items():
        print(f"{name:45} {value:.1f}")
