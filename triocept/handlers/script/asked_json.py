"""An answer that is the JSON that its request asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import msgspec

from ..._canonical.content import Json, ToolCall
from ..._canonical.request import Request, Tool
from .instance import NoInstance, instance_of


@final
class AskedJSON:
    """A reply that fits what the request asks for: `AskedJSON()`, `AskedJSON(city="Oslo")`.

    A request that demands a tool (by its name, or any where there is one) gets a call of it, whose arguments fit its
    schema; one that asks for JSON of a schema gets a text that fits that; one that asks for any JSON object gets one.
    The value is small, and the same each time: what is required, and no more.

    Args:
        fields: what some properties of the outermost object are to be, whether that fits or not.

    Raises:
        TypeError: a field is not JSON.
    """

    def __init__(self, /, **fields: Json) -> None:
        try:
            msgspec.json.encode(fields)
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            raise TypeError(f"AskedJSON: a field is not JSON: {exc}") from None
        self._fields: Mapping[str, Json] = dict(fields)

    def __call__(self, request: Request) -> str | ToolCall:
        """What this request asks for.

        Raises:
            ValueError: it asks for no JSON, or for some that is not known here; the text says where in the schema.
        """
        tool = _demanded(request)
        if tool is not None:
            return ToolCall(tool.name, self._text(tool.parameters or {"type": "object"}))
        shape = request.output_format
        if shape is None:
            raise ValueError(
                "AskedJSON: the request asks for no JSON: it has no output format, and demands no tool"
            )
        return self._text({"type": "object"} if shape.schema is None else shape.schema)

    def _text(self, schema: Json) -> str:
        try:
            value = instance_of(self._without_given(schema))
        except NoInstance as exc:
            raise ValueError(f"AskedJSON: no value is known for the schema at {exc}") from None
        if self._fields:
            value = {**(value if isinstance(value, dict) else {}), **self._fields}
        return msgspec.json.encode(value).decode()

    def _without_given(self, schema: Json) -> Json:
        """The schema, without what is known of the fields that are given: no value has to be found for those."""
        known = schema.get("properties") if isinstance(schema, dict) else None
        if not self._fields or not isinstance(known, dict):
            return schema
        given = {name: {"const": value} for name, value in self._fields.items() if name in known}
        return {**schema, "properties": {**known, **given}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AskedJSON) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(tuple(self._fields))

    def __repr__(self) -> str:
        return f"AskedJSON({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def _demanded(request: Request) -> Tool | None:
    """The tool that the model must call."""
    choice = request.tool_choice
    if choice is None or choice.mode not in ("tool", "required"):
        return None
    functions = [tool for tool in request.tools if tool.kind == "function"]
    named = [tool for tool in functions if choice.mode == "required" or tool.name == choice.name]
    if len(named) == 1:
        return named[0]
    names = ", ".join(tool.name for tool in functions) or "none"
    if choice.mode == "tool":
        raise ValueError(f"AskedJSON: the request demands the tool {choice.name!r}, and offers {names}")
    raise ValueError(f"AskedJSON: the request demands one of several tools ({names}): a ToolCall says which")
