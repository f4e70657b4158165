"""Schemas of tools, as Anthropic takes them: an object, without alternatives at its top."""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import Json

__all__ = ["object_schema"]

_ONE_OF, _ALL_OF = ("anyOf", "oneOf"), "allOf"


def object_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema as one object.

    Anthropic refuses `anyOf`, `oneOf` and `allOf` at the top. There, the properties of all of them are those of the
    object, and required is what each alternative requires: it allows more than the source did, and forbids nothing.
    """
    alternatives = [_objects(schema.get(name)) for name in _ONE_OF]
    parts = _objects(schema.get(_ALL_OF))
    several = [*parts, *(each for found in alternatives for each in found)]
    if not several:
        return schema if "type" in schema else {"type": "object", **schema}
    rest = {name: value for name, value in schema.items() if name not in (*_ONE_OF, _ALL_OF, "required")}
    properties: dict[str, Json] = {}
    for each in (*several, schema):
        properties |= _properties(each)
    required = _required(schema, parts, [found for found in alternatives if found])
    return {
        "type": "object",
        **rest,
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _objects(value: Json) -> list[dict[str, Json]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _required(
    schema: dict[str, Json], parts: Sequence[dict[str, Json]], alternatives: Sequence[list[dict[str, Json]]]
) -> list[str]:
    """What is required in any case, in the order in which it is named."""
    found = [name for each in (schema, *parts) for name in _named(each)]
    for several in alternatives:
        first, *others = [_named(each) for each in several]
        found += [name for name in first if all(name in other for other in others)]
    return list(dict.fromkeys(found))


def _properties(schema: dict[str, Json]) -> dict[str, Json]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _named(schema: dict[str, Json]) -> list[str]:
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
