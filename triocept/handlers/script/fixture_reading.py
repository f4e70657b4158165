"""Read aimock's fixture files. The errors name the file, the line and the invalid part."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import msgspec

from ..._canonical.content import Blob, Json, Reasoning, ToolCall
from ..._canonical.request import Request
from ..._canonical.response import Response, ResponsePart, StopReason, Usage
from ..._util.documents import Node
from ...errors import Refusal
from . import fixture_forms as forms
from .fixtures import Fixture, Fixtures, ScriptWarning, VectorsLeft, hides
from .form_reading import made, read_form
from .replies import Reply
from .stream import timed

_CONFIGURED = ("llm", "mcp", "a2a", "agui", "vector")
_LEFT_OUT = ("created", "systemFingerprint", "role", "provider", "nativeFinishReason", "webSearches")
_ANTHROPIC = "anthropic_messages"
_CHUNK = 20
"""Characters per piece if a fixture sets no `chunkSize`; this is aimock's default."""


def is_fixture_file(document: Node) -> bool:
    """Return True if `document` is a file of aimock: fixtures, or a configuration.

    For a configuration, `read_fixtures` raises an error.
    """
    inner = document.value
    return isinstance(inner, dict) and ("fixtures" in inner or any(name in inner for name in _CONFIGURED))


def read_fixtures(document: Node) -> Fixtures:
    """Return the fixtures of a file, except the fixtures for embeddings.

    Warns: ScriptWarning: the file has fixtures for embeddings, an answer with an unsupported part, or a fixture that
    can never be reached.

    Raises:
        DialectError: an item of the file is not a fixture, or is a fixture that triocept does not support.
    """
    left_out: Counter[str] = Counter()
    found = [_read_entry(node, left_out) for node in _entries(document)]
    fixtures = tuple([each for each in found if isinstance(each, Fixture)])
    if vectors := len(found) - len(fixtures):
        what = "1 fixture is" if vectors == 1 else f"{vectors} fixtures are"
        _warn(
            document,
            f"{what} for embeddings: to serve embeddings, pass serve_endpoint(embed=read_embeddings(…))",
            VectorsLeft,
        )
    if left_out:
        names = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in left_out.items())
        _warn(document, f"these fields of answers are not supported, and were ignored: {names}")
    for before, fixture in combinations(fixtures, 2):
        if hides(before.match, fixture.match):
            why = f"{before.place} comes first, and matches every request that this fixture matches"
            _warn(document, f"the fixture {fixture.place} is never used, because the fixture {why}")
    return Fixtures(fixtures)


@dataclass(frozen=True)
class Vectors:
    """A fixture for embeddings: `vector` is the embedding of each text that contains `part`."""

    part: str
    vector: tuple[float, ...]


def read_vectors(document: Node) -> list[Vectors]:
    """Return the fixtures for embeddings in a file. Raise the same errors as `read_fixtures`."""
    found = [_read_entry(node, Counter()) for node in _entries(document)]
    return [each for each in found if isinstance(each, Vectors)]


def _entries(document: Node) -> list[Node]:
    inner = document.value
    if "fixtures" not in inner:
        name = next(name for name in _CONFIGURED if name in inner)
        raise document.error(
            f"this file is a configuration of aimock, because it has the key {name!r}: read the file of fixtures that "
            "its llm.fixtures names"
        )
    known = {name: node for name, node in inner.items() if name not in ("$comment", "$schema")}
    plain = Node(document.file, document.line, document.path, known)
    read_form(plain, forms.FixtureFile)
    entries: list[Node] = inner["fixtures"].items()
    return entries


def _warn(document: Node, what: str, kind: type[ScriptWarning] = ScriptWarning) -> None:
    warnings.warn(f"{document.file}: {what}", kind, stacklevel=4)


def _read_entry(node: Node, left_out: Counter[str]) -> Fixture | Vectors:
    entry = read_form(node, forms.EntryForm, forms.NESTED)
    response, match = node.value["response"], node.value["match"]
    if not isinstance(response.value, dict) or not response.value:
        raise response.error("a response must be a mapping with the fields of an answer, such as content")
    if media := [name for name in forms.MEDIA if name in response.value]:
        raise response.value[media[0]].error(
            f"{media[0]!r} belongs to an endpoint that triocept does not serve: triocept serves only "
            "conversations and embeddings"
        )
    for name in ("truncateAfterChunks", "disconnectAfterMs"):
        if getattr(entry, name) is not None:
            raise node.value[name].error(
                f"{name!r} is not supported here: to cut a stream, use a Fault in a script"
            )
    if entry.chaos is not None:
        raise node.value["chaos"].error("'chaos' is not supported here: wrap the handler in handlers.chaos")
    if "embedding" in response.value:
        vector = read_form(response, forms.EmbeddingForm).embedding
        return Vectors(entry.match.inputText or "", tuple(vector))
    if "inputText" in match.value:
        raise match.value["inputText"].error(
            "'inputText' belongs to embeddings, but the response of this fixture is not an embedding"
        )
    if "context" in match.value:
        raise match.value["context"].error("'context' is not supported: each rollout has its own script")
    if entry.match.endpoint not in ("chat", forms.MatchForm().endpoint):
        raise match.value["endpoint"].error(
            f"triocept supports no fixtures for the endpoint {entry.match.endpoint!r}"
        )
    reply = _read_error(response) if "error" in response.value else _read_answer(response, entry, left_out)
    return Fixture(match=entry.match, reply=reply, place=node.place)


def _read_error(node: Node) -> Reply:
    form = read_form(node, forms.ErrorForm, forms.NESTED)
    retry_after = form.retryAfter if form.retryAfter is not None or form.status != 429 else 1.0
    made(node, lambda: Refusal(form.status, form.error.message, retry_after=retry_after))
    return _Failure(form.status, form.error.message, form.error.type, form.error.code, retry_after)


@dataclass(frozen=True)
class _Failure:
    """A reply that is an HTTP error. In OpenAI's dialects the error contains `code`; in all other dialects, `kind`."""

    status: int
    message: str
    kind: str | None
    code: str | None
    retry_after: float | None

    def __call__(self, request: Request) -> Refusal:
        code = self.code if request.dialect.startswith("openai") else self.kind
        return Refusal(self.status, self.message, retry_after=self.retry_after, code=code)


def _read_answer(node: Node, entry: forms.EntryForm, left_out: Counter[str]) -> Reply:
    form = read_form(node, forms.AnswerForm, forms.NESTED)
    left_out.update([name for name in _LEFT_OUT if getattr(form, name) is not None])
    signature = (Blob(_ANTHROPIC, "signature", form.reasoningSignature),) if form.reasoningSignature else ()
    parts: list[str | ResponsePart] = []
    if form.reasoning or signature:
        parts.append(Reasoning(form.reasoning or "", signature))
    parts += [Reasoning("", (Blob(_ANTHROPIC, "redacted", data),)) for data in form.redactedThinking or ()]
    if not form.blocks and form.content is not None:
        parts.append(_as_text(form.content))
    if not form.blocks:
        parts += [ToolCall(call.name, _as_text(call.arguments), call.id) for call in form.toolCalls or ()]
    for number, block in enumerate(form.blocks or ()):
        if block.type == "text" and block.text is not None:
            parts.append(block.text)
        elif block.type == "toolCall" and block.name is not None and block.arguments is not None:
            parts.append(ToolCall(block.name, _as_text(block.arguments), block.id))
        else:
            inner = node.value["blocks"].items()[number]
            raise inner.error(
                "a block must be {type: text, text: …} or {type: toolCall, name: …, arguments: …}"
            )
    if not parts:
        raise node.error("the response is empty: it must have content, toolCalls or blocks")
    reason = form.finishReason
    if reason is not None and reason not in _STOPS:
        known = ", ".join(_STOPS)
        raise node.value["finishReason"].error(f"unknown finishReason {reason!r}; the reasons are {known}")
    stop = _STOPS[reason] if reason is not None else None
    content, usage = Response.of(*parts).content, _usage(node, form.usage)
    response = Response(content, stop, None, usage, form.model, form.id)
    pause = _pauses(entry)
    return response if pause is None else timed(response, entry.chunkSize or _CHUNK, pause)


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_STOPS: Mapping[str, StopReason] = {
    **dict.fromkeys(("stop", "end_turn", "STOP", "completed"), "end"),
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS", "incomplete"), "max_tokens"),
    **dict.fromkeys(("tool_calls", "tool_use"), "tool_use"),
    **dict.fromkeys(("content_filter", "refusal", "SAFETY"), "refused"),
    "stop_sequence": "stop_sequence",
}


def _usage(node: Node, usage: dict[str, Json] | None) -> Usage | None:
    """Return the token counts of a fixture, which may use the field names of any provider.

    Return None if the fixture has no token counts.
    """
    given = usage or {}
    sent = _first(given, "prompt_tokens", "input_tokens", "promptTokenCount")
    written = _first(given, "completion_tokens", "output_tokens", "candidatesTokenCount")
    if sent is None and written is None:
        return None
    cached = (given.get("prompt_tokens_details") or {}).get("cached_tokens")
    thought = (given.get("completion_tokens_details") or {}).get("reasoning_tokens")
    numbers = [number for number in (sent, written, cached, thought) if number is not None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise node.value["usage"].error("usage must be a mapping of names to numbers of tokens")
    return Usage(
        input_tokens=sent or 0, output_tokens=written or 0, cached_tokens=cached, reasoning_tokens=thought
    )


def _first(given: dict[str, Json], *names: str) -> Json:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _pauses(entry: forms.EntryForm) -> Callable[[int], float] | None:
    """Return a function that returns, for the index of a piece, the seconds to wait before this piece is sent.

    Return None if the fixture sets neither the pace nor the size of the pieces.
    """
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
