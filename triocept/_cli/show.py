"""`triocept show FILE`: prints each rollout of a file, with a line for each turn, grouped by conversation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .._trace.conversation import names_of
from .._trace.cost import usage_of, usage_of_all
from .._trace.texts import agent_name
from .._trace.trace import Trace
from .._trace.turn import Turn
from .page import Page, Piece, width_of
from .words import (
    STYLES,
    bypasses_in,
    clock,
    command_line,
    counted,
    gap_names,
    handled,
    reason,
    relation_words,
    said,
    tokens,
)

_NARROW = 100
"""Minimum width of a terminal, in characters, for complete lines. On a narrower terminal, times, output tokens and
outcomes are left out."""

_COMMANDS = 3
"""Maximum commands of agents to print for a rollout."""


@dataclass
class _Group:
    """Group of turns that are printed together: the turns of one conversation, or all side calls."""

    title: str
    kind: str
    turns: list[Turn] = field(default_factory=list)


class Overview:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._relations = trace.relations
        self._numbers = {turn.id: turn.number for turn in trace}
        self._digits = max(map(len, map(str, self._numbers.values())), default=1)
        self._summaries = {each.turn for each in self._relations.values() if each.kind == "compaction"}
        self._begun = begun_at(trace)

    def show(self, page: Page) -> None:
        head = headline(self._trace)
        if page.width is not None and width_of(head) > page.width:  # no number is cut in two
            page.line(*head[:2])
            page.line(*head[2:])
        else:
            page.line(*head)
        for line in _facts(self._trace):
            page.line(f"  {line}")
        for group in self._groups():
            indent = "" if group.kind == "main" else "  "
            page.line(indent, (group.title, "bold"))
            before: str | None = None
            for turn in group.turns:
                page.line(indent, *self._row(turn, before, page.width))
                before = turn.id

    def _groups(self) -> list[_Group]:
        """Return the groups: main conversations, then sub-agents, side calls and calls of tools.

        Groups of the same kind are ordered by their starts.
        """
        conversations = self._trace.conversations
        names = names_of(conversations.values())
        found: dict[object, _Group] = {}
        for turn in self._trace:
            mine = conversations[turn.id]
            key = mine.kind if mine.kind in ("side", "tool") else (mine.id, mine.kind)
            if key not in found:
                title = "side calls" if mine.kind == "side" else "calls of the program's tools"
                if (name := names.get((mine.id, mine.kind))) is not None:
                    relation = self._relations[turn.id]
                    words = relation_words(relation, self._numbers, None) if mine.kind == "sub_agent" else ""
                    title = f"{name}  ({words})" if words else name
                found[key] = _Group(title, mine.kind)
            found[key].turns.append(turn)
        order = ["main", "sub_agent", "side", "tool"]
        return sorted(found.values(), key=lambda group: order.index(group.kind))

    def _row(self, turn: Turn, before: str | None, width: int | None) -> Iterable[Piece]:
        usage = usage_of(turn)
        read = tokens(usage.input_tokens if usage is not None else None, usage)
        written = tokens(usage.output_tokens if usage is not None else None, usage)
        yield (f"{turn.number:>{self._digits + 3}} ", "bold")
        if width is None or width >= _NARROW:
            yield (f"{clock(turn.started_at - self._begun):>8} ", "dim")
        yield (f"{read:>8} ", "cyan")
        if width is None or width >= _NARROW:
            stopped = turn.response.stopped if turn.response is not None else ""
            yield (f"{written:>6} ", "cyan")
            yield (f"{stopped if turn.outcome == 'answered' else turn.outcome:<13} ", STYLES[turn.outcome])
        elif turn.outcome != "answered":
            yield (f"{turn.outcome} ", STYLES[turn.outcome])
        relation = self._relations[turn.id]
        if relation.kind != "sub_agent" and (words := relation_words(relation, self._numbers, before)):
            yield (f"{words}  ", "yellow")
        if turn.id in self._summaries:
            yield ("summarises: ", "yellow")
        if words := handled(turn):
            yield (f"{words}  ", "yellow")
        yield said(turn, whole=width is None)
        if turn.error is not None:
            yield f" {reason(turn.error)}"


def begun_at(trace: Trace) -> float:
    """Return the time of the rollout's start, in seconds since the epoch.

    If no start was recorded, return the time of the first call.
    """
    first = min((turn.started_at for turn in trace), default=0.0)
    return trace.started_at if trace.started_at is not None else first


def headline(trace: Trace) -> list[Piece]:
    """Return the pieces of a line that summarizes a rollout."""
    usages = [usage for turn in trace if (usage := usage_of(turn)) is not None]
    usage = usage_of_all(usages) if usages else None
    talks = len({(each.id, each.kind) for each in trace.conversations.values()})
    end = max((turn.started_at + turn.duration for turn in trace), default=begun_at(trace))
    read = tokens(usage.input_tokens if usage is not None else None, usage)
    written = tokens(usage.output_tokens if usage is not None else None, usage)
    end_of: Piece = ("  sealed", "green")
    if not trace.sealed:  # the gaps are on a line of their own
        how = "not sealed: turns may be missing" if trace.digest is None else "sealed, with gaps"
        end_of = (f"  {how}", "bold red")
    named: list[Piece] = [(trace.rollout, "bold"), end_of]
    if not len(trace):  # it has no tokens and no time
        return [*named, "  no turns"]
    return [
        *named,
        f"  {counted(len(trace), 'turn', 'turns')}, {counted(talks, 'conversation', 'conversations')}",
        (f"  {read} in {written} out", "cyan"),
        f"  {clock(end - begun_at(trace))}",
    ]


def _facts(trace: Trace) -> Iterable[str]:
    """Yield lines with further facts about a rollout, such as its agents, models, metadata and scores."""
    commands = [*dict.fromkeys(map(command_line, trace.agents))]
    yield from (f"$ {command}" for command in commands[:_COMMANDS])
    if len(commands) > _COMMANDS:
        yield f"and {counted(len(commands) - _COMMANDS, 'command', 'commands')} more"
    agents = dict.fromkeys(filter(None, (agent_name(turn.agent) for turn in trace)))
    models = dict.fromkeys(turn.request.model for turn in trace)
    if agents or models:
        yield "  ".join([*agents, *models])
    if trace.branch is not None:
        yield f"child of {trace.branch.rollout}, which had {counted(trace.branch.turns, 'turn', 'turns')} at that time"
    if trace.children:
        named = (f"{each.rollout} ({counted(len(each), 'turn', 'turns')})" for each in trace.children)
        yield f"{'child' if len(trace.children) == 1 else 'children'}: {'  '.join(named)}"
    if trace.metadata:
        words = []
        for name, value in trace.metadata.items():
            if name == "fleet" and isinstance(value, dict):
                words.append(", ".join(f"{part} {text}" for part, text in value.items()))
            else:
                words.append(f"{name}={value}")
        yield "  ".join(words)
    if trace.scores:
        yield "scores: " + "  ".join(f"{name} {value:g}" for name, value in trace.scores.items())
    if trace.services:
        yield counted(len(trace.services), "call of a host service", "calls of host services")
    if bypasses := bypasses_in(trace):
        tools = ", ".join(dict.fromkeys(bypasses))
        yield f"{counted(len(bypasses), 'tool call', 'tool calls')} ran without a decision of the gate: {tools}"
    if trace.stopped is not None:
        yield f"stopped: {trace.stopped}"
    if trace.ended == "raised":
        yield (
            "the program's block `async with open_rollout(…)` raised an exception; in an evaluation, the sample "
            "has no score"
        )
    if trace.gaps:
        yield f"gaps (missing or changed parts): {gap_names(trace)}; `triocept check` shows each"
    if trace.pending:
        calls = counted(len(trace.pending), "call has", "calls have")
        yield f"{calls} no turn, because the turn was lost or the call has not ended"
