"""Several JSON Schemas that hold at once, as one schema; and the targets of references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from urllib.parse import unquote

from ..._canonical.content import Json

_BESIDE = frozenset(
    {
        *("title", "description", "default", "examples", "example", "$comment"),
        *("$defs", "definitions", "$schema", "$id"),
        *("deprecated", "readOnly", "writeOnly", "discriminator", "nullable"),
    }
)
"""Keywords that restrict nothing: the first schema's value is kept."""


def resolved(root: Json, reference: str) -> Json:
    """Return the target of a reference in its own document: `#/$defs/City`.

    Raises:
        LookupError: the target does not exist.
    """
    if not reference.startswith("#"):
        raise LookupError(f"{reference} is in another document")
    found = root
    for step in reference.lstrip("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise LookupError(f"there is no {reference}")
    return found


def merged(schemas: Sequence[Json]) -> Json:
    """Return a schema that holds where all of these hold.

    Raises:
        ValueError: the schemas cannot be combined here.
    """
    if any(schema is False for schema in schemas):
        raise ValueError("nothing fits false")
    return reduce(_merge, [schema for schema in schemas if isinstance(schema, dict)], {})


def _merge(one: Json, other: Json) -> Json:
    one, other = _held(one, other), _held(other, one)
    return {**one, **other, **{name: _join(name, one[name], other[name]) for name in one if name in other}}


def _held(schema: Json, other: Json) -> Json:
    """Apply the other schema's `additionalProperties` to each property that only this schema has."""
    allowed, known = other.get("additionalProperties", True), other.get("properties", {})
    if allowed is True or "properties" not in schema:
        return schema
    held = {
        name: inner if name in known else {"allOf": [allowed, inner]}
        for name, inner in schema["properties"].items()
    }
    return {**schema, "properties": held}


def _join(name: str, one: Json, other: Json) -> Json:
    if one == other or name in _BESIDE:
        return one
    if name in ("anyOf", "oneOf", "$ref"):
        raise ValueError(f"two of {name!r} at once are not understood here: give the value")
    if (join := _JOINS.get(name)) is None:
        raise ValueError(f"{name!r} is {one!r}, and {other!r} at once")
    return join(one, other)


def _types(one: Json, other: Json) -> Json:
    these, those = ([kinds] if isinstance(kinds, str) else list(kinds) for kinds in (one, other))
    if {"integer", "number"} <= {*these, *those}:
        these, those = ([kind.replace("number", "integer") for kind in kinds] for kinds in (these, those))
    found = [kind for kind in these if kind in those]
    if not found:
        raise ValueError(f"nothing is {one!r}, and {other!r} at once")
    return found


def _properties(one: Json, other: Json) -> Json:
    return {**one, **other, **{name: _both(one[name], other[name]) for name in one if name in other}}


def _both(one: Json, other: Json) -> Json:
    return {"allOf": [one, other]}


_JOINS: dict[str, Callable[[Json, Json], Json]] = {
    "type": _types,
    "enum": lambda one, other: [value for value in one if value in other],
    "properties": _properties,
    "required": lambda one, other: [*one, *(name for name in other if name not in one)],
    "items": _both,
    "additionalProperties": _both,
    "allOf": lambda one, other: [*one, *other],
    "uniqueItems": lambda one, other: bool(one or other),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
