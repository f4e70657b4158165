"""Functions that read texts from a request, or shorten values for error texts."""

from __future__ import annotations

from reprlib import Repr

from ..._canonical.request import Request

_repr = Repr()
_repr.maxstring = _repr.maxother = 100


def shown(value: object) -> str:
    """Return `value` as a text for one line of an error message. A long text is shortened."""
    return _repr.repr(value)


def system_text(request: Request) -> str:
    return "\n".join([each.text for each in request.messages if each.role in ("system", "developer")])


def called_names(request: Request) -> list[str]:
    """Return the names of the tools whose results the request contains since the model's last answer."""
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    return [result.name or names.get(result.id, "") for result in request.tool_results]
