"""The dialect-neutral form of a request, in which calls are compared and written.

The form is a JSON value, and it is exactly the content of the file: only what can be read there is compared.

Rules:

1. Calls with equal content have equal forms, in any dialect and any run. `developer` is `system`; neighbours of one
   role are one message; results of tools have the role `tool`; calls have no ids; JSON is a value, not a text; media
   are represented by their hash.
2. Additions of an SDK or a provider are left out: headers, `stream`, metadata, cache marks, ids, reasoning and its
   signatures, Claude Code's billing line. Sampling settings are included only if the program compares them.
3. It is a fixed point: `restored` makes a request from a form, and the form of that request is equal.
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
"""Date at the end of a model's name: `-2024-08-06`, `-20250514`, `@20250514`."""


def normal_form(request: Request, *, sampling: bool = False) -> dict[str, Json]:
    """Return the form of a request.

    Args:
        request: the request.
        sampling: True: sampling and reasoning settings are part of the form.
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
    """Return 16 bytes that are equal for equal forms.

    Args:
        form: the form of a request.
        model: True: the model's name counts.
    """
    counting = form if model else {name: value for name, value in form.items() if name != "model"}
    return sha256(_encode(counting)).digest()[:16]


def without_date(model: str) -> str:
    """Return the name of a model, without the date of its version."""
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
    name = None if role in ("assistant", "tool") else message.name  # an agent's own name comes from LangChain
    for part in message.content:
        if isinstance(part, ToolResult):
            yield "tool", None, part
        elif part_form(part, CASSETTE) is not None:
            yield role, name, part


def _written(form: list[Json]) -> dict[str, Json]:
    """Return a form as it stands in the file."""
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
    """Numbers of calls in their order, and of results by their calls."""

    def __init__(self) -> None:
        self._count = 0
        self._numbers: dict[str, int] = {}
        self._waiting: list[int] = []
        """Calls that have no result yet."""
        self._told = 0
        """Highest number that was written so far."""

    def form(self, part: Part) -> list[Json] | None:
        """Return the form of a part that is not a result."""
        if isinstance(part, ToolCall):
            self._told = self._numbered(part.id)
            self._waiting.append(self._told)
        return part_form(part, CASSETTE)

    def results(self, results: Iterable[ToolResult]) -> list[dict[str, Json]]:
        """Return the forms of adjacent results, in the order of their calls: tools may end in any order."""
        numbered = [(self._numbers.get(each.id) or self._numbered(each.id), each) for each in results]
        return [self._result(number, each) for number, each in sorted(numbered, key=lambda pair: pair[0])]

    def _numbered(self, identity: str) -> int:
        self._count += 1
        self._numbers[identity] = self._count
        return self._count

    def _result(self, number: int, result: ToolResult) -> dict[str, Json]:
        """Return a result's form.

        It has no number if its call has waited longest; if no call waits, it has the number of a new call."""
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
"""Schema fields without arguments: some dialects require a schema for a tool without arguments."""


def _choice(choice: ToolChoice | None) -> Json:
    if choice is None or choice.mode == "auto":
        return None
    return {"tool": choice.name or ""} if choice.mode == "tool" else choice.mode


def _sampling(request: Request) -> dict[str, Json]:
    asked: dict[str, Json] = msgspec.to_builtins(request.sampling)
    if request.reasoning is not None:
        asked["reasoning"] = msgspec.to_builtins(request.reasoning)
    return asked
