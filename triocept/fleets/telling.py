"""Events of a map's tasks."""

from __future__ import annotations

from typing import Any, Protocol, final

import trio

from .._util.failures import text_of
from .events import (
    MapEnded,
    MapStarted,
    Observers,
    OutcomeName,
    TaskEnded,
    TaskRequeued,
    TaskRetried,
    TaskSkipped,
    TaskStarted,
)
from .outcomes import AnyOutcome, Outcome, Result
from .packing import Spent

REASON_LENGTH = 500
"""Maximum characters of a reason."""


class _Call(Protocol):
    """The fields of a call that events contain."""

    number: int
    sample: int
    attempt: int
    worker: str

    @property
    def group_number(self) -> int | None: ...


@final
class Telling:
    """Sender of one map's events.

    Args:
        observers: receivers of the events.
        map_number: number of the map.
        function: name of the map's function.
        total: number of expected outcomes; None: unknown.
    """

    def __init__(self, observers: Observers, map_number: int, function: str, total: int | None) -> None:
        self._observers = observers
        self._map = map_number
        self._function = function
        self._total = total
        self._started_at: dict[int, float] = {}
        """Start times of calls without an outcome, by number."""

    def map_started(self) -> None:
        self._observers.tell(MapStarted(map=self._map, function=self._function, total=self._total))

    def map_ended(self) -> None:
        self._observers.tell(MapEnded(map=self._map, unfinished=len(self._started_at)))

    def skipped(self, task: int, count: int) -> None:
        self._observers.tell(TaskSkipped(map=self._map, task=task, count=count))

    def started(self, call: _Call) -> None:
        self._started_at.setdefault(call.number, trio.current_time())
        self._observers.tell(TaskStarted(**self._of(call)))

    def requeued(self, call: _Call, reason: str) -> None:
        self._observers.tell(TaskRequeued(**self._of(call), reason=reason))

    def retried(self, call: _Call, error: BaseException) -> None:
        self._observers.tell(TaskRetried(**self._of(call), reason=_words(error)))

    def ended(self, call: _Call, result: Result[Any, Any], spent: Spent) -> None:
        now = trio.current_time()
        name, reason = _named(result.outcome)
        event = TaskEnded(
            **self._of(call),
            outcome=name,
            reason=reason,
            seconds=now - self._started_at.pop(call.number, now),
            rollouts=spent.rollouts,
            turns=spent.turns,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
        )
        self._observers.tell(event)

    def _of(self, call: _Call) -> dict[str, Any]:
        return {
            "map": self._map,
            "number": call.number,
            "group": call.group_number,
            "sample": call.sample,
            "attempt": call.attempt,
            "worker": call.worker,
        }


def _named(outcome: AnyOutcome[Any]) -> tuple[OutcomeName, str]:
    match outcome:
        case Outcome.Value():
            return "value", ""
        case Outcome.Error(error=error):
            return "error", _words(error)
        case Outcome.Lost(reason=reason):
            return "lost", reason
        case Outcome.Stopped():
            return "stopped", ""


def _words(error: BaseException) -> str:
    """Return class and text of an error: `LookupError: no such bug`."""
    text = " ".join(text_of(error).split())
    name = type(error).__name__
    return f"{name}: {text}"[:REASON_LENGTH] if text else name
