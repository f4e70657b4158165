"""The spans of an Inspect sample: one for each agent, so that its viewer has a row for each.

The viewer needs a span `solvers` around all others, and treats the single agent in it as the main agent. A sub-agent is
placed in the span of the tool that began it: otherwise the viewer hides a sub-agent of one call as a minor helper.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .._trace.turn import Turn
from ._segments import Segment
from ._times import ended_at

ROOT = "solvers"


@dataclass
class Span:
    """A span of an Inspect sample."""

    id: str
    name: str
    type: str | None
    parent: str | None
    depth: int
    start: float
    """Seconds since the epoch, as in `end`."""
    end: float
    metadata: dict[str, str] = field(default_factory=dict)


class SpanTree:
    """The spans of a trace, parents first.

    Args:
        turns: all turns of the trace.
        segments: all segments of the trace.
    """

    def __init__(self, turns: Iterable[Turn], segments: Iterable[Segment]) -> None:
        turns = list(turns)
        self._start = min((turn.started_at for turn in turns), default=0.0)
        self._end = max(map(ended_at, turns), default=0.0)
        self.spans: dict[str, Span] = {}
        self.of_turn: dict[str, str] = {}
        """The id of a turn's span, by the turn's id."""
        self._known: dict[tuple[str, str], str] = {}
        """The id of a conversation's span, by the conversation and its kind."""
        self._add(ROOT, ROOT, ROOT, None, turns)
        for segment in sorted(segments, key=lambda each: each.conversation.kind != "main"):
            span = self._span_of(segment)
            self.of_turn |= dict.fromkeys((turn.id for turn in segment.turns), span)
            if segment.conversation.kind != "main":
                self._widen(span, segment.turns)

    @property
    def main(self) -> str:
        """Id of the main conversation's span; without a main conversation, of the outermost span."""
        return next((span for (_, kind), span in self._known.items() if kind == "main"), ROOT)

    def _span_of(self, segment: Segment) -> str:
        told = segment.conversation
        key = (told.id, told.kind)
        if key not in self._known:
            self._known[key] = self._begin(segment)
            self.spans[self._known[key]].metadata["conversation"] = told.id
        return self._known[key]

    def _begin(self, segment: Segment) -> str:
        kind, turns = segment.conversation.kind, segment.turns
        mine = f"conversation-{len(self._known)}"
        if kind == "main":
            return self._add(mine, "main", "agent", ROOT, ())
        if kind != "sub_agent":
            return self._add(mine, "side call" if kind == "side" else "tool", None, self.main, turns)
        around, launch = self.main, segment.launch
        if launch is not None:
            around = self._add(
                f"tool-{launch.call.id}", launch.call.name, "tool", self.of_turn[launch.turn.id], turns
            )
        number = 1 + sum(known == "sub_agent" for _, known in self._known)
        return self._add(mine, f"sub-agent {number}", "agent", around, turns)

    def _add(
        self, identity: str, name: str, kind: str | None, parent: str | None, turns: Iterable[Turn]
    ) -> str:
        turns = list(turns)
        self.spans[identity] = Span(
            id=identity,
            name=name,
            type=kind,
            parent=parent,
            depth=self.spans[parent].depth + 1 if parent is not None else 0,
            start=turns[0].started_at if parent is not None and turns else self._start,
            end=self._end,
        )
        if parent is not None and turns:
            self.spans[identity].end = self.spans[identity].start
            self._widen(identity, turns)
        return identity

    def _widen(self, identity: str | None, turns: Iterable[Turn]) -> None:
        """Extend a span, and the spans around it, to the end of these turns."""
        end = max(map(ended_at, turns), default=0.0)
        while identity is not None:
            span = self.spans[identity]
            span.end = max(span.end, end)
            identity = span.parent
