"""Schemas: Google's subset of OpenAPI, as JSON Schema.

Types are UPPERCASE there, `nullable` is a flag, and whole numbers may come as strings, as in all of proto JSON.
"""

from __future__ import annotations

from ..._canonical.content import Json

__all__ = ["json_schema_of"]

_SCHEMAS = ("items", "additionalProperties", "additional_properties")
_LISTS = {"anyOf": "anyOf", "any_of": "anyOf", "prefixItems": "prefixItems", "prefix_items": "prefixItems"}
_MAPS = {"properties": "properties", "defs": "$defs"}
_NUMBERS = {
    name: camel
    for camel, snake in (
        ("minItems", "min_items"),
        ("maxItems", "max_items"),
        ("minLength", "min_length"),
        ("maxLength", "max_length"),
        ("minProperties", "min_properties"),
        ("maxProperties", "max_properties"),
    )
    for name in (camel, snake)
}
_ORDER = ("propertyOrdering", "property_ordering", "nullable")


def json_schema_of(schema: Json) -> Json:
    """The JSON Schema that says the same; what is no object is given back as it is."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Json] = {}
    for name, value in schema.items():
        if name == "type":
            found |= _type(value)
        elif name in _SCHEMAS:
            found["items" if name == "items" else "additionalProperties"] = json_schema_of(value)
        elif name in _LISTS and isinstance(value, list):
            found[_LISTS[name]] = [json_schema_of(each) for each in value]
        elif name in _MAPS and isinstance(value, dict):
            found[_MAPS[name]] = {key: json_schema_of(each) for key, each in value.items()}
        elif name in _NUMBERS:
            found[_NUMBERS[name]] = int(value) if isinstance(value, str) and value.isdecimal() else value
        elif name == "ref":
            found["$ref"] = value
        elif name == "example":
            found["examples"] = [value]
        elif name not in _ORDER:
            found[name] = value
    return _nullable(found) if schema.get("nullable") is True else found


def _type(value: Json) -> dict[str, Json]:
    if not isinstance(value, str):
        return {"type": value}
    return {} if value == "TYPE_UNSPECIFIED" else {"type": value.lower()}


def _nullable(schema: dict[str, Json]) -> dict[str, Json]:
    kind, options, values = schema.get("type"), schema.get("anyOf"), schema.get("enum")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
    if isinstance(options, list):
        schema["anyOf"] = [*options, {"type": "null"}]
    if isinstance(values, list) and None not in values:
        schema["enum"] = [*values, None]
    return schema
