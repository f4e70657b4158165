"""The reply `AskedJSON`, which generates JSON from the schema in the request that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import msgspec

from ..._canonical.content import Json, ToolCall
from ..._canonical.request import Request, Tool
from .instance import NoInstance, instance_of


@final
class AskedJSON:
    """A reply whose JSON fits the schema in the request: `AskedJSON()`. `AskedJSON(city="Oslo")` sets a value.

    * A request that requires a tool (by name, or any of the offered tools) gets a call whose arguments fit the tool's
      schema.
    * A request that requires JSON of a schema gets a text with JSON that fits the schema.
    * A request that requires any JSON object gets a text with a JSON object.

    The generated value is minimal: its objects have only required properties. Equal requests get equal values.

    Args:
        fields: values for properties of the outermost object. These values are not checked against the schema.

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
        """Return the reply to `request`: a text that is JSON, or a tool call.

        Raises:
            ValueError: the request requires no JSON, or its schema is not supported. The error's text names the
                unsupported part of the schema.
        """
        tool = _demanded(request)
        if tool is not None:
            return ToolCall(tool.name, self._text(tool.parameters or {"type": "object"}))
        shape = request.output_format
        if shape is None:
            raise ValueError(
                "AskedJSON: the request does not ask for JSON, because it has neither an output format nor a tool "
                "that the model must call: reply with a text"
            )
        return self._text({"type": "object"} if shape.schema is None else shape.schema)

    def _text(self, schema: Json) -> str:
        known = schema.get("properties") if isinstance(schema, dict) else None
        if self._fields and isinstance(known, dict):  # no value is needed for the given fields
            given = {name: {"const": value} for name, value in self._fields.items() if name in known}
            schema = {**schema, "properties": {**known, **given}}
        try:
            value = instance_of(schema)
        except NoInstance as exc:
            raise ValueError(f"AskedJSON: cannot generate a value for the schema at {exc}") from None
        if self._fields:
            value = {**(value if isinstance(value, dict) else {}), **self._fields}
        return msgspec.json.encode(value).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AskedJSON) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(tuple(self._fields))

    def __repr__(self) -> str:
        return f"AskedJSON({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def _demanded(request: Request) -> Tool | None:
    """Return the tool that the model must call because of the request's tool choice; None if no call is required."""
    choice = request.tool_choice
    if choice is None or choice.mode not in ("tool", "required"):
        return None
    functions = [tool for tool in request.tools if tool.kind == "function"]
    named = [tool for tool in functions if choice.mode == "required" or tool.name == choice.name]
    if len(named) == 1:
        return named[0]
    names = ", ".join(tool.name for tool in functions) or "none"
    if choice.mode == "tool":
        raise ValueError(f"AskedJSON: the request demands the tool {choice.name!r}, but offers {names}")
    raise ValueError(f"AskedJSON: the request requires one of several tools ({names}): reply with a ToolCall")
