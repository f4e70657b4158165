"""Reader of a request's form: the inverse of `normal`, whose errors name the place of an invalid form."""

from __future__ import annotations

from collections.abc import Iterator
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
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from ..._util.documents import Node, node_of

_encode = msgspec.json.Encoder(order="deterministic").encode
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_MEDIA = ("image", "audio", "file")
_SAMPLING = (*Sampling.__struct_fields__, "reasoning")


def restored(form: Node, messages: list[Node], tools: list[Node]) -> Request:
    """Return the request that has this form.

    Args:
        form: the request as it stands in a file.
        messages: all of its messages; in the file, the first messages stand with another call.
        tools: all of its tools; in the file, they stand in a list of their own.

    Raises:
        DialectError: it is not the form of a request; the text names the place.
    """
    members = form.value
    model = members["model"].text() if "model" in members else ""
    sampling, reasoning = _sampling(members.get("sampling"))
    return Request(
        dialect="",
        model=model,
        messages=tuple(_messages(messages)),
        tools=tuple(_tool(tool) for tool in tools),
        tool_choice=_choice(members.get("tool_choice")),
        output_format=_output(members.get("output")),
        sampling=sampling,
        reasoning=reasoning,
    )


def restored_form(form: dict[str, Json]) -> Request:
    """Return the request that has this form, which does not come from a file."""
    node = node_of(form)
    tools = node.value.get("tools")
    return restored(node, node.value["messages"].items(), tools.items() if tools is not None else [])


def _messages(nodes: list[Node]) -> Iterator[Message]:
    calls = _Calls()
    for node in nodes:
        members = node.mapping(*_ROLES, "name")
        roles = [role for role in _ROLES if role in members]
        if len(roles) != 1:
            raise node.error(f"a message says its role once, before what it says: one of {', '.join(_ROLES)}")
        said = members[roles[0]].text_or_items()
        name = members["name"].text() if "name" in members else None
        if isinstance(said, str):
            yield Message(roles[0], (Text(said),), name)
        else:
            yield Message(roles[0], tuple(_part(part, calls) for part in said), name)


class _Calls:
    """Ids of calls and results, from the numbers of `normal`."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[int] = []

    def call(self) -> str:
        """Return the id of the next call."""
        self._count += 1
        self._waiting.append(self._count)
        return f"call_{self._count}"

    def result(self, number: int | None) -> str:
        """Return the id of a result with this number, or without a number."""
        if number is None:
            number = self._waiting[0] if self._waiting else self._count + 1
        self._count = max(self._count, number)
        if number in self._waiting:
            self._waiting.remove(number)
        return f"call_{number}"


def _part(node: Node, calls: _Calls) -> Part:
    members = node.mapping(
        "text", "refusal", "call", "arguments", "input", "result", "json", "failed", "of", *_MEDIA, "opaque"
    )
    kinds: list[Any] = [name for name in ("call", "result", "json") if name in members] or list(members)
    match kinds:
        case ["call"]:
            return _call(node, calls)
        case ["result" | "json"]:
            return _result(node, calls)
        case ["text"]:
            return Text(members["text"].text())
        case ["refusal"]:
            return RefusalText(members["refusal"].text())
        case ["opaque"]:
            return Opaque("", members["opaque"].json)
        case ["image" | "audio" | "file" as kind]:
            return Media(kind=kind, url=members[kind].text())
    raise node.error("a part is one of text, refusal, call, result, json, image, audio, file, opaque")


def _call(node: Node, calls: _Calls) -> ToolCall:
    members = node.mapping("call", "arguments", "input")
    name = members["call"].text()
    if "input" in members:
        return ToolCall(name, members["input"].text(), calls.call(), "text")
    return ToolCall(name, _arguments(members.get("arguments")), calls.call())


def _arguments(node: Node | None) -> str:
    if node is None:
        return "{}"
    return node.value if isinstance(node.value, str) else _encode(node.json).decode()


def _result(node: Node, calls: _Calls) -> ToolResult:
    members = node.mapping("result", "json", "failed", "of")
    identity = calls.result(members["of"].count(1) if "of" in members else None)
    failed = "failed" in members and members["failed"].flag()
    if "json" in members:
        said: tuple[Text | Media | Opaque, ...] = (Text(_encode(members["json"].json).decode()),)
    elif isinstance(result := members["result"].text_or_items(), str):
        said = (Text(result),)
    else:
        said = tuple(_inner(part) for part in result)
    return ToolResult(id=identity, content=said, is_error=failed)


def _inner(node: Node) -> Text | Media | Opaque:
    node.mapping("text", *_MEDIA, "opaque")
    part = _part(node, _Calls())
    assert isinstance(part, Text | Media | Opaque)
    return part


def _tool(node: Node) -> Tool:
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


def _choice(node: Node | None) -> ToolChoice | None:
    if node is None:
        return None
    if isinstance(node.value, dict):
        members = node.mapping("tool")
        return ToolChoice(mode="tool", name=members["tool"].text()) if members else None
    word: Any = node.text("auto", "none", "required")
    return ToolChoice(mode=word)


def _output(node: Node | None) -> OutputFormat | None:
    if node is None:
        return None
    if isinstance(node.value, dict):
        members = node.mapping("schema")
        return OutputFormat(kind="json_schema", schema=members["schema"].mapping() and members["schema"].json)
    node.text("json")
    return OutputFormat(kind="json_object")


def _sampling(node: Node | None) -> tuple[Sampling, ReasoningAsk | None]:
    if node is None:
        return Sampling(), None
    members = node.mapping(*_SAMPLING)
    asked = {name: inner.json for name, inner in members.items() if name != "reasoning"}
    reasoning = members.get("reasoning")
    return node.converted(Sampling, asked), reasoning and reasoning.converted(ReasoningAsk)
