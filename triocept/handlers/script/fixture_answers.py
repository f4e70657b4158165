"""Answers of aimock's fixtures, as replies of a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from ..._canonical.content import Blob, Json, Reasoning, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason, Usage
from ..._util.documents import Node
from ...errors import Refusal
from . import fixture_forms as forms
from .form_reading import made, read_form
from .replies import Reply
from .stream import timed

_LEFT_OUT = ("created", "systemFingerprint", "role", "provider", "nativeFinishReason", "webSearches")
_ANTHROPIC = "anthropic_messages"
_CHUNK = 20
"""Characters per piece if a fixture sets none: aimock's default."""


def read_error(node: Node) -> Reply:
    form = read_form(node, forms.ErrorForm, forms.NESTED)
    retry_after = form.retryAfter if form.retryAfter is not None or form.status != 429 else 1.0
    made(node, lambda: Refusal(form.status, form.error.message, retry_after=retry_after))
    return _Failure(form.status, form.error.message, form.error.type, form.error.code, retry_after)


@dataclass(frozen=True)
class _Failure:
    """An error in the agent's dialect: OpenAI's dialects have a type and a code, all others only the type."""

    status: int
    message: str
    kind: str | None
    code: str | None
    retry_after: float | None

    def __call__(self, request: Request) -> Refusal:
        code = self.code if request.dialect.startswith("openai") else self.kind
        return Refusal(self.status, self.message, retry_after=self.retry_after, code=code)


def read_answer(node: Node, entry: forms.EntryForm, left_out: Counter[str]) -> Reply:
    form = read_form(node, forms.AnswerForm, forms.NESTED)
    left_out.update([name for name in _LEFT_OUT if getattr(form, name) is not None])
    parts = [*_reasoning(form), *_content(node, form)]
    if not parts:
        raise node.error("a response that says nothing: it has none of content, toolCalls, blocks")
    stop, usage = _stop(node, form.finishReason), _usage(node, form.usage)
    response = Response(Response.of(*parts).content, stop, None, usage, form.model, form.id)
    pause = _pauses(entry)
    return response if pause is None else timed(response, entry.chunkSize or _CHUNK, pause)


def _reasoning(form: forms.AnswerForm) -> list[Reasoning]:
    signature = (Blob(_ANTHROPIC, "signature", form.reasoningSignature),) if form.reasoningSignature else ()
    said = [Reasoning(form.reasoning or "", signature)] if form.reasoning or signature else []
    return [
        *said,
        *(Reasoning("", (Blob(_ANTHROPIC, "redacted", data),)) for data in form.redactedThinking or ()),
    ]


def _content(node: Node, form: forms.AnswerForm) -> list[str | ResponsePart]:
    if form.blocks:
        return [_block(*each) for each in zip(node.value["blocks"].items(), form.blocks, strict=True)]
    text = [] if form.content is None else [_as_text(form.content)]
    calls = [ToolCall(call.name, _as_text(call.arguments), call.id) for call in form.toolCalls or ()]
    return [*text, *calls]


def _block(node: Node, block: forms.BlockForm) -> str | ToolCall:
    if block.type == "text" and block.text is not None:
        return block.text
    if block.type == "toolCall" and block.name is not None and block.arguments is not None:
        return ToolCall(block.name, _as_text(block.arguments), block.id)
    raise node.error("a block is {type: text, text: …} or {type: toolCall, name: …, arguments: …}")


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_STOPS: Mapping[str, StopReason] = {
    **dict.fromkeys(("stop", "end_turn", "STOP", "completed"), "end"),
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS", "incomplete"), "max_tokens"),
    **dict.fromkeys(("tool_calls", "tool_use"), "tool_use"),
    **dict.fromkeys(("content_filter", "refusal", "SAFETY"), "refused"),
    "stop_sequence": "stop_sequence",
}


def _stop(node: Node, reason: str | None) -> StopReason | None:
    if reason is None:
        return None
    if reason not in _STOPS:
        known = ", ".join(_STOPS)
        raise node.value["finishReason"].error(f"there is no finishReason {reason!r}; there are {known}")
    return _STOPS[reason]


def _usage(node: Node, usage: dict[str, Json] | None) -> Usage | None:
    """Return the token counts, by any provider's names; None if only costs are given."""
    given = usage or {}
    sent = _first(given, "prompt_tokens", "input_tokens", "promptTokenCount")
    written = _first(given, "completion_tokens", "output_tokens", "candidatesTokenCount")
    if sent is None and written is None:
        return None
    cached = (given.get("prompt_tokens_details") or {}).get("cached_tokens")
    thought = (given.get("completion_tokens_details") or {}).get("reasoning_tokens")
    numbers = [number for number in (sent, written, cached, thought) if number is not None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise node.value["usage"].error("usage is numbers of tokens")
    return Usage(
        input_tokens=sent or 0, output_tokens=written or 0, cached_tokens=cached, reasoning_tokens=thought
    )


def _first(given: dict[str, Json], *names: str) -> Json:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _pauses(entry: forms.EntryForm) -> Callable[[int], float] | None:
    """Return the seconds before each piece, by its number; None if the answer is sent whole."""
    speed = 1000 * (entry.replaySpeed or 1.0)
    profile, recorded, between = entry.streamingProfile, entry.recordedTimings, (entry.latency or 0.0) / 1000
    if profile is not None:
        first = between if profile.ttft is None else profile.ttft / speed
        rest = between if profile.tps is None else 1000 / profile.tps / speed
        return lambda number: rest if number else first
    if recorded is not None:
        delays = recorded.interChunkDelaysMs
        later = sum(delays) / len(delays) if delays else 0.0
        return lambda number: [recorded.ttftMs, *delays, later][min(number, len(delays) + 1)] / speed
    return None if entry.latency is None and entry.chunkSize is None else lambda number: between
