"""The complete content of a cassette as one document, and back.

Rules:

1. A tool that many calls offer is written once, under its name. A call that continues a conversation holds the new
   messages and the number of the call that it continues.
2. The numbers of calls are names, not positions: after a change, all other calls keep their numbers.
3. Errors in an edited cassette name the problem and the line.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._util.documents import Node
from ..answer import Answer
from .answer_form import answer_form, read_answer
from .restored import restored

VERSION = 1
_REQUEST = ("model", "continues", "messages", "tools", "tool_choice", "output", "sampling")
_encode = msgspec.json.Encoder(order="deterministic").encode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A call and its outcome."""

    number: int
    """Number of the call in the file."""
    form: dict[str, Json]
    """Form of the request: see `normal`."""
    answer: Answer
    line: int | None = None
    """Place in its file; None: the call is new."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it was read."""

    number: int
    request: Request
    answer: Answer
    line: int


def document_of(calls: Sequence[Recorded]) -> dict[str, Json]:
    """Return the document that holds these calls, in this order."""
    names = _ToolNames()
    entries: list[Json] = []
    for place, call in enumerate(calls):
        names.add(call.form.get("tools", ()))
        request = _request(call.form, calls[:place], names)
        entries.append({"call": call.number, "request": request, "answer": answer_form(call.answer)})
    document: dict[str, Json] = {"cassette": VERSION}
    if names.table:
        document["tools"] = dict(sorted(names.table.items()))
    return {**document, "calls": entries}


def _request(form: dict[str, Json], before: Sequence[Recorded], names: _ToolNames) -> dict[str, Json]:
    shown: dict[str, Json] = {"model": form["model"]}
    messages = form["messages"]
    if (head := _head(messages, before)) is not None:
        shown["continues"] = head.number
        messages = messages[len(head.form["messages"]) :]
    shown["messages"] = messages
    if "tools" in form:
        shown["tools"] = [names.of(tool) for tool in form["tools"]]
    return shown | {name: value for name, value in form.items() if name not in shown}


def _head(messages: Json, before: Sequence[Recorded]) -> Recorded | None:
    """Return the previous call whose messages are the longest beginning of these messages."""
    found: Recorded | None = None
    for call in before:
        length = len(call.form["messages"])
        if (
            (0 if found is None else len(found.form["messages"])) < length < len(messages)
            and messages[length - 1] == call.form["messages"][-1]
            and messages[:length] == call.form["messages"]
        ):
            found = call
    return found


class _ToolNames:
    """Names of tools in a document: their own names; each further tool of an equal name gets a number."""

    def __init__(self) -> None:
        self.table: dict[str, Json] = {}
        self._names: dict[bytes, str] = {}

    def add(self, tools: Sequence[dict[str, Json]]) -> None:
        for tool in tools:
            key = _encode(tool)
            if key in self._names:
                continue
            first = name = str(tool["name"] or tool.get("opaque", {}).get("type") or "tool")
            number = 1
            while name in self.table:
                number += 1
                name = f"{first} ({number})"
            self._names[key] = name
            self.table[name] = {
                part: value for part, value in tool.items() if (part, value) != ("name", name)
            }

    def of(self, tool: dict[str, Json]) -> str:
        return self._names[_encode(tool)]


def read_document(document: Node) -> list[Read]:
    """Return the calls in a document.

    Raises:
        DialectError: this version cannot read the document; the text names the place.
    """
    if not isinstance(document.value, dict) or "cassette" not in document.value:
        raise document.error("this is no cassette: it does not begin with `cassette: 1`")
    version = document.value["cassette"]
    if version.count(1) > VERSION:
        raise version.error(
            f"this cassette is of format {version.value}, which a newer triocept writes; this one reads {VERSION}"
        )
    members = document.mapping("cassette", "tools", "calls")
    if "calls" not in members:
        raise document.error("there are no `calls`: is the rest of the file missing?")
    tools = members["tools"].mapping() if "tools" in members else {}
    found: dict[int, Read] = {}
    messages: dict[int, list[Node]] = {}
    for node in members["calls"].items():
        call = _read_call(node, tools, messages)
        if call.number in found:
            raise node.error(f"call {call.number} stands here twice: first on line {found[call.number].line}")
        found[call.number] = call
    return list(found.values())


def _read_call(node: Node, tools: dict[str, Node], before: dict[int, list[Node]]) -> Read:
    members = node.mapping("call", "request", "answer")
    for name in ("call", "request", "answer"):
        if name not in members:
            raise node.error(f"a call has a {name!r}, and this one has none")
    number = members["call"].count(1)
    request = members["request"].mapping(*_REQUEST)
    if "messages" not in request:
        raise members["request"].error("a request has messages, and this one has none")
    messages = [*_continued(request.get("continues"), before), *request["messages"].items()]
    offered = [_offered(name, tools) for name in request["tools"].items()] if "tools" in request else []
    before.setdefault(number, messages)
    return Read(
        number=number,
        request=restored(members["request"], messages, offered),
        answer=read_answer(members["answer"]),
        line=node.line,
    )


def _continued(node: Node | None, before: dict[int, list[Node]]) -> list[Node]:
    if node is None:
        return []
    if node.count(1) not in before:
        raise node.error(f"there is no call {node.value} before this one that it could continue")
    return before[node.value]


def _offered(name: Node, tools: dict[str, Node]) -> Node:
    tool = tools.get(name.text())
    if tool is None:
        raise name.error(f"there is no tool {name.value!r} among the `tools` at the head of the file")
    members = tool.mapping()
    if "name" in members:
        return tool
    return Node(
        tool.file,
        tool.line,
        tool.path,
        {**members, "name": Node(tool.file, tool.line, tool.path, name.value)},
    )
