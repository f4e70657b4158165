"""Convert requests to the dialect-neutral form in which a cassette compares and writes them, and back.

The form is the JSON value that the file contains. So calls are compared only by details that the file shows.

Rules:

1. Calls with equal content have equal forms, in any dialect and any run. `developer` becomes `system`; adjacent
   messages of one role become one message; results of tools have the role `tool`. Tool calls have no ids. Arguments and
   results that are JSON become values, not texts. A hash replaces each image, sound or file.
2. Details that an SDK or a provider adds are left out: headers, `stream`, metadata, cache marks, ids, reasoning with
   its signatures, and Claude Code's billing line. Sampling settings are included only if the program compares them.
3. The conversion can be repeated: `restored` makes a request from a form, and this request again has an equal form.

A cassette cannot answer a call in three cases. No recorded call has an equal form. Each recorded call with an equal
form was already used. Or the recorded client disconnected from the call, but the live client stays connected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from ..._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    RefusalText,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ..._canonical.form import CASSETTE, join_texts, placed_forms, timeless
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from ..._util.documents import Node, node_of

_encode = msgspec.json.Encoder(order="deterministic").encode
_DATE = re.compile(r"(?:[-@]20\d\d-?[01]\d-?[0-3]\d|-latest)$")
"""Date at the end of a model's name: `-2024-08-06`, `-20250514`, `@20250514`."""
_EMPTY = frozenset({"type", "properties", "required", "additionalProperties", "$schema", "title"})
"""Keys in the schema of a tool without arguments, because some dialects require these keys. A schema with only these
keys counts as empty."""
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_MEDIA = ("image", "audio", "file")


class _Calls:
    """Assigns numbers to tool calls, in order. A tool result has the number of its tool call.

    If a result has the number `due`, the file contains the result without its number.
    """

    def __init__(self) -> None:
        self.last = 0
        """Highest number of a call so far; 0 before the first call."""
        self._waiting: list[int] = []
        """Numbers of the calls that have no result yet."""

    @property
    def due(self) -> int:
        """Number of the call that has waited longest for its result.

        If no call waits for a result, this is the number that the next call will get.
        """
        return self._waiting[0] if self._waiting else self.last + 1

    def call(self) -> int:
        self.last += 1
        self._waiting.append(self.last)
        return self.last

    def answer(self, number: int) -> None:
        self.last = max(self.last, number)
        if number in self._waiting:
            self._waiting.remove(number)


# From a request to its form


def normal_form(request: Request, *, sampling: bool = False) -> dict[str, Json]:
    """Return the form of a request. A cassette compares and writes requests in this form.

    Args:
        request: the request.
        sampling: if True, sampling and reasoning settings are part of the form.
    """
    form: dict[str, Json] = {"model": without_date(request.model)}
    form["messages"] = _messages(request.messages)
    if tools := sorted((_tool(tool) for tool in request.tools), key=_encode):
        form["tools"] = tools
    if (choice := request.tool_choice) is not None and choice.mode != "auto":
        form["tool_choice"] = {"tool": choice.name or ""} if choice.mode == "tool" else choice.mode
    if (output := request.output_format) is not None:
        form["output"] = "json" if output.schema is None else {"schema": output.schema}
    if sampling:
        settings: dict[str, Json] = msgspec.to_builtins(request.sampling)
        if request.reasoning is not None:
            settings["reasoning"] = msgspec.to_builtins(request.reasoning)
        if settings:
            form["sampling"] = settings
    return form


def key_of(form: dict[str, Json], *, model: bool = True) -> bytes:
    """Return a hash of 16 bytes. Equal forms have equal hashes.

    Args:
        form: the form of a request.
        model: if True, forms with different model names have different hashes.
    """
    counting = form if model else {name: value for name, value in form.items() if name != "model"}
    return sha256(_encode(counting)).digest()[:16]


def without_date(model: str) -> str:
    return _DATE.sub("", model) or model


def _messages(messages: Iterable[Message]) -> list[Json]:
    placed = [
        # LangChain sends an agent's own name
        (role, None if role in ("assistant", "tool") else message.name, part, form)
        for message in messages
        for role, part, form in placed_forms(message, CASSETTE)
    ]
    calls, numbers = _Calls(), dict[str, int]()
    found: list[Json] = []
    for (role, name), group in groupby(placed, key=itemgetter(0, 1)):
        parts = [(part, form) for _, _, part, form in group]
        if role == "tool":
            stored = _stored_results(parts, calls, numbers)
        else:
            numbers |= {part.id: calls.call() for part, _ in parts if isinstance(part, ToolCall)}
            forms = [form for _, form in parts]
            stored = list(map(_stored, join_texts(forms) if role == "assistant" else forms))
        is_text = len(stored) == 1 and stored[0].keys() == {"text"}
        found.append({role: stored[0]["text"] if is_text else stored, **({"name": name} if name else {})})
    return found


def _stored_results(
    parts: Iterable[tuple[Part, list[Json]]], calls: _Calls, numbers: dict[str, int]
) -> list[dict[str, Json]]:
    """Return the comparable forms of adjacent tool results, in the order of the tool calls that they answer.

    The results may come in another order: the tools may run at the same time.
    """
    numbered: list[tuple[int, list[Json]]] = []
    new = calls.last
    for part, form in parts:
        if isinstance(part, ToolResult):
            if part.id not in numbers:
                numbers[part.id] = new = new + 1
            numbered.append((numbers[part.id], form))
    found = []
    for number, form in sorted(numbered, key=itemgetter(0)):
        found.append(_stored(form) | ({"of": number} if number != calls.due else {}))
        calls.answer(number)
    return found


def _stored(form: list[Json]) -> dict[str, Json]:
    """Return the form of a part as the JSON object that a cassette's file contains."""
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
            match [_stored(inner) for inner in content]:
                case [{"text": text}]:
                    stored = {"result": text}
                case [{"json": value}]:
                    stored = {"json": value}
                case parts:
                    stored = {"result": parts or ""}
            return {**stored, "failed": True} if failed else stored
        case _:
            kind, value = form
            return {kind: value}


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


# From a form to its request


def restored(form: Node, messages: list[Node], tools: list[Node]) -> Request:
    """Return the request whose form is `form`.

    Args:
        form: the form of the request, as a file contains it.
        messages: all messages of the request. If this call continues an earlier call, the first messages are stored
            only with that earlier call.
        tools: all tools of the request, which the file contains in a separate table.

    Raises:
        DialectError: `form` is not the form of a request; the text names the place in the file.
    """
    members, calls = form.value, _Calls()
    read: list[Message] = []
    for node in messages:
        parts = node.mapping(*_ROLES, "name")
        roles = [role for role in _ROLES if role in parts]
        if len(roles) != 1:
            raise node.error(f"a message must have exactly one of the keys {', '.join(_ROLES)}")
        given = parts[roles[0]].text_or_items()
        content = (
            (Text(given),) if isinstance(given, str) else tuple([_read_part(each, calls) for each in given])
        )
        read.append(Message(roles[0], content, parts["name"].text() if "name" in parts else None))
    choice: ToolChoice | None = None
    if (node := members.get("tool_choice")) is not None and isinstance(node.value, dict):
        tool = node.mapping("tool").get("tool")
        choice = None if tool is None else ToolChoice(mode="tool", name=tool.text())
    elif node is not None:
        mode: Any = node.text("auto", "none", "required")
        choice = ToolChoice(mode=mode)
    output: OutputFormat | None = None
    if (node := members.get("output")) is not None and isinstance(node.value, dict):
        if (schema := node.mapping("schema").get("schema")) is None:
            raise node.error("this output has no `schema`, which an output that is a mapping needs")
        output = OutputFormat(kind="json_schema", schema=schema.mapping() and schema.json)
    elif node is not None:
        node.text("json")
        output = OutputFormat(kind="json_object")
    sampling, reasoning = Sampling(), None
    if (node := members.get("sampling")) is not None:
        settings = node.mapping(*Sampling.__struct_fields__, "reasoning")
        reasoning = settings["reasoning"].converted(ReasoningAsk) if "reasoning" in settings else None
        asked = {name: inner.json for name, inner in settings.items() if name != "reasoning"}
        sampling = node.converted(Sampling, asked)
    return Request(
        dialect="",
        model=members["model"].text() if "model" in members else "",
        messages=tuple(read),
        tools=tuple(_read_tool(tool) for tool in tools),
        tool_choice=choice,
        output_format=output,
        sampling=sampling,
        reasoning=reasoning,
    )


def restored_form(form: dict[str, Json]) -> Request:
    """Return the request whose form is `form`.

    Unlike `restored`, this function takes a form that `normal_form` has made.
    """
    node = node_of(form)
    tools = node.value.get("tools")
    return restored(node, node.value["messages"].items(), tools.items() if tools is not None else [])


def _read_part(node: Node, calls: _Calls) -> Part:
    members = node.mapping(
        "text", "refusal", "call", "arguments", "input", "result", "json", "failed", "of", *_MEDIA, "opaque"
    )
    kinds: list[Any] = [name for name in ("call", "result", "json") if name in members] or list(members)
    match kinds:
        case ["call"]:
            node.mapping("call", "arguments", "input")
            name, identity = members["call"].text(), f"call_{calls.call()}"
            if "input" in members:
                return ToolCall(name, members["input"].text(), identity, "text")
            given = members.get("arguments") or node_of("{}")
            return ToolCall(name, given.value if isinstance(given.value, str) else _json(given), identity)
        case ["result" | "json"]:
            return _read_result(node, calls)
        case ["text"]:
            return Text(members["text"].text())
        case ["refusal"]:
            return RefusalText(members["refusal"].text())
        case ["opaque"]:
            return Opaque("", members["opaque"].json)
        case ["image" | "audio" | "file" as kind]:
            return Media(kind=kind, url=members[kind].text())
    raise node.error("a part must be one of text, refusal, call, result, json, image, audio, file, opaque")


def _json(node: Node) -> str:
    return _encode(node.json).decode()


def _read_result(node: Node, calls: _Calls) -> ToolResult:
    members = node.mapping("result", "json", "failed", "of")
    number = members["of"].count(1) if "of" in members else calls.due
    calls.answer(number)
    content: list[Any]
    if "json" in members:
        content = [Text(_json(members["json"]))]
    elif isinstance(result := members["result"].text_or_items(), str):
        content = [Text(result)]
    else:
        for part in result:
            part.mapping("text", *_MEDIA, "opaque")
        content = [_read_part(part, calls) for part in result]
    failed = "failed" in members and members["failed"].flag()
    return ToolResult(id=f"call_{number}", content=tuple(content), is_error=failed)


def _read_tool(node: Node) -> Tool:
    members = node.mapping("name", "description", "kind", "parameters", "opaque")
    name = members["name"].text() if "name" in members else ""
    if "opaque" in members:
        return Tool(name=name, kind="server", extra=members["opaque"].mapping() and members["opaque"].json)
    kind: Any = members["kind"].text("custom", "function") if "kind" in members else "function"
    parameters = members.get("parameters")
    return Tool(
        name=name,
        description=members["description"].text() if "description" in members else None,
        kind=kind,
        parameters=parameters and parameters.mapping() and parameters.json,
    )
