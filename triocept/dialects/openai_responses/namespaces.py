"""The namespaces of tools, and the names of their tools in triocept and on the wire.

Rules:

1. Agents find the tool of a call by namespace and name, so a call gets its namespace from the request's tools.
2. If two tools share a name, a tool in a namespace is called `namespace__name`, and its own name is in
   `extra["name"]`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._canonical.content import Json
from ..._canonical.request import Tool


class Names:
    """The names of a request's tools, in triocept and on the wire.

    Args:
        tools: the tools of the request.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._wire: dict[str, tuple[str, str]] = {}
        for tool in tools:
            if is_namespaced(tool) and tool.kind != "server":
                own_name = (tool.extra or {}).get("name") or tool.name
                self._wire[tool.name] = (namespace_name(tool), own_name)
        self._known = {wire: name for name, wire in self._wire.items()}
        self.are_plain: bool = all(name == wire for name, (_, wire) in self._wire.items())
        """True if the names of all tools are equal in triocept and on the wire."""

    def known(self, name: str, namespace: Json) -> str:
        """Return the name in triocept of the tool with this wire name."""
        return self._known.get((namespace, name), name) if isinstance(namespace, str) else name

    def wire(self, name: str) -> dict[str, Json]:
        """Return the fields `namespace` and `name` of a call of this tool; no fields if it is in no namespace."""
        found = self._wire.get(name)
        return {"namespace": found[0], "name": found[1]} if found else {}


NO_NAMES = Names(())
"""The names of a request without tools."""


def namespace_of(tool: Tool) -> dict[str, Json] | None:
    """Return the fields of the tool's namespace; None if it is in no namespace."""
    found = (tool.extra or {}).get("namespace")
    return found if isinstance(found, dict) else None


def namespace_name(tool: Tool) -> str:
    """Return the name of the tool's namespace; empty if it is in no namespace."""
    name = (namespace_of(tool) or {}).get("name")
    return name if isinstance(name, str) else ""


def is_namespaced(tool: Tool) -> bool:
    """Return True if the tool is in a namespace."""
    return namespace_of(tool) is not None
