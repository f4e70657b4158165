"""Compare messages: convert each part of a message to a form. Parts with equal forms count as equal.

A form is a JSON value. Forms are needed because agents do not send history back byte for byte, and because two runs of
one agent differ (in times, paths, ids). Each use of the comparison has its own rule, which is named below. The rules
are based on calls of Claude Code, opencode, pi, qwen-code, gemini-cli, LangChain, agno and kimi-code. In all rules
except `RETRY`:

* The role `developer` equals `system`. Reasoning, empty texts and Claude Code's `x-anthropic-billing-header` line are
  ignored.
* Adjacent texts are joined, because Google's SDK sends each increment back as a separate part.
* The ids of calls are ignored, because some SDKs drop the ids or generate new ids. Calls and results are paired by
  order.
* Arguments are compared as JSON values, because agents encode the arguments again, and may write whole numbers as
  floats.
* Cache marks (Anthropic's `cache_control`), even on nested blocks, are ignored, because agents move these marks.
* Media are compared by the hash of their data, or by their URL. The result of a failed tool call never equals the
  result of a successful call.

The rules:

* `THREAD` (`message_key`): compares messages to find the conversation that a call belongs to.
* `REPLAY`: compares the calls of a run with the calls of its replay. Tool results are ignored (`Normal` adds them on
  request). Members of a block that differ from run to run are ignored, too.
* `CASSETTE`: compares the calls of an application with the calls of its cassette. `CASSETTE` differs from `REPLAY`:
  tool results are compared (JSON results as values), and so is the free text of a call. Members that differ from run to
  run are removed at any depth.
* `RETRY` (`exact_message`): compares a call with its retry. Only cache marks are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from itertools import groupby
from math import isfinite
from typing import NamedTuple

import msgspec

from .content import Json, Media, Message, Opaque, Part, RefusalText, Text, ToolCall, ToolResult
from .text_file import inline_data

NONCE = "x-anthropic-billing-header:"
"""Beginning of a text that is ignored in comparisons. Claude Code adds such a text."""
_CACHE_MARK = "cache_control"
_LEVELS = 8
"""Maximum depth of nested blocks at which cache marks are searched. No dialect nests blocks so deeply."""
_DEEP = 250
"""Maximum depth of arguments that are compared as JSON values. Deeper arguments are compared as text, because not every
encoder can write deeply nested values."""
_RUN_MEMBERS = frozenset({"id", "call_id", "item_id", "tool_use_id", "status"})
"""Names of members of a block whose values differ from run to run."""
_WRAPPERS = ("function", "custom", "image_url", "input_audio", "file")
"""Names of members in which chat completions wrap a tool or a part. litellm and OpenRouter accept a cache mark in
these members, too."""
_LONGEST = 400
"""Maximum characters of a text without white space that a cassette stores in a block. A hash replaces a longer text."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class Rule(NamedTuple):
    """A rule for comparing messages: the details of a message that count."""

    block: Callable[[Json], Json]
    """Function that removes the ignored members from the JSON of an opaque block."""
    results: bool = True
    """True if results of tools are compared."""
    values: bool = False
    """True if JSON results are compared as values, and the free text of calls as text."""


def part_form(part: Part, rule: Rule) -> list[Json] | None:
    """Return the form of a part: a list that begins with the part's kind. Return None if the rule ignores the part."""
    match part:
        case Text(text=text):
            return ["text", text] if text and not text.startswith(NONCE) else None
        case RefusalText(text=text):
            return ["refusal", text] if text else None
        case ToolCall(name=name, arguments=arguments):
            if rule.values and part.kind == "text":
                return ["input", name, arguments]
            return ["call", name, arguments_value(arguments)]
        case ToolResult():
            if not rule.results:
                return ["result"]
            content = [form for inner in part.content if (form := part_form(inner, rule))]
            if rule.values and len(content) == 1 and content[0][0] == "text":
                content = [_text_or_json(content[0][1])]
            return ["result", bool(part.is_error), content]
        case Media():
            return ["media", part.kind, media_reference(part)]
        case Opaque(dialect=dialect, raw=raw):
            return ["opaque", dialect, rule.block(raw)]
        case _:
            return None


def role_form(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def placed_forms(message: Message, rule: Rule) -> Iterator[tuple[str, Part, list[Json]]]:
    """Yield the role, the part and the form of each part that the rule does not ignore.

    For a tool's result, the yielded role is `tool` in every dialect.
    """
    role = role_form(message)
    for part in message.content:
        if form := part_form(part, rule):
            yield "tool" if isinstance(part, ToolResult) else role, part, form


def join_texts(forms: Iterable[list[Json]], between: str = "") -> list[list[Json]]:
    found: list[list[Json]] = []
    for kind, group in groupby(forms, key=lambda form: form[0]):
        same = list(group)
        found += [["text", between.join(form[1] for form in same)]] if kind == "text" else same
    return found


def message_key(message: Message) -> bytes:
    """Return a hash of 16 bytes. Messages that are equal by the rule `THREAD` have equal hashes."""
    name = None if message.role == "assistant" else message.name  # LangChain sends an agent's own name
    forms = [form for part in message.content if (form := part_form(part, THREAD))]
    return blake2b(_encode([role_form(message), name, join_texts(forms)]), digest_size=16).digest()


def join_messages(messages: Sequence[Message]) -> Message:
    return Message("assistant", tuple(part for message in messages for part in message.content))


def exact_message(message: dict[str, Json]) -> dict[str, Json]:
    """Return a message without its cache marks (the rule `RETRY`).

    `message` must be a result of `msgspec.to_builtins`.
    """
    return exact(message) | {"content": [_exact_part(part) for part in message.get("content", ())]}


def exact(thing: dict[str, Json], names: frozenset[str] = frozenset({_CACHE_MARK})) -> dict[str, Json]:
    """Return a tool, part or message without those members of its `extra` that `names` contains.

    Some members of `extra` (see `_WRAPPERS`) contain cache marks, too; those marks are also removed. An `extra` that is
    empty afterwards is removed as well.
    """
    extra = {name: value for name, value in (thing.get("extra") or {}).items() if name not in names}
    for name in _WRAPPERS:
        if isinstance(inner := extra.get(name), dict) and (plain := unmarked(inner)) != inner:
            extra[name] = plain
            if not plain:
                del extra[name]
    rest = {name: value for name, value in thing.items() if name != "extra"}
    return rest | {"extra": extra} if extra else rest


def _exact_part(part: dict[str, Json]) -> dict[str, Json]:
    plain = exact(part)
    if "raw" in plain:
        plain["raw"] = unmarked(plain["raw"])
    if "content" in plain:
        plain["content"] = [_exact_part(inner) for inner in plain["content"]]
    return plain


def unmarked(block: Json, levels: int = _LEVELS) -> Json:
    """Return a block without its own cache marks and without the cache marks of its nested blocks.

    Nested blocks are in the `content` of a search result, and in the `source` of some documents.
    """
    if not isinstance(block, dict) or not levels:
        return block
    plain = {name: value for name, value in block.items() if name != _CACHE_MARK}
    if isinstance(content := plain.get("content"), list):
        plain["content"] = [unmarked(inner, levels - 1) for inner in content]
    if isinstance(source := plain.get("source"), dict):
        plain["source"] = unmarked(source, levels - 1)
    return plain


def timeless(raw: Json) -> Json:
    """Return an opaque block in the form that a cassette compares and stores.

    Cache marks and members that differ from run to run are left out. A hash replaces each long text without white
    space.
    """
    match raw:
        case str() if len(raw) > _LONGEST and not any(letter.isspace() for letter in raw):
            return _hash(raw.encode())
        case dict():
            return {
                name: timeless(value)
                for name, value in raw.items()
                if name not in _RUN_MEMBERS and name != _CACHE_MARK
            }
        case list():
            return [timeless(value) for value in raw]
        case _:
            return raw


def _runless(raw: Json) -> Json:
    plain = unmarked(raw)
    if not isinstance(plain, dict):
        return plain
    return {name: value for name, value in plain.items() if name not in _RUN_MEMBERS}


THREAD = Rule(unmarked)
REPLAY = Rule(_runless, results=False)
CASSETTE = Rule(timeless, values=True)


def media_reference(media: Media) -> str:
    if media.data is None:
        return media.url or ""
    data = inline_data(media.data)
    return _hash(media.data.encode() if data is None else data)


def _hash(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()[:32]}"


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(
            "the number is not finite, so JSON cannot represent it"
        )  # then the arguments count as a text
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


_decode = msgspec.json.Decoder(float_hook=_number).decode


def arguments_value(text: str) -> Json:
    """Return the arguments of a call as a JSON value.

    If the arguments are not JSON, or are nested too deeply, return `text`.
    """
    try:
        value = _decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return text
    if text.count("[") + text.count("{") <= _DEEP:
        return value
    level = [value]
    for _ in range(_DEEP):
        held = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in held for inner in (each.values() if isinstance(each, dict) else each)]
    return text if level else value


def _text_or_json(text: str) -> list[Json]:
    value = arguments_value(text) if text.lstrip()[:1] in ("{", "[") else text
    return ["json", value] if isinstance(value, dict | list) else ["text", text]
