"""The words in which turns are told, in few letters: `12.1k~`, `"A text." + Bash({"command": …})`, `↰ from 0`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from .._canonical.response import Usage
from .._trace.entries import AgentStart
from .._trace.relation import Relation
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError
from .._util.figures import clock, counted, short

__all__ = [
    "STYLES",
    "a_directory",
    "agent_name",
    "clock",
    "command_line",
    "counted",
    "flaw",
    "gap_names",
    "reason",
    "relation_words",
    "said",
    "seconds",
    "short",
    "tokens",
]

STYLES = {"answered": "green", "refused": "yellow", "failed": "bold red", "abandoned": "magenta"}
"""Of an outcome."""
REASON_LENGTH = 2000
"""Characters of a reason: what a provider says may be a page of HTML."""
_TEXT, _ARGUMENTS = 60, 55
"""Characters of what is said in front of something else, where a line has an edge."""


def a_directory(path: Path) -> str:
    """What is said where a directory was given for a file."""
    return f"{path}: it is a directory; name the files in it, as {path / '*.jsonl'}"


_NAMED = re.compile(r"\S*( v?\d[\d.]*(?=\s|$))?")
"""A name, and a version behind a space, as the SDKs of OpenAI have it."""


def agent_name(turn: Turn) -> str:
    """What the agent calls itself, without the machine that it runs on: `claude-cli/2.1.197`, `OpenAI/JS 6.26.0`."""
    found = _NAMED.match(turn.agent or "")
    return found[0] if found is not None else ""


def command_line(agent: AgentStart) -> str:
    """How an agent was started: `claude -p 'fix the bug'`."""
    return shlex.join([agent.name, *agent.argv[1:]])


def flaw(trace: Trace) -> str:
    """What keeps a trace of a file from being proved whole, in words that follow `it is`; empty: nothing does."""
    if trace.sealed:
        return ""
    if trace.digest is None:
        return "not sealed: turns of it may be missing"
    return (
        f"sealed, with gaps: {gap_names(trace)}"  # its end is there, and something before it is not as it was
    )


def gap_names(trace: Trace) -> str:
    """Each once: `lines_missing, count_wrong`."""
    return ", ".join(dict.fromkeys(gap.name for gap in trace.gaps))


def tokens(number: int | None, usage: Usage | None) -> str:
    """`12.1k`; `12.1k~`: an estimate; `-`: nobody said."""
    if number is None or usage is None:
        return "-"
    return f"{short(number)}{'~' if usage.estimated else ''}"


def seconds(value: float) -> str:
    """`0.0042`, `0.058`, `1.21`, `12.1`, `121`: three digits that count."""
    if value < 0.01:
        return f"{value:.4f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def reason(error: TurnError) -> str:
    """What went wrong, with the status that the agent got; a message that begins with it is not told it twice."""
    text = " ".join(error.message.split())
    if error.status is not None and error.type == "RawResponse":  # it may be 200, and no answer all the same
        text = f"{text} (HTTP status {error.status})"
    elif error.status is not None and not text.startswith((f"{error.status} ", f"{error.status}:")):
        text = f"{error.status} {text}"
    return cut(text, REASON_LENGTH)


def cut(text: str, length: int | None) -> str:
    """The text, or its beginning."""
    return text if length is None or len(text) <= length else f"{text[:length]}…"


def said(turn: Turn, *, whole: bool) -> str:
    """What was answered, in one line: the text, and the tools that are called."""
    response = turn.response
    if response is None:
        return ""
    calls = response.tool_calls
    texts = [f'"{cut(response.text, None if whole or not calls else _TEXT)}"'] if response.text else []
    edges = [None if whole else _ARGUMENTS] * (len(calls) - 1) + [
        None
    ]  # what is last has the edge of the line
    called = [f"{call.name}({cut(call.arguments, edge)})" for call, edge in zip(calls, edges, strict=False)]
    return " + ".join([*texts, *called]) or ('""' if turn.outcome == "answered" else "")


def relation_words(relation: Relation, numbers: Mapping[str, int], before: str | None) -> str:
    """How a turn stands to those before it; empty: as one expects.

    Args:
        relation: of the turn.
        numbers: of the turns, by their ids.
        before: the turn that stands before it in its conversation.
    """
    of = str(numbers[relation.turn]) if relation.turn is not None else "?"
    match relation.kind:
        case "continues":
            return "" if relation.turn == before else f"↰ from {of}"
        case "retry":
            return f"↻ retry of {of}"
        case "repeat":
            return f"↻ asks {of} again"
        case "compaction":
            return f"✂ compacted by {of}"
        case "rewrite":
            return f"✎ rewrites {of}"
        case "sub_agent":
            return "" if relation.turn is None else f"from {of}{_call(relation)}"
        case "side" | "tool":
            return "" if relation.turn is None else f"at {of}"
        case "begins":
            return ""


def _call(relation: Relation) -> str:
    return "" if relation.call is None else f", call {relation.call + 1}"
