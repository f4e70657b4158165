"""`triocept show FILE --turn N`: prints one complete turn with its request, its answer and all other recorded data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .._canonical.content import Json, Message, Part, Reasoning, ToolCall, ToolResult
from .._trace.cost import usage_of
from .._trace.diff import tool_name
from .._trace.texts import texts_of
from .._trace.trace import Trace
from .._trace.turn import Turn
from .._trace.waits import waited
from .page import Page
from .show import begun_at
from .words import STYLES, clock, decision_words, draft_words, reason, relation_words, seconds

_RULE = 60
"""Characters of the line above a message."""


def show_turn(page: Page, trace: Trace, turn: Turn, *, only_new: bool = False) -> None:
    """Print one turn with all its messages, or only with the messages that are new in this turn."""
    page.line((f"turn {turn.number}", "bold"), f" of {trace.rollout}  ", (turn.outcome, STYLES[turn.outcome]))
    for name, value in _facts(trace, turn):
        page.text(f"  {name:<12} {value}")
    known = _known(trace, turn)
    names = {call.id: call.name for message in turn.request.messages for call in message.tool_calls}
    for place, message in enumerate(turn.request.messages):
        if not only_new or place not in known:
            name = f" ({message.name})" if message.name else ""
            page.line((_ruled(f"{place} {message.role}{name}{'' if place in known else ', new'}"), "cyan"))
            _show_parts(page, message, names)
    page.line((_ruled("answer"), "bold cyan"))
    if turn.response is not None:
        _show_parts(page, Message("assistant", turn.response.content), names)
    if turn.error is not None:
        page.text(f"{turn.error.type}: {reason(turn.error)}", "red")
    if (raw := turn.raw) is not None:
        page.line((_ruled(str(raw)), "bold cyan"))
        if raw.status is not None:
            page.text(f"HTTP status {raw.status}")
        for name, value in raw.headers.items():
            page.text(f"{name}: {value}")
        for pause, data in raw.pieces:
            if pause:
                page.text(f"({seconds(pause)} s without data)", "dim")
            page.text(data.decode("utf-8", "replace"))


def _known(trace: Trace, turn: Turn) -> set[int | None]:
    """Return the indexes of the messages of `turn` that an earlier turn already contained.

    This earlier turn is the turn that `turn` continues. It contains these messages in its request or as its answer.
    """
    parent = trace.parents[turn.id]
    if parent is None:
        return set()
    diff = trace.diff(parent, turn)
    known = {each.after for each in diff.messages if each.kind == "same"}
    answer = next((each for each in diff.changes if each.kind == "added"), None)
    if answer is not None and answer.new is not None and answer.new.role == "assistant":
        known.add(answer.after)
    return known


def _ruled(title: str) -> str:
    return f"── {title} ".ljust(_RULE, "─")


def _show_parts(page: Page, message: Message, names: Mapping[str, str]) -> None:
    for part, text in zip(message.content, texts_of(message), strict=True):
        page.text(_words(part, text, names), "dim" if isinstance(part, Reasoning) else "")


def _words(part: Part, text: str, names: Mapping[str, str]) -> str:
    """Return the text to print for a part of a message. `names` maps the ids of calls to the names of their tools."""
    match part:
        case Reasoning():
            return f"(thought) {text or 'not shown by its provider'}"
        case ToolCall(name=name, arguments=arguments):
            try:
                value = msgspec.json.decode(arguments or "{}")
            except msgspec.DecodeError:
                return f"→ {name} {arguments}"
            return f"→ {name} {msgspec.json.format(msgspec.json.encode(value), indent=2).decode()}"
        case ToolResult():
            name = part.name or names.get(part.id) or part.id
            return f"← {name}{' (an error)' if part.is_error else ''}: {text}"
        case _:
            return text


def _facts(trace: Trace, turn: Turn) -> Iterator[tuple[str, str]]:
    conversation, relation = trace.conversations[turn.id], trace.relations[turn.id]
    numbers = {each.id: each.number for each in trace}
    words = relation_words(relation, numbers, None)
    if relation.kind == "continues" and relation.turn is not None:
        words = f"continues {numbers[relation.turn]}"
    yield "id", turn.id
    kind = conversation.kind.replace("_", "-")
    yield "conversation", f"{kind} {conversation.id}{f', {words}' if words else ', which begins here'}"
    if turn.agent:
        yield "agent", turn.agent
    answered = turn.response.model if turn.response is not None else ""
    named = f", answered as {answered}" if answered not in ("", turn.request.model) else ""
    how = f"{turn.dialect}{', streamed' if turn.request.stream else ''}"
    yield "model", f"{turn.request.model}{named} ({how})"
    first = f", first token after {seconds(turn.first_event)} s" if turn.first_event is not None else ""
    at = clock(turn.started_at - begun_at(trace))
    wait = f", of them {seconds(waited(turn))} s for decisions" if waited(turn) else ""
    yield "time", f"{at} after the beginning, took {seconds(turn.duration)} s{wait}{first}"
    if turn.attempt > 1:
        yield "attempt", str(turn.attempt)
    if turn.response is not None:
        yield "stopped", turn.response.stopped
    if (usage := usage_of(turn)) is not None:
        mark = "~" if usage.estimated else ""
        counts = {
            f"{mark} in": usage.input_tokens,
            f"{mark} out": usage.output_tokens,
            " read from a cache": usage.cached_tokens,
            " written to a cache": usage.cache_write_tokens,
            " of reasoning": usage.reasoning_tokens,
        }
        parts = [f"{value:,}{name}" for name, value in counts.items() if value is not None]
        more = ", with the drafts" if any(draft.counted for draft in turn.drafts) else ""
        yield "tokens", ", ".join(parts) + more + (" (an estimate)" if mark else "")
    request = turn.request
    settings: dict[str, Json] = msgspec.to_builtins(request.sampling)
    if request.tool_choice is not None:
        settings["tool_choice"] = request.tool_choice.name or request.tool_choice.mode
    for setting in ("reasoning", "output_format"):
        if (value := getattr(request, setting)) is not None:
            settings[setting] = msgspec.to_builtins(value)
    if settings:
        yield "settings", "  ".join(f"{n}={msgspec.json.encode(v).decode()}" for n, v in settings.items())
    tools = turn.request.tools
    yield "tools", f"{len(tools)}{': ' if tools else ''}{', '.join(map(tool_name, tools))}"
    if turn.tokens is not None:
        read, sampled = len(turn.tokens.prompt_ids), len(turn.tokens.completion_ids)
        gaps = f"; gaps: {', '.join(turn.tokens.gaps)}" if turn.tokens.gaps else ""
        engine = turn.tokens.engine or "an engine without a name"
        yield "token ids", f"{read:,} read, {sampled:,} sampled, by {engine}{gaps}"
    for decided in turn.decisions:
        yield "decision", f"{decision_words(decided)} ({decided.call}, after {seconds(decided.seconds)} s)"
    for number, draft in enumerate(turn.drafts, 1):
        yield f"draft {number}", f"{draft_words(draft)} (took {seconds(draft.duration)} s)"
    if turn.notes:
        yield "notes", msgspec.json.encode(turn.notes).decode()
