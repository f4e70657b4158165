"""`triocept stats FILE…`: counts calls, tokens and seconds, grouped by model, agent, kind or outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import exp, log

from .._canonical.content import Json
from .._canonical.response import Usage
from .._trace.conversation import Conversation
from .._trace.cost import models_of, usage_of, usage_of_all
from .._trace.texts import agent_name
from .._trace.trace import Trace
from .._trace.turn import Turn
from .._trace.waits import waited
from .words import bypasses_in

KEYS: dict[str, Callable[[Turn, Conversation, Trace], str]] = {
    "kind": lambda turn, conversation, trace: conversation.kind.replace("_", "-"),
    "model": lambda turn, conversation, trace: models_of(turn)[0],
    "command": lambda turn, conversation, trace: (
        ", ".join(dict.fromkeys(agent.name for agent in trace.agents)) or "-"
    ),
    "agent": lambda turn, conversation, trace: agent_name(turn.agent) or "-",
    "outcome": lambda turn, conversation, trace: turn.outcome,
    "dialect": lambda turn, conversation, trace: turn.dialect,
    "rollout": lambda turn, conversation, trace: turn.rollout,
}
"""Properties by which calls can be grouped, each with a function that returns the property of a turn."""
PERCENTS = (50, 90, 99)
_STEP = log(1.01)
_LEAST = 1e-6
"""Minimum duration in seconds. A shorter duration counts as this duration."""


class Quantiles:
    """Percentiles of any number of durations, in constant memory.

    Durations are counted in intervals. The upper limit of each interval is one percent above the upper limit of the
    interval before it, so percentiles are accurate to one percent.
    """

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self._classes: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self.count += 1
        self.max = max(self.max, seconds)
        self._classes[round(log(max(seconds, _LEAST)) / _STEP)] += 1

    def percentile(self, percent: float) -> float:
        """Return the shortest duration D for which at least `percent` percent of all durations are at most D."""
        if not self.count:
            raise ValueError("there is no percentile of no durations: add at least one duration first")
        wanted, seen = percent / 100 * self.count, 0
        for number, count in sorted(self._classes.items()):
            seen += count
            if seen >= wanted:
                return min(exp(number * _STEP), self.max)
        return self.max


class Group:
    """Counts of one group of calls: their tokens, durations, outcomes and decisions."""

    def __init__(self) -> None:
        self.calls = 0
        self.outcomes: Counter[str] = Counter()
        self.usage: Usage | None = None
        """Sum of the token counts of the calls, and of drafts that count as additional calls. None if no call has token
        counts."""
        self.uncounted = 0
        """Number of answered calls with estimated token counts, because the provider reported none."""
        self.decisions: Counter[str] = Counter()
        """Number of decisions about tool calls, by kind."""
        self.drafts = 0
        """Number of drafts: answers that a handler got from another handler, and that the agent did not get, or got
        changed.
        """
        self.draft_usage: Usage | None = None
        """Sum of the reported token counts of drafts that count as additional calls. `usage` includes this sum."""
        self.latency = Quantiles()
        """Durations of answered calls, without the time in which they waited for decisions."""
        self.first_token = Quantiles()
        """Seconds to the first event of the answer, for streamed calls."""

    @property
    def errors(self) -> int:
        return self.calls - self.outcomes["answered"]

    def add(self, turn: Turn) -> None:
        """Count the call that a turn records."""
        self.calls += 1
        self.outcomes[turn.outcome] += 1
        if (usage := usage_of(turn)) is not None:
            self.usage = usage_of_all([usage] if self.usage is None else [self.usage, usage])
        self.decisions.update(each.kind for each in turn.decisions)
        self.drafts += len(turn.drafts)
        used = [each.response.usage for each in turn.drafts if each.counted and each.response is not None]
        if more := [each for each in (self.draft_usage, *used) if each is not None]:
            self.draft_usage = usage_of_all(more)
        if turn.outcome == "answered":
            self.uncounted += turn.response is None or turn.response.usage is None
            self.latency.add(turn.duration - waited(turn))
            if turn.first_event is not None:
                self.first_token.add(turn.first_event)

    def document(self) -> dict[str, Json]:
        usage, drafts = self.usage, self.draft_usage
        return {
            "calls": self.calls,
            "errors": self.errors,
            "outcomes": dict(self.outcomes),
            "input_tokens": usage.input_tokens if usage is not None else None,
            "output_tokens": usage.output_tokens if usage is not None else None,
            "cached_tokens": usage.cached_tokens if usage is not None else None,
            "cache_write_tokens": usage.cache_write_tokens if usage is not None else None,
            "reasoning_tokens": usage.reasoning_tokens if usage is not None else None,
            "estimated": usage is not None and usage.estimated,
            "uncounted_calls": self.uncounted,
            "decisions": dict(self.decisions),
            "drafts": self.drafts,
            "draft_input_tokens": drafts.input_tokens if drafts is not None else None,
            "draft_output_tokens": drafts.output_tokens if drafts is not None else None,
            "latency": _percentiles(self.latency),
            "first_token": _percentiles(self.first_token),
        }


class Stats:
    """Counts of all calls, and of each group of calls. `by` contains names in `KEYS`, by which calls are grouped."""

    def __init__(self, by: Sequence[str]) -> None:
        self.by = tuple(dict.fromkeys(by))
        self.rollouts = 0
        self.sealed = 0
        self.sealed_with_gaps = 0
        self.attempts = 0
        """Number of rollouts in stores that are not counted, because their attempts ended without a result."""
        self.bypasses = 0
        """Number of tool calls that the agent ran without a decision of the gate (`open_rollout(gate=…)`)."""
        self.total = Group()
        self.groups: dict[tuple[str, ...], Group] = {}

    def add(self, trace: Trace) -> None:
        """Count the calls of a rollout, but not the calls of its child rollouts, which are added separately."""
        self.rollouts += 1
        self.sealed += trace.sealed
        self.sealed_with_gaps += not trace.sealed and trace.digest is not None
        self.bypasses += len(bypasses_in(trace))
        conversations = trace.conversations
        for turn in trace:
            key = tuple(KEYS[name](turn, conversations[turn.id], trace) for name in self.by)
            self.groups.setdefault(key, Group()).add(turn)
            self.total.add(turn)

    def sorted_groups(self) -> list[tuple[tuple[str, ...], Group]]:
        return sorted(self.groups.items(), key=lambda each: (-each[1].calls, each[0]))

    def document(self) -> dict[str, Json]:
        return {
            "rollouts": self.rollouts,
            "sealed": self.sealed,
            "sealed_with_gaps": self.sealed_with_gaps,
            "left_out": self.attempts,
            "bypasses": self.bypasses,
            "total": self.total.document(),
            "by": list(self.by),
            "groups": [
                {**dict(zip(self.by, key, strict=True)), **group.document()}
                for key, group in self.sorted_groups()
            ],
        }


def _percentiles(times: Quantiles) -> dict[str, float] | None:
    if not times.count:
        return None
    found = {f"p{percent}": times.percentile(percent) for percent in PERCENTS}
    return {name: float(f"{value:.4g}") for name, value in (*found.items(), ("max", times.max))}
