"""Count the outcomes and tokens of a map from its events, and compute its tokens per second and its time left."""

from __future__ import annotations

from collections import Counter, deque
from typing import final

from .events import FleetEvent, MapEnded, TaskEnded, TaskRequeued, TaskRetried, TaskSkipped, TaskStarted

WINDOW = 60
"""Seconds over which a `Rate` is averaged. If nothing was counted in the last `WINDOW` seconds, the rate is the average
since its start.
"""
MOST_KINDS = 20
"""Maximum number of error classes that are counted separately."""


@final
class Rate:
    """Average number of tasks or tokens per second, over the last `WINDOW` seconds."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._total = 0
        self._seconds: deque[tuple[int, int]] = deque()
        """A pair (second, sum) for each of the last `WINDOW` seconds in which an amount was added. `sum` is the sum of
        the amounts that were added in this second.
        """

    def add(self, amount: int, now: float) -> None:
        self._total += amount
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            amount += self._seconds.pop()[1]
        self._seconds.append((second, amount))
        self._forget(now)

    def per_second(self, now: float) -> float | None:
        """Return the average amount per second; None if nothing was added yet."""
        self._forget(now)
        late = sum(amount for _, amount in self._seconds)
        if late:
            return late / max(1.0, min(WINDOW, now - self._since))
        return self._total / max(1.0, now - self._since) if self._total else None

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] <= now - WINDOW:
            self._seconds.popleft()


@final
class Tally:
    """Counts of one map's outcomes, errors, rollouts, turns and tokens. `add` updates them from each event of the map.

    Args:
        total: number of expected outcomes; None if unknown.
        now: current time in seconds, by any clock. The argument `now` of each method must be by the same clock.
    """

    def __init__(self, name: str, total: int | None, now: float) -> None:
        self.name = name
        self.total = total
        self.outcomes: Counter[str] = Counter()
        """Number of outcomes of each kind; the keys are values of `OutcomeName`."""
        self.kinds: Counter[str] = Counter()
        """Number of errors of each class, by the name of the class."""
        self.last_failure: str = ""
        self.again: int = 0
        """Number of attempts after which a task had to run again, for any reason."""
        self.tokens: int = 0
        self.rollouts: int = 0
        self.turns: int = 0
        self.skipped: int = 0
        """Number of outcomes that the store already had from an earlier run."""
        self.unfinished: int | None = None
        """Number of started tasks that had no outcome when the map ended; None while the map runs."""
        self._since = now
        self._running: set[int] = set()
        self._ended_rate = Rate(now)
        self._token_rate = Rate(now)
        self._until: float | None = None

    @property
    def ended(self) -> int:
        """Number of outcomes that were reached in this run."""
        return self.outcomes.total()

    @property
    def there(self) -> int:
        """Number of outcomes of this run, and of outcomes that the store already had from an earlier run."""
        return self.ended + self.skipped

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def add(self, event: FleetEvent, now: float) -> None:
        match event:
            case TaskStarted():
                self._running.add(event.number)
            case TaskRequeued() | TaskRetried():
                self._running.discard(event.number)
                self.again += 1
            case TaskEnded():
                self._running.discard(event.number)
                self.outcomes[event.outcome] += 1
                tokens = event.input_tokens + event.output_tokens
                self.tokens += tokens
                self.rollouts += event.rollouts
                self.turns += event.turns
                self._ended_rate.add(1, now)
                self._token_rate.add(tokens, now)
                if event.outcome in ("error", "lost"):
                    self.last_failure = f"task {event.number}: {event.reason}"
                if event.outcome == "error":
                    kind = event.reason.partition(":")[0]
                    is_counted = kind in self.kinds or len(self.kinds) < MOST_KINDS
                    self.kinds[kind if is_counted else "others"] += 1
            case TaskSkipped():
                self.skipped += event.count
            case MapEnded():
                self.unfinished = event.unfinished
                self._running.clear()
                self._until = now
            case _:
                pass

    def elapsed(self, now: float) -> float:
        """Return the seconds from the start of the map until `now` or, if the map has ended, until its end."""
        return (self._until or now) - self._since

    def tokens_per_second(self, now: float) -> float | None:
        """Return the average of tokens per second (see `WINDOW`); None if no tokens were counted.

        The tokens of a task are counted when the task has ended.
        """
        return self._token_rate.per_second(now)

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until the map ends, estimated from its recent rate; None if there is no estimate."""
        rate = self._ended_rate.per_second(now)
        if self.total is None or rate is None or self.unfinished is not None:
            return None
        return max(0, self.total - self.there) / rate
