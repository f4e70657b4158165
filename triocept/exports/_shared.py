"""Helpers that several formats use: counts of lost content, JSON lines, times, and imports of optional packages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NamedTuple, final

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..dialects.kit import encode_json

_LEFT_OUT = "not in this format"
_OWNED = re.compile(r"((?:(?! of ).)+?)(?:'s|(?<=s)') (.+)")
"""Pattern of a plural name such as `answers' ids`. With a number, such a name is written as `the ids of 16 answers`."""


class Loss(NamedTuple):
    """A kind of content that a format cannot express, with its name in the singular and in the plural."""

    one: str
    many: str
    fate: str = _LEFT_OUT
    """Words of the message about the loss that describe what the export did with the content. By default they mean that
    the export left the content out.
    """


@final
class Losses:
    """Counts of the content that an export left out. As a text, for example: `not in this format: 1 service call`."""

    def __init__(self) -> None:
        self._counts: Counter[Loss] = Counter()

    def add(self, loss: Loss, times: int = 1) -> None:
        """Add `times` to the count of the content of kind `loss`."""
        if times:
            self._counts[loss] += times

    @property
    def counts(self) -> dict[str, int]:
        """Number of losses of each kind of content, such as `{"custom tool calls": 1}`.

        The kinds are named in the plural.
        """
        return {loss.many: count for loss, count in self._counts.items()}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        fates: dict[str, list[str]] = {}
        for loss, count in self._counts.items():
            what = loss.one if count == 1 else loss.many
            owned = _OWNED.fullmatch(what) if loss.fate == _LEFT_OUT else None
            text = f"the {owned[2]} of {count} {owned[1]}" if owned else f"{count} {what}"
            fates.setdefault(loss.fate, []).append(text)
        return "; ".join(f"{fate}: {', '.join(words)}" for fate, words in fates.items())

    def __repr__(self) -> str:
        return f"<Losses {self or 'none'}>"


@final
class Lost:
    """The kinds of content that some export formats cannot express."""

    BLOBS = Loss("opaque blob of reasoning", "opaque blobs of reasoning")
    CACHE_WRITES = Loss("count of tokens written to a cache", "counts of tokens written to a cache")
    CHILDREN = Loss("child rollout's place in its parent", "child rollouts' places in their parents")
    CONTENT = Loss("call's messages, answer and tools", "calls' messages, answers and tools")
    CONVERSATIONS = Loss("conversation's name", "conversations' names")
    CUSTOM_CALLS = Loss("call of a custom tool", "calls of custom tools", "as a call of a function")
    CUSTOM_TOOLS = Loss("custom tool", "custom tools", "as a function of one text")
    DECISIONS = Loss("decision about a tool call", "decisions about tool calls")
    DRAFTS = Loss("answer that the agent did not get", "answers that the agent did not get")
    FAILED_CALLS = Loss("call that was not answered", "calls that were not answered")
    FREE_ARGUMENTS = Loss(
        "call's arguments that are not an object",
        "calls' arguments that are not an object",
        "wrapped in an object",
    )
    INCREMENTS = Loss("answer's pieces and their times", "answers' pieces and their times")
    LATE_RESULTS = Loss("result without its call", "results without their calls", "as a message")
    MARKS_OF_ERRORS = Loss("mark of a tool's error", "marks of tools' errors")
    MEDIA = Loss("image, sound or file", "images, sounds and files")
    METADATA = Loss("rollout's metadata", "rollouts' metadata")
    METRICS = Loss("score beside others", "scores beside others", "as metrics, because no reward is named")
    NO_OBJECTS = Loss(
        "answer with a call whose arguments are not an object",
        "answers with a call whose arguments are not an object",
        "with weight 0",
    )
    NOTES = Loss("turn's notes", "turns' notes")
    OPAQUE = Loss("part that only its own dialect can read", "parts that only their own dialect can read")
    REASONING = Loss("piece of reasoning", "pieces of reasoning")
    REFUSALS = Loss("refusal in the model's words", "refusals in the model's words", "as text")
    RESPONSE_IDS = Loss("answer's id", "answers' ids")
    RECORDS = Loss("turn's times, ids, model and outcome", "turns' times, ids, models and outcomes")
    SCORES = Loss("score", "scores")
    SERVER_TOOLS = Loss("tool that its provider runs", "tools that their provider runs")
    SERVICE_CALLS = Loss("service call", "service calls")
    SERVICE_VALUES = Loss("service call's arguments and result", "service calls' arguments and results")
    SETTINGS = Loss("call's further settings", "calls' further settings")
    TOKENS = Loss("call's token ids and log probabilities", "calls' token ids and log probabilities")
    USAGE = Loss("call's token counts", "calls' token counts")
    WIRE = Loss("call as it went over the wire", "calls as they went over the wire")


_COUNTS: Mapping[Loss, Callable[[Trace], int]] = {
    Lost.CACHE_WRITES: lambda trace: sum(
        turn.response is not None
        and turn.response.usage is not None
        and turn.response.usage.cache_write_tokens is not None
        for turn in trace
    ),
    Lost.CONTENT: len,
    Lost.CONVERSATIONS: lambda trace: len({each.id for each in trace.conversations.values()}),
    Lost.DECISIONS: lambda trace: sum(len(turn.decisions) for turn in trace),
    Lost.DRAFTS: lambda trace: sum(len(turn.drafts) for turn in trace),
    Lost.FAILED_CALLS: lambda trace: sum(turn.outcome != "answered" for turn in trace),
    Lost.INCREMENTS: lambda trace: sum(turn.increments is not None for turn in trace),
    Lost.METADATA: lambda trace: bool(trace.metadata),
    Lost.NOTES: lambda trace: sum(bool(turn.notes) for turn in trace),
    Lost.RECORDS: len,
    Lost.RESPONSE_IDS: lambda trace: sum(bool(turn.response and turn.response.id) for turn in trace),
    Lost.SCORES: lambda trace: len(trace.scores),
    Lost.SERVICE_CALLS: lambda trace: len(trace.services),
    Lost.SERVICE_VALUES: lambda trace: len(trace.services),
    Lost.TOKENS: lambda trace: sum(turn.tokens is not None for turn in trace),
    Lost.USAGE: lambda trace: sum(
        turn.response is not None and turn.response.usage is not None for turn in trace
    ),
    Lost.WIRE: lambda trace: sum(turn.wire is not None or turn.raw is not None for turn in trace),
}
"""Functions that count content in a trace, by the kind of content that they count."""
_NO_SETTINGS = {
    *("dialect", "model", "messages", "tools", "stream", "include_usage", "sampling", "framing"),
    *("previous_response", "continued_from"),
}
"""Fields of a request that are not counted as settings: an export writes them in another way, or they concern only the
delivery of the answer.
"""


def policy_of(turn: Turn) -> dict[str, Json]:
    versions = {"policy_start": turn.policy_start, "policy_end": turn.policy_end}
    return {name: version for name, version in versions.items() if version is not None}


def count_lost(
    losses: Losses,
    trace: Trace,
    *kinds: Loss,
    settings: tuple[str, ...] | None = None,
    always: tuple[Loss, ...] = (Lost.DRAFTS, Lost.DECISIONS),
) -> None:
    """Count the content of `trace` that a format cannot express.

    Args:
        losses: the counter.
        trace: the trace.
        kinds: the kinds of content that the format cannot express.
        settings: fields of requests, and of their sampling, that the format supports. Requests with other fields are
            counted. None means that the format supports all fields.
        always: further kinds that the format cannot express. The default fits most formats.
    """
    for kind in (*kinds, *always):
        losses.add(kind, _COUNTS[kind](trace))
    plain = Request(dialect="", model="", messages=())
    for request in (turn.request for turn in trace if settings is not None):
        if all(value is None for value in (request.extra or {}).values()):
            request = msgspec.structs.replace(request, extra=None)  # marks of the wire's name for a setting
        given = {name for name in Request.__struct_fields__ if getattr(request, name) != getattr(plain, name)}
        sampling = msgspec.structs.asdict(request.sampling)
        given |= {name for name, value in sampling.items() if value not in (None, ())}
        losses.add(Lost.SETTINGS, bool(given - _NO_SETTINGS - {*(settings or ())}))


_LINE_ENDS = {mark.encode(): f"\\u{ord(mark):04x}".encode() for mark in "\x85\u2028\u2029"}
"""Characters that JSON allows unescaped in a text, but that `str.splitlines` treats as line breaks."""


def json_line(document: Json) -> bytes:
    """Return `document` as JSON on one line that ends with a line feed."""
    data = encode_json(document)
    for mark, escape in _LINE_ENDS.items():
        if mark in data:
            data = data.replace(mark, escape)
    return data + b"\n"


def without_none(document: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in document.items() if value is not None}


def iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def ended_at(turn: Turn) -> float:
    """Return the time at which a turn's outcome was known, in seconds since the epoch."""
    return turn.started_at + turn.duration


def optional(module: str, what: str, extra: str) -> Any:
    """Import `module`, which belongs to an optional package, and return it.

    If the package is missing, raise an error that names `extra`, the extra of triocept to install. For this error,
    `what` is the feature that needs the package, in the plural.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        package = module.partition(".")[0]
        text = f"{what} need the package {package}: run pip install 'triocept[{extra}]'"
        raise ModuleNotFoundError(text, name=exc.name) from exc
