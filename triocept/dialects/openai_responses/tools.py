"""Parse and render tools of the Responses API, with their namespaces, and the tool choice.

Namespaces, and the names that tools in a namespace have in triocept and in the API:

1. Agents find the tool of a call by namespace and name. So the namespace of a call is looked up in the request's tools.
2. If two tools have the same name, the tool in a namespace is renamed to `namespace__name`. In this case, the tool's
   name in the API is in `extra["name"]`.

Tools and tool choice:

1. A namespace's tools are ordinary tools, with the namespace's fields in `extra["namespace"]`. Adjacent tools of the
   same namespace are written as one namespace again.
2. Items of the input may declare tools (`additional_tools`, `tool_search_output`). Such tools are tools of the request,
   too, with `extra["declared_in"]`, and are not written a second time in `tools`.
3. A custom tool takes free text. A custom tool is kept unchanged, like every other tool that is not a function.
4. In this dialect, and in no other dialect, the default of `strict` is True. So a tool from another dialect that has no
   value for `strict` is written with False.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import final

import msgspec

from ..._canonical.content import Json
from ..._canonical.frozen import frozen
from ..._canonical.memory import Memory
from ..._canonical.request import Request, Tool, ToolChoice
from ...errors import DialectError
from .._calls import short_id
from .._documents import Fields, encode_json, merged
from ..openai_chat.parts import choice_of, kept_tool, parse_function
from ..openai_chat.parts import render_choice as render_chat_choice

NAME = "openai_responses"


def is_from_codex(request: Request) -> bool:
    """Return True if Codex sent the request.

    Codex must be recognised because, after `response.incomplete`, it exits with the status 1 and its work is lost.
    Every request body of Codex contains `client_metadata` (0.169: `x-codex-installation-id` and similar). OpenAI's
    public API has no such field.
    """
    return isinstance((request.extra or {}).get("client_metadata"), dict)


class Names:
    """A mapping between the tool names in triocept and the names, with namespaces, in the Responses API."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._wire: dict[str, tuple[str, str]] = {}
        for tool in tools:
            if is_namespaced(tool) and tool.kind != "server":
                own_name = (tool.extra or {}).get("name") or tool.name
                self._wire[tool.name] = (namespace_name(tool), own_name)
        self._known = {wire: name for name, wire in self._wire.items()}
        self.are_plain: bool = all(name == wire for name, (_, wire) in self._wire.items())
        """True if every tool has the same name in triocept and in the API."""

    def known(self, name: str, namespace: Json) -> str:
        """Return triocept's name for the tool that has this name and namespace in the Responses API."""
        return self._known.get((namespace, name), name) if isinstance(namespace, str) else name

    def wire(self, name: str) -> dict[str, Json]:
        """Return the fields `namespace` and `name` that a call of the tool `name` has in the Responses API.

        If the tool has no namespace, return an empty dict.
        """
        found = self._wire.get(name)
        return {"namespace": found[0], "name": found[1]} if found else {}


NO_NAMES = Names(())
"""The `Names` of a request without tools."""


_FUNCTION: dict[str, Json] = {"description": None, "parameters": None, "strict": None}
"""The fields that every function tool in an answer has, with their defaults."""


@final
class OfferedTools(tuple[Tool, ...]):
    """The tools in the field `tools` of a request.

    Values that every answer needs are computed from these tools only once.

    If the next requests of the conversation have the same tools, they contain the same object, which is read-only. A
    copy of the object (`copy.deepcopy`) is a plain tuple, whose tools can be changed.
    """

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[list[Tool]]]:
        return tuple, ([*self],)

    @cached_property
    def names(self) -> Names:
        return Names(self)

    @cached_property
    def echo(self) -> tuple[list[Json], bytes]:
        """The tools in the form in which an answer repeats them: decoded (must not be changed), and encoded as JSON."""
        documents = echoed_tools(self, same_dialect=True)
        return documents, encode_json(documents)


def names_of(tools: Sequence[Tool]) -> Names:
    return tools.names if isinstance(tools, OfferedTools) else Names(tools)


def echo_of(request: Request) -> tuple[list[Json], bytes]:
    """Return the request's tools in the form in which an answer repeats them: decoded, and encoded as JSON.

    The decoded list must not be changed.
    """
    if isinstance(request.tools, OfferedTools) and request.dialect == NAME:
        return request.tools.echo
    documents = echoed_tools(request.tools, same_dialect=request.dialect == NAME)
    return documents, encode_json(documents)


def echoed_tools(tools: Sequence[Tool], *, same_dialect: bool) -> list[Json]:
    """Return `tools`, the tools of a request, in the form in which the answer repeats them."""
    return [
        {**tool, **_FUNCTION, **tool} if tool.get("type") == "function" else tool
        for tool in render_tools(tools, same_dialect=same_dialect)
    ]


def namespace_of(tool: Tool) -> dict[str, Json] | None:
    found = (tool.extra or {}).get("namespace")
    return found if isinstance(found, dict) else None


def namespace_name(tool: Tool) -> str:
    name = (namespace_of(tool) or {}).get("name")
    return name if isinstance(name, str) else ""


def is_namespaced(tool: Tool) -> bool:
    return namespace_of(tool) is not None


DECLARING = ("additional_tools", "tool_search_output")
_NO_PARAMETERS: dict[str, Json] = {"type": "object", "properties": {}}


def parse_tools(fields: Fields, items: Json, memory: Memory) -> tuple[Tool, ...]:
    """Return the tools that the agent declares in the field `tools`, and in items of the `input`."""
    read = memory.read(NAME, "tools", fields.array("tools"), _parse)
    items = items if isinstance(items, list) else []
    declaring = [
        (f"input[{number}]", item)
        for number, item in enumerate(items)
        if isinstance(item, dict) and item.get("type") in DECLARING
    ]
    if not declaring:
        return memory.read(NAME, "offered", [read], _offered)[0]
    tools = [tool for several in read for tool in several]
    for path, item in declaring:
        declared = [tool for at, value in Fields(item, path).items("tools") for tool in _parse(value, at)]
        known = {(namespace_name(tool), tool.name) for tool in tools}
        tools += [
            _with_extra(tool, declared_in=item["type"])
            for tool in declared
            if (namespace_name(tool), tool.name) not in known
        ]
    return _distinct(tools)


def _offered(read: Sequence[Sequence[Tool]], _: str) -> tuple[Tool, ...]:
    tools = frozen(_distinct([tool for several in read for tool in several]))
    return OfferedTools(tools) if tools else ()


def render_tools(tools: Sequence[Tool], *, same_dialect: bool) -> list[Json]:
    """Return the value of the field `tools`, without built-in tools of other providers."""
    documents: list[Json] = []
    wanted = [tool for tool in tools if not (same_dialect and "declared_in" in (tool.extra or {}))]
    for namespace, group in groupby(wanted, key=lambda tool: namespace_of(tool) if same_dialect else None):
        inner = [wire for tool in group if (wire := _render(tool, same_dialect=same_dialect)) is not None]
        documents += inner if namespace is None else [{"type": "namespace", **namespace, "tools": inner}]
    return documents


def parse_choice(value: Json, path: str) -> ToolChoice | None:
    """Convert the field `tool_choice`, a string or an object, into a `ToolChoice`."""
    if value is None:
        return None
    if isinstance(value, str):
        return choice_of(value)
    fields = Fields(value, path)
    kind = fields.need_text("type")
    if kind in ("function", "custom"):
        name = fields.need_text("name")
        plain = kind == "function" and fields.rest() is None
        return ToolChoice(mode="tool", name=name, extra=None if plain else value)
    required = kind != "allowed_tools" or fields.peek("mode") == "required"
    return ToolChoice(mode="required" if required else "auto", extra=value)


def render_choice(choice: ToolChoice, tools: Iterable[Tool], *, same_dialect: bool) -> Json:
    custom = any(tool.kind == "custom" and tool.name == choice.name for tool in tools)
    named = {"type": "custom" if custom else "function", "name": choice.name or ""}
    return render_chat_choice(choice, named, same_dialect=same_dialect)


def _parse(value: Json, path: str) -> list[Tool]:
    """Convert one item of `tools` into tools. A namespace is one item, and contains several tools."""
    fields = Fields(value, path)
    kind = fields.text("type")
    if kind is None and fields.peek("name") is None:
        raise DialectError("is missing", path=fields.at("type"))
    if kind in ("function", None):
        return [parse_function(fields, None)]
    if kind == "namespace" and fields.peek("tools"):
        inner = [tool for at, item in fields.items("tools") for tool in _parse(item, at)]
        return [_with_extra(tool, namespace=fields.rest() or {}) for tool in inner]
    return [kept_tool(value, value, custom=kind == "custom")]


def _render(tool: Tool, *, same_dialect: bool) -> Json | None:
    extra = {n: v for n, v in (tool.extra or {}).items() if not (n == "namespace" and is_namespaced(tool))}
    if tool.kind != "function" and same_dialect and extra:
        return extra
    if tool.kind == "server":
        return None
    document: dict[str, Json] = {"type": tool.kind, "name": tool.name}
    if tool.description is not None:
        document["description"] = tool.description
    if tool.kind == "custom":
        return document
    if tool.parameters is not None or not same_dialect:
        document["parameters"] = tool.parameters if same_dialect else tool.parameters or _NO_PARAMETERS
    if tool.strict is not None or not same_dialect:
        document["strict"] = tool.strict or False
    return merged(document, extra) if same_dialect and extra else document


def _distinct(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    """Return the tools with distinct names.

    If several tools have the same name, those in a namespace are renamed to `namespace__name`.
    """
    counts = Counter(tool.name for tool in tools if tool.kind != "server")
    distinct: list[Tool] = []
    for tool in tools:
        if counts[tool.name] > 1 and is_namespaced(tool) and tool.kind != "server":
            # Names have at most 64 characters, as ids do.
            name = short_id(f"{namespace_name(tool)}__{tool.name}", "tool_")
            tool = _with_extra(msgspec.structs.replace(tool, name=name), name=tool.name)
        distinct.append(tool)
    return tuple(distinct)


def _with_extra(tool: Tool, **more: Json) -> Tool:
    return msgspec.structs.replace(tool, extra={**(tool.extra or {}), **more})
