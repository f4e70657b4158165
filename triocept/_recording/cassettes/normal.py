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
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby

import msgspec

from ..._canonical.content import Json, Message, Part, ToolCall, ToolResult
from ..._canonical.form import CASSETTE, join_texts, part_form, role_form, timeless
from ..._canonical.request import Request, Tool, ToolChoice

_encode = msgspec.json.Encoder(order="deterministic").encode
_DATE = re.compile(r"(?:[-@]20\d\d-?[01]\d-?[0-3]\d|-latest)$")
"""At the end of a model's name: `-2024-08-06`, `-20250514`, `@20250514`."""


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
            said = calls.results([part for part in parts if isinstance(part, ToolResult)])
        else:
            forms = [form for part in parts if (form := calls.form(part))]
            said = list(map(_written, join_texts(forms) if role == "assistant" else forms))
        found.append({role: _short(said), **({"name": name} if name else {})})
    return found


def _placed(message: Message) -> Iterator[tuple[str, str | None, Part]]:
    """Yield the parts that count, each with its role and with the name of a speaker, if there are several."""
    role = role_form(message)
    name = None if role in ("assistant", "tool") else message.name  # an agent's own name is LangChain's
    for part in message.content:
        if isinstance(part, ToolResult):
            yield "tool", None, part
        elif part_form(part, CASSETTE) is not None:
            yield role, name, part


def _written(form: list[Json]) -> dict[str, Json]:
    """Return a form as the file has it."""
    match form:
        case ["call", name, arguments]:
            return {"call": name, "arguments": arguments}
        case ["input", name, text]:
            return {"call": name, "input": text}
        case ["media", kind, reference]:
            return {kind: reference}
        case ["opaque", _, raw]:
            return {"opaque": raw}
        case ["result", failed, content]:
            said = _result([_written(inner) for inner in content])
            return {**said, "failed": True} if failed else said
        case _:
            kind, value = form
            return {kind: value}


def _result(content: list[dict[str, Json]]) -> dict[str, Json]:
    match content:
        case [{"text": text}]:
            return {"result": text}
        case [{"json": value}]:
            return {"json": value}
        case _:
            return {"result": content or ""}


def _short(forms: list[dict[str, Json]]) -> Json:
    """Return the text alone if there is nothing else."""
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

    def form(self, part: Part) -> list[Json] | None:
        """Return the form of a part that is no result."""
        if isinstance(part, ToolCall):
            self._told = self._numbered(part.id)
            self._waiting.append(self._told)
        return part_form(part, CASSETTE)

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
        form = _written(part_form(result, CASSETTE) or [])
        if number != (self._waiting[0] if self._waiting else self._told + 1):
            form["of"] = number
        self._told = max(self._told, number)
        if number in self._waiting:
            self._waiting.remove(number)
        return form


def _tool(tool: Tool) -> dict[str, Json]:
    if tool.kind == "server" or (tool.kind == "custom" and not tool.name):
        return {"name": tool.name, "opaque": timeless(tool.extra or {})}
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
