"""The form in which calls are compared, and written down: what an agent asks, in no dialect's words.

It is a JSON value, and it is the very thing that stands in the file: nothing is compared that cannot be read there.

Rules:

1. Two calls that say the same have the same form, in whatever dialect, and in whatever run: `developer` is `system`,
   neighbours of one role are one message, results of tools are of the role `tool`, calls have no ids, JSON is a value
   and not a text, media are known by their hash.
2. What an SDK or a provider adds is left out: headers, `stream`, metadata, cache marks, ids, what the model thought and
   its signatures, Claude Code's billing line. Of sampling only what a program wants compared is in it.
3. It is a fixed point: `restored` makes a request of it again, whose form is the same.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby
from math import isfinite

import msgspec

from ..._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from ..._canonical.request import Request, Tool, ToolChoice
from ..._trace.message_key import NONCE, arguments_value

_encode = msgspec.json.Encoder(order="deterministic").encode
_DATE = re.compile(r"(?:[-@]20\d\d-?[01]\d-?[0-3]\d|-latest)$")
"""At the end of a model's name: `-2024-08-06`, `-20250514`, `@20250514`."""
_IDS = frozenset({"id", "call_id", "item_id", "tool_use_id", "status", "cache_control"})
"""Members of items that only their dialect understands, which differ from run to run."""
_LONGEST = 400
"""Characters of a word in such an item that is kept. A longer one is known by its hash."""


def normal_form(request: Request, *, sampling: bool = False) -> dict[str, Json]:
    """What a call asks.

    Args:
        request: the call.
        sampling: whether how to sample, and how much to think, is a part of it.
    """
    form: dict[str, Json] = {"model": without_date(request.model)}
    form["messages"] = _messages(request.messages)
    if tools := sorted((_tool(tool) for tool in request.tools), key=_encode):
        form["tools"] = tools
    if choice := _choice(request.tool_choice):
        form["tool_choice"] = choice
    if (output := request.output_format) is not None:
        form["output"] = "json" if output.schema is None else {"schema": output.schema}
    if sampling and (asked := _sampling(request)):
        form["sampling"] = asked
    return form


def key_of(form: dict[str, Json], *, model: bool = True) -> bytes:
    """16 bytes that are equal for forms that are.

    Args:
        form: what a call asks.
        model: whether of which model counts.
    """
    counting = form if model else {name: value for name, value in form.items() if name != "model"}
    return sha256(_encode(counting)).digest()[:16]


def without_date(model: str) -> str:
    """The name of a model, without the date of its version."""
    return _DATE.sub("", model) or model


def _messages(messages: Iterable[Message]) -> list[Json]:
    placed = [each for message in messages for each in _placed(message)]
    calls = _Calls()
    found: list[Json] = []
    for (role, name), group in groupby(placed, key=lambda each: each[:2]):
        parts = [part for _, _, part in group]
        if role == "tool":
            forms = calls.results([part for part in parts if isinstance(part, ToolResult)])
        else:
            forms = [form for part in parts for form in calls.forms(part)]
        said = _joined(forms) if role == "assistant" else forms
        found.append({role: _short(said), **({"name": name} if name else {})})
    return found


def _placed(message: Message) -> Iterator[tuple[str, str | None, Part]]:
    """The parts that say something, each with its role, and who of several speakers says it."""
    role = "system" if message.role == "developer" else message.role
    name = None if role in ("assistant", "tool") else message.name  # an agent's own name is LangChain's
    for part in message.content:
        match part:
            case ToolResult():
                yield "tool", None, part
            case Text(text=text) | RefusalText(text=text):
                if text and not text.startswith(NONCE):
                    yield role, name, part
            case Media() | ToolCall() | Opaque():
                yield role, name, part
            case _:
                pass


def _joined(forms: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """What an assistant says in several pieces, in one: some SDKs send back each increment as it came."""
    found: list[dict[str, Json]] = []
    for form in forms:
        if found and form.keys() == found[-1].keys() == {"text"}:
            found[-1] = {"text": found[-1]["text"] + form["text"]}
        else:
            found.append(form)
    return found


def _short(forms: list[dict[str, Json]]) -> Json:
    """A text alone stands for itself."""
    if len(forms) == 1 and forms[0].keys() == {"text"}:
        return forms[0]["text"]
    return forms


class _Calls:
    """Gives calls numbers in their order, and results those of their calls."""

    def __init__(self) -> None:
        self._count = 0
        self._numbers: dict[str, int] = {}
        self._waiting: list[int] = []
        """Calls that have no result yet."""
        self._told = 0
        """The highest number that was told so far."""

    def forms(self, part: Part) -> Iterator[dict[str, Json]]:
        """What a part says that is no result."""
        if isinstance(part, ToolCall):
            self._told = self._numbered(part.id)
            self._waiting.append(self._told)
            yield _call(part)
        else:
            yield from _part(part)

    def results(self, results: Iterable[ToolResult]) -> list[dict[str, Json]]:
        """What results say that follow each other: in the order of their calls, for tools may end in any."""
        numbered = [(self._numbers.get(each.id) or self._numbered(each.id), each) for each in results]
        return [self._result(number, each) for number, each in sorted(numbered, key=lambda pair: pair[0])]

    def _numbered(self, identity: str) -> int:
        self._count += 1
        self._numbers[identity] = self._count
        return self._count

    def _result(self, number: int, result: ToolResult) -> dict[str, Json]:
        """The result of the call that has waited longest says no number; where none waits, that of a new one."""
        form = _result(result)
        if number != (self._waiting[0] if self._waiting else self._told + 1):
            form["of"] = number
        self._told = max(self._told, number)
        if number in self._waiting:
            self._waiting.remove(number)
        return form


def _call(call: ToolCall) -> dict[str, Json]:
    """A call, its arguments a value; as they are, where they are no JSON."""
    if call.kind == "text":
        return {"call": call.name, "input": call.arguments}
    return {"call": call.name, "arguments": _arguments(call.arguments)}


def _arguments(text: str) -> Json:
    value = arguments_value(text)
    return value if _is_finite(value) else text


def _result(result: ToolResult) -> dict[str, Json]:
    inner = [form for part in result.content for form in _part(part)]
    form: dict[str, Json]
    if len(inner) == 1 and inner[0].keys() == {"text"}:
        form = _text_or_json(inner[0]["text"])
    else:
        form = {"result": inner or ""}
    return {**form, "failed": True} if result.is_error else form


def _text_or_json(text: str) -> dict[str, Json]:
    """An object or a list is the same in whatever order and with whatever spaces it is written."""
    value = arguments_value(text) if text.lstrip()[:1] in ("{", "[") else text
    return {"json": value} if isinstance(value, dict | list) and _is_finite(value) else {"result": text}


def _is_finite(value: Json) -> bool:
    match value:
        case float():
            return isfinite(value)
        case dict():
            return all(map(_is_finite, value.values()))
        case list():
            return all(map(_is_finite, value))
        case _:
            return True


def _part(part: Part) -> Iterator[dict[str, Json]]:
    match part:
        case Text(text=text):
            if text:
                yield {"text": text}
        case RefusalText(text=text):
            yield {"refusal": text}
        case Media():
            yield {part.kind: _media(part)}
        case Opaque(raw=raw):
            yield {"opaque": _steady(raw)}
        case _:
            pass


def _media(media: Media) -> str:
    if media.data is None:
        return media.url or ""
    try:
        data = b64decode(media.data, validate=True)
    except (NotBase64, ValueError):
        data = media.data.encode()
    return _hash(data)


def _hash(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()[:32]}"


def _steady(raw: Json) -> Json:
    """An item that only its dialect understands, without what differs from run to run."""
    match raw:
        case str() if len(raw) > _LONGEST and not re.search(r"\s", raw):
            return _hash(raw.encode())
        case dict():
            return {name: _steady(value) for name, value in raw.items() if name not in _IDS}
        case list():
            return [_steady(value) for value in raw]
        case _:
            return raw


def _tool(tool: Tool) -> dict[str, Json]:
    if tool.kind == "server" or (tool.kind == "custom" and not tool.name):
        return {"name": tool.name, "opaque": _steady(tool.extra or {})}
    form: dict[str, Json] = {"name": tool.name}
    if tool.description:
        form["description"] = tool.description
    if tool.kind == "custom":
        form["kind"] = "custom"
    elif (parameters := tool.parameters) and (parameters.get("properties") or parameters.keys() - _EMPTY):
        form["parameters"] = parameters
    return form


_EMPTY = frozenset({"type", "properties", "required", "additionalProperties", "$schema", "title"})
"""What a schema may say that allows no arguments: some dialects want one for a tool without any."""


def _choice(choice: ToolChoice | None) -> Json:
    if choice is None or choice.mode == "auto":
        return None
    return {"tool": choice.name or ""} if choice.mode == "tool" else choice.mode


def _sampling(request: Request) -> dict[str, Json]:
    asked: dict[str, Json] = msgspec.to_builtins(request.sampling)
    if request.reasoning is not None:
        asked["reasoning"] = msgspec.to_builtins(request.reasoning)
    return asked
