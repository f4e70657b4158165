"""Short texts about turns, for the commands' output, such as `12.1k~` or `"A text." + Bash({"command": …})`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .._canonical.response import Usage
from .._trace.entries import AgentStart
from .._trace.relations import Relation
from .._trace.trace import Trace
from .._trace.turn import Decided, Draft, Turn, TurnError
from .._util.figures import clock, counted, short
from ..errors import GateBypassed

__all__ = [
    "STYLES",
    "a_directory",
    "bypasses_in",
    "clock",
    "command_line",
    "counted",
    "decision_words",
    "draft_words",
    "flaw",
    "gap_names",
    "handled",
    "reason",
    "relation_words",
    "said",
    "seconds",
    "short",
    "tokens",
]

STYLES = {"answered": "green", "refused": "yellow", "failed": "bold red", "abandoned": "magenta"}
"""Style, for the terminal, of each outcome of a call."""
REASON_LENGTH = 2000
"""Maximum characters to print of an error's reason. A provider may send a page of HTML as the reason."""
_TEXT, _ARGUMENTS = 60, 55
"""Maximum characters of an answer's text, and of a tool call's arguments, if more text follows on a line that is cut.
"""


def a_directory(path: Path) -> str:
    return f"{path} is a directory: name the files in it, as in {path / '*.jsonl'}"


def command_line(agent: AgentStart) -> str:
    return shlex.join([agent.name, *agent.argv[1:]])


def flaw(trace: Trace) -> str:
    """Return the end of a sentence "the rollout is …" if a trace may be incomplete; otherwise an empty text."""
    if trace.sealed:
        return ""
    if trace.digest is None:
        return "not sealed: some of its turns may be missing"
    return f"sealed, with gaps: {gap_names(trace)}"  # the seal exists; an earlier part has changed


def gap_names(trace: Trace) -> str:
    return ", ".join(dict.fromkeys(gap.name for gap in trace.gaps))


def tokens(number: int | None, usage: Usage | None) -> str:
    """Return a number of tokens as `12.1k`, as `12.1k~` if it is estimated, or as `-` if it is unknown."""
    if number is None or usage is None:
        return "-"
    return f"{short(number)}{'~' if usage.estimated else ''}"


def seconds(value: float) -> str:
    """Return seconds with about three significant digits: `0.0042`, `0.058`, `1.21`, `12.1`, `121.0`."""
    if value < 0.01:
        return f"{value:.4f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def reason(error: TurnError) -> str:
    """Return the reason of an error, with the HTTP status that the agent got."""
    text = " ".join(error.message.split())
    if error.status is not None and error.type == "RawResponse":  # it may be 200, and still no valid answer
        text = f"{text} (HTTP status {error.status})"
    elif error.status is not None and not text.startswith((f"{error.status} ", f"{error.status}:")):
        text = f"{error.status} {text}"
    return cut(text, REASON_LENGTH)


def cut(text: str, length: int | None) -> str:
    return text if length is None or len(text) <= length else f"{text[:length]}…"


def said(turn: Turn, *, whole: bool) -> str:
    """Return the answer in one line: its text, and the tools that it calls. If `whole` is True, cut nothing."""
    response = turn.response
    if response is None:
        return ""
    calls = response.tool_calls
    texts = [f'"{cut(response.text, None if whole or not calls else _TEXT)}"'] if response.text else []
    edges = [None if whole else _ARGUMENTS] * (len(calls) - 1) + [
        None
    ]  # the last item is cut at the edge of the line
    called = [f"{call.name}({cut(call.arguments, edge)})" for call, edge in zip(calls, edges, strict=False)]
    return " + ".join([*texts, *called]) or ('""' if turn.outcome == "answered" else "")


def handled(turn: Turn) -> str:
    """Return the numbers of a turn's decisions about tool calls, by kind, and of its drafts: `2 reject, 1 draft`.

    A draft is an answer that a handler got from another handler. The agent did not get the draft, or got it changed.
    """
    kinds = Counter(each.kind for each in turn.decisions)
    drafts = [counted(len(turn.drafts), "draft", "drafts")] if turn.drafts else []
    return ", ".join([*(f"{count} {kind}" for kind, count in kinds.items()), *drafts])


def decision_words(decided: Decided) -> str:
    """Return a decision in one line, without the time: `reject Bash, in the answer, by ask: not allowed`."""
    way = "at the gate" if decided.way == "gate" else "in the answer"
    by = f", by {decided.by}" if decided.by else ""
    arguments = f" to {decided.arguments}" if decided.arguments is not None else ""
    why = cut(" ".join(decided.reason.split()), REASON_LENGTH)
    return f"{decided.kind} {decided.tool}{arguments}, {way}{by}{f': {why}' if why else ''}"


def bypasses_in(trace: Trace) -> list[str]:
    """Return the names of the tools that ran without a decision of the gate, once for each call."""
    return [each.name for each in trace.services if each.error and each.error.type == GateBypassed.__name__]


def draft_words(draft: Draft) -> str:
    """Return a text for a draft, such as `best_of, 12.1k in 7 out, in addition to the answer`.

    The text begins with the reason for the draft. "in addition to the answer": the draft's tokens count, too.
    """
    usage = draft.response.usage if draft.response is not None else None
    used = ", tokens not reported" if draft.response is not None else ""
    if usage is not None:
        used = f", {tokens(usage.input_tokens, usage)} in {tokens(usage.output_tokens, usage)} out"
    more = ", in addition to the answer" if draft.counted else ""
    return f"{draft.why}{used}{more}{f': {reason(draft.error)}' if draft.error is not None else ''}"


def relation_words(relation: Relation, numbers: Mapping[str, int], before: str | None) -> str:
    """Return a text that describes the relation of a turn to earlier turns.

    Return an empty text if the turn continues the turn `before`. `before` is the id of the previous turn in the
    conversation. `numbers` is a dict from the ids of turns to their numbers.
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
            call = "" if relation.call is None else f", call {relation.call + 1}"
            return "" if relation.turn is None else f"from {of}{call}"
        case "side" | "tool":
            return "" if relation.turn is None else f"at {of}"
        case "begins":
            return ""
