"""Generate a small value that fits a JSON Schema. Equal schemas give equal values.

Rules:

1. An object has only its required properties, an array has one item if allowed, and a text is the name of its property.
2. Values are finite: where a schema refers to itself, the value fits another branch of the schema, or is an empty
   array.
3. For a schema with an unsupported part (such as a complicated pattern), an error is raised that names the part's
   place.

The parts of JSON Schema Draft 2020-12 that are common in requests are supported: types, enums, references, `anyOf`,
`oneOf`, `allOf`, bounds, formats. Google's own notation of types is supported, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from ..._canonical.content import Json
from .scalars import admits, number_for, text_for

_NOT_UNDERSTOOD = ("not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies")
"""Unsupported keywords of schemas. Such a keyword may forbid a value that fits all other keywords."""
_MOST_TRIES = 64
"""Maximum tries to make an item that differs from the other items."""


class NoInstance(ValueError):
    """Error: no value that fits the schema was found."""


def instance_of(schema: Json) -> Json:
    """Return a small value that fits the schema.

    Raises:
        NoInstance: no value was found. The error's text names the part of the schema and the reason.
    """
    return _Maker(schema).make(schema, _Place("$", "text"))


class _Place(NamedTuple):
    path: str
    name: str
    """Name of the property. If the property's value is a text, the generated text is this name."""
    variant: int = 0
    """Number of the value, from 0, if several different values are needed for this place."""
    within: tuple[str, ...] = ()
    """The references (`$ref`) that were followed to reach this place."""


def _unsupported(at: _Place, keyword: str) -> NoInstance:
    advice = "give the field's value, as in AskedJSON(name=value)"
    return NoInstance(f"{at.path}: the keyword {keyword!r} is not supported: {advice}")


class _Maker:
    """Generator of values for the schemas within one document."""

    def __init__(self, root: Json) -> None:
        self._root = root

    def make(self, schema: Json, at: _Place) -> Json:
        if schema is True:
            return at.name
        if not isinstance(schema, dict):
            raise NoInstance(f"{at.path}: no value fits the schema {schema!r}")
        if isinstance(reference := schema.get("$ref"), str):
            inner = self._open(at, reference)
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            target = self._look_up(schema, at)
            return self.make(
                _merged_at(at, [target, rest]) if rest and isinstance(target, dict) else target, inner
            )
        if schema.get("allOf"):
            named = [part for part in schema["allOf"] if isinstance(part, dict) and "$ref" in part]
            parts = [self._look_up(part, at) for part in schema["allOf"]]
            inner = self._open(at, *(part["$ref"] for part in named))
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.make(_merged_at(at, [rest, *parts]), inner)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):  # use the first branch for which a value is found
                rest = {other: value for other, value in schema.items() if other != key}
                failures = []
                for number, branch in enumerate(schema[key]):
                    try:
                        return self.make({**rest, "allOf": [branch]}, at)
                    except NoInstance as exc:
                        failures.append(f"{key}[{number}]: {exc}")
                raise NoInstance(f"{at.path}: no branch of {key} gives a value ({'; '.join(failures)})")
        return self._plain(schema, at)

    def _open(self, at: _Place, *references: str) -> _Place:
        """Return the place `at` with `references` added to `within`, the references that contain this place.

        Raise NoInstance if `within` already contains one of `references`.
        """
        if again := [reference for reference in references if reference in at.within]:
            raise NoInstance(f"{at.path}: a value of {again[0]} would contain itself without end")
        return at._replace(within=(*at.within, *references))

    def _look_up(self, schema: Json, at: _Place) -> Json:
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        try:
            return _resolved(self._root, schema["$ref"])
        except LookupError as exc:
            raise NoInstance(f"{at.path}: {exc.args[0]}") from None

    def _plain(self, schema: Json, at: _Place) -> Json:
        """Return a value for a schema without references and without branches (`anyOf`, …)."""
        if unknown := [key for key in _NOT_UNDERSTOOD if key in schema]:
            raise _unsupported(at, unknown[0])
        kinds = _kinds(schema)
        if "const" in schema or "enum" in schema:
            named = [schema["const"]] if "const" in schema else schema["enum"]
            named = [value for value in named if "enum" not in schema or value in schema["enum"]]
            typed = [value for value in named if any(_TYPES[kind](value) for kind in kinds if kind in _TYPES)]
            if not (fitting := [value for value in typed if admits(schema, value)]):
                raise NoInstance(f"{at.path}: no entry of the enum {named!r} fits the rest of the schema")
            return fitting[min(at.variant, len(fitting) - 1)]
        match kind := kinds[0]:
            case "object":
                return self._object(schema, at)
            case "array":
                return self._array(schema, at)
            case "null":
                return None
            case "boolean":
                return at.variant % 2 == 1
            case "integer" | "number" | "string":
                try:
                    if kind == "string":
                        return text_for(schema, at.name, at.variant)
                    return number_for(schema, at.variant, whole=kind == "integer")
                except ValueError as exc:
                    raise NoInstance(f"{at.path}: {exc}") from None
        raise NoInstance(f"{at.path}: the type {kind!r} is unknown")

    def _object(self, schema: Json, at: _Place) -> Json:
        known, required = schema.get("properties") or {}, schema.get("required") or ()
        names = [name for name in known if name in required]
        names += dict.fromkeys(name for name in required if name not in known)
        if names and "propertyNames" in schema:
            raise _unsupported(at, "propertyNames")
        others = [name for name in known if name not in names]
        least = max(schema.get("minProperties") or 0, len(names))
        made: dict[str, Json] = {}
        for name in [*names, *others, *(f"key{number}" for number in range(1, _MOST_TRIES))]:
            if len(made) >= least:
                return made
            if schema.get("patternProperties"):
                raise _unsupported(at, "patternProperties")
            inner = known[name] if name in known else schema.get("additionalProperties", True)
            made[name] = self.make(inner, at._replace(path=f"{at.path}.{name}", name=name))
        raise NoInstance(f"{at.path}: more properties are required than triocept generates")

    def _array(self, schema: Json, at: _Place) -> Json:
        first = schema.get("prefixItems") or []
        least, most = schema.get("minItems") or 0, schema.get("maxItems")
        wanted = max(least, len(first) or 1)
        wanted = wanted if most is None else min(wanted, most)
        made: list[Json] = []
        for number in range(wanted + _MOST_TRIES + 1):
            if len(made) >= wanted:
                break
            inner = first[len(made)] if len(made) < len(first) else schema.get("items", True)
            try:
                item = self.make(inner, at._replace(path=f"{at.path}[{len(made)}]", variant=number))
            except NoInstance:
                if len(made) >= least:
                    return made
                raise
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        if len(made) < least:
            raise NoInstance(f"{at.path}: cannot generate {least} different items")
        return made


def _kinds(schema: Json) -> list[str]:
    """Return the names of the types that a schema allows; `null` is the last."""
    said = schema.get("type")
    kinds = [kind.lower() for kind in ([said] if isinstance(said, str) else said or ())]
    if not kinds and ("enum" in schema or "const" in schema):
        return list(_TYPES)
    if not kinds:
        kinds = [kind for kind, keys in _SIGNS.items() if any(key in schema for key in keys)]
    return sorted(kinds or ["string"], key=lambda kind: kind == "null")


_SIGNS = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""Keywords of schemas, by the type to which they apply. If a schema has no `type` but one of these keywords, the type
of the keyword is the type of the schema.
"""
_TYPES: dict[str, Callable[[Json], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _merged_at(at: _Place, schemas: list[Json]) -> Json:
    try:
        return _merged(schemas)
    except ValueError as exc:
        raise NoInstance(f"{at.path}: {exc}") from None


_BESIDE = frozenset(
    {
        *("title", "description", "default", "examples", "example", "$comment"),
        *("$defs", "definitions", "$schema", "$id"),
        *("deprecated", "readOnly", "writeOnly", "discriminator", "nullable"),
    }
)
"""Keywords that do not restrict the value. When schemas are merged, the first schema's value of such a keyword is kept.
"""


def _resolved(root: Json, reference: str) -> Json:
    """Return the schema to which a reference points, within the document `root`: `#/$defs/City`, for example.

    Raises:
        LookupError: the target does not exist.
    """
    if not reference.startswith("#"):
        raise LookupError(f"the reference {reference} points to another document")
    found = root
    for step in reference.lstrip("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise LookupError(f"the schema does not contain {reference}")
    return found


def _merged(schemas: Sequence[Json]) -> Json:
    """Return one schema, which allows only values that each of the `schemas` allows.

    Raises:
        ValueError: triocept cannot combine these schemas.
    """
    if any(schema is False for schema in schemas):
        raise ValueError("no value fits the schema false")
    whole: Json = {}
    for schema in schemas:
        if not isinstance(schema, dict):
            continue
        one, other = _held(whole, schema), _held(schema, whole)
        whole = {**one, **other}
        for name in [name for name in one if name in other]:
            if one[name] == other[name] or name in _BESIDE:
                whole[name] = one[name]
            elif name in ("anyOf", "oneOf", "$ref"):
                raise ValueError(
                    f"two {name!r} for one value are not supported: set the field, as in AskedJSON(name=value)"
                )
            elif (join := _JOINS.get(name)) is None:
                raise ValueError(f"{name!r} cannot be both {one[name]!r} and {other[name]!r}")
            else:
                whole[name] = join(one[name], other[name])
    return whole


def _held(schema: Json, other: Json) -> Json:
    """Return `schema`, in which the properties that `other` does not list also match `other.additionalProperties`."""
    allowed, known = other.get("additionalProperties", True), other.get("properties", {})
    if allowed is True or "properties" not in schema:
        return schema
    held = {
        name: inner if name in known else {"allOf": [allowed, inner]}
        for name, inner in schema["properties"].items()
    }
    return {**schema, "properties": held}


def _types(one: Json, other: Json) -> Json:
    these, those = ([kinds] if isinstance(kinds, str) else list(kinds) for kinds in (one, other))
    if {"integer", "number"} <= {*these, *those}:
        these, those = ([kind.replace("number", "integer") for kind in kinds] for kinds in (these, those))
    found = [kind for kind in these if kind in those]
    if not found:
        raise ValueError(f"no value is both {one!r} and {other!r}")
    return found


def _both(one: Json, other: Json) -> Json:
    return {"allOf": [one, other]}


_JOINS: dict[str, Callable[[Json, Json], Json]] = {
    "type": _types,
    "enum": lambda one, other: [value for value in one if value in other],
    "properties": lambda one, other: {
        **one,
        **other,
        **{name: _both(one[name], other[name]) for name in one if name in other},
    },
    "required": lambda one, other: [*one, *(name for name in other if name not in one)],
    "items": _both,
    "additionalProperties": _both,
    "allOf": lambda one, other: [*one, *other],
    "uniqueItems": lambda one, other: bool(one or other),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
