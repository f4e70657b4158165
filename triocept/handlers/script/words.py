"""The words of a request that a script looks at."""

from __future__ import annotations

from collections.abc import Iterator
from reprlib import Repr

from ..._canonical.request import Request, Tool

_repr = Repr()
_repr.maxstring = _repr.maxother = 100


def shown(value: object) -> str:
    """A value in a line of an error: cut where it is long."""
    return _repr.repr(value)


def system_text(request: Request) -> str:
    """All system and developer messages, wherever they stand, a line break between two."""
    return "\n".join([each.text for each in request.messages if each.role in ("system", "developer")])


def offered_names(request: Request) -> list[str]:
    """The tools that the agent offers; of a namespace of Responses those in it, too."""
    return [name for tool in request.tools for name in _names(tool)]


def _names(tool: Tool) -> Iterator[str]:
    yield tool.name
    inner = (tool.extra or {}).get("tools")
    for each in inner if isinstance(inner, list) else ():
        if isinstance(each, dict) and isinstance(name := each.get("name"), str):
            yield name


def called_names(request: Request) -> list[str]:
    """Whose results came since the model spoke last."""
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    return [result.name or names.get(result.id, "") for result in request.tool_results]
