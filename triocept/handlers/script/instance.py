"""A small value that fits a JSON Schema, always equal for an equal schema.

Rules:

1. An object has its required properties, an array one item where allowed; a text is the name of its property.
2. Nothing contains itself: where a schema refers to itself, another branch is taken, or a list is empty.
3. An unsupported schema (a pattern that cannot be guessed, an unknown condition) raises an error that names its place.

It supports the parts of Draft 2020-12 that are common in requests: types, enums, references, `anyOf`, `oneOf`, `allOf`,
bounds, formats; and Google's own notation of types.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from ..._canonical.content import Json
from .merging import merged, resolved
from .scalars import admits, number_for, text_for

_NOT_UNDERSTOOD = ("not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies")
"""Keywords that may forbid a value which was made without them."""
_MOST_TRIES = 64
"""Maximum values to try for a value unequal to the others."""


class NoInstance(ValueError):
    """No fitting value was found."""


def instance_of(schema: Json) -> Json:
    """Return a value that fits the schema.

    Raises:
        NoInstance: no value was found; the text names the place and the reason.
    """
    return _Maker(schema).make(schema, "$", "text", 0, ())


class _Maker:
    """Values for one document; `variant` numbers the values for one place, `within` holds the open references."""

    def __init__(self, root: Json) -> None:
        self._root = root

    def make(self, schema: Json, path: str, name: str, variant: int, within: tuple[str, ...]) -> Json:
        if schema is True:
            return name
        if not isinstance(schema, dict):
            raise NoInstance(f"{path}: nothing fits {schema!r}")
        if isinstance(reference := schema.get("$ref"), str):
            return self._refer(schema, reference, path, name, variant, within)
        if schema.get("allOf"):
            parts = [self._look_up(part, path) for part in schema["allOf"]]
            named = [part for part in schema["allOf"] if isinstance(part, dict) and "$ref" in part]
            opened = tuple([part["$ref"] for part in named])
            self._check_open(opened, within, path)
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.make(_put_together([rest, *parts], path), path, name, variant, (*within, *opened))
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._choose(schema, key, path, name, variant, within)
        return self._plain(schema, path, name, variant, within)

    def _refer(
        self, schema: Json, reference: str, path: str, name: str, variant: int, within: tuple[str, ...]
    ) -> Json:
        self._check_open((reference,), within, path)
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        target = self._look_up(schema, path)
        whole = _put_together([target, rest], path) if rest and isinstance(target, dict) else target
        return self.make(whole, path, name, variant, (*within, reference))

    def _check_open(self, references: tuple[str, ...], within: tuple[str, ...], path: str) -> None:
        if again := [reference for reference in references if reference in within]:
            raise NoInstance(f"{path}: {again[0]} would be in itself, without an end")

    def _look_up(self, schema: Json, path: str) -> Json:
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        try:
            return resolved(self._root, schema["$ref"])
        except LookupError as exc:
            raise NoInstance(f"{path}: {exc.args[0]}") from None

    def _choose(
        self, schema: Json, key: str, path: str, name: str, variant: int, within: tuple[str, ...]
    ) -> Json:
        """Return a value of the first branch that has one."""
        rest = {other: value for other, value in schema.items() if other != key}
        failures = []
        for number, branch in enumerate(schema[key]):
            try:
                return self.make({**rest, "allOf": [branch]}, path, name, variant, within)
            except NoInstance as exc:
                failures.append(f"{key}[{number}]: {exc}")
        raise NoInstance(f"{path}: no branch can be made ({'; '.join(failures)})")

    def _plain(self, schema: Json, path: str, name: str, variant: int, within: tuple[str, ...]) -> Json:
        if unknown := [key for key in _NOT_UNDERSTOOD if key in schema]:
            raise NoInstance(f"{path}: {unknown[0]!r} is not understood here: give the value")
        kinds = _kinds(schema)
        if "const" in schema or "enum" in schema:
            return _given(schema, kinds, path, variant)
        return self._of_kind(kinds[0], schema, path, name, variant, within)

    def _of_kind(
        self, kind: str, schema: Json, path: str, name: str, variant: int, within: tuple[str, ...]
    ) -> Json:
        match kind:
            case "object":
                return self._object(schema, path, variant, within)
            case "array":
                return self._array(schema, path, name, within)
            case "null":
                return None
            case "boolean":
                return variant % 2 == 1
            case "integer" | "number":
                return _checked(path, lambda: number_for(schema, variant, whole=kind == "integer"))
            case "string":
                return _checked(path, lambda: text_for(schema, name, variant))
        raise NoInstance(f"{path}: there is no type {kind!r}")

    def _object(self, schema: Json, path: str, variant: int, within: tuple[str, ...]) -> Json:
        known, required = schema.get("properties") or {}, schema.get("required") or ()
        names = [name for name in known if name in required]
        names += [name for name in required if name not in known]
        if names and "propertyNames" in schema:
            raise NoInstance(f"{path}: 'propertyNames' is not understood here: give the value")
        made = {name: self._property(schema, name, path, variant, within) for name in names}
        others = [name for name in known if name not in made]
        for name in [*others, *(f"key{number}" for number in range(1, _MOST_TRIES))]:
            if len(made) >= (schema.get("minProperties") or 0):
                return made
            made[name] = self._property(schema, name, path, variant, within)
        raise NoInstance(f"{path}: more properties are asked for than are made here")

    def _property(self, schema: Json, name: str, path: str, variant: int, within: tuple[str, ...]) -> Json:
        known = schema.get("properties") or {}
        inner = known[name] if name in known else schema.get("additionalProperties", True)
        if schema.get("patternProperties"):
            raise NoInstance(f"{path}: 'patternProperties' is not understood here: give the value")
        return self.make(inner, f"{path}.{name}", name, variant, within)

    def _array(self, schema: Json, path: str, name: str, within: tuple[str, ...]) -> Json:
        first = schema.get("prefixItems") or []
        least, most = schema.get("minItems") or 0, schema.get("maxItems")
        wanted = max(least, len(first) or 1)
        wanted = wanted if most is None else min(wanted, most)
        made: list[Json] = []
        for number in count():
            if len(made) >= wanted or number > wanted + _MOST_TRIES:
                break
            inner = first[len(made)] if len(made) < len(first) else schema.get("items", True)
            try:
                item = self.make(inner, f"{path}[{len(made)}]", name, number, within)
            except NoInstance:
                if len(made) >= least:
                    return made
                raise
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        if len(made) < least:
            raise NoInstance(f"{path}: no {least} items that are unlike each other are known")
        return made


def _given(schema: Json, kinds: list[str], path: str, variant: int) -> Json:
    """Return one of the values that the schema itself lists."""
    named = [schema["const"]] if "const" in schema else schema["enum"]
    named = [value for value in named if "enum" not in schema or value in schema["enum"]]
    typed = [value for value in named if any(_TYPES[kind](value) for kind in kinds if kind in _TYPES)]
    fitting = [value for value in typed if admits(schema, value)]
    if not fitting:
        raise NoInstance(f"{path}: none of {named!r} fits: nothing is in the enum that does")
    return fitting[min(variant, len(fitting) - 1)]


def _kinds(schema: Json) -> list[str]:
    """Return the allowed types, the likeliest first."""
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
"""Keywords, with the type that a schema without a type then has."""
_TYPES: dict[str, Callable[[Json], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _put_together(schemas: list[Json], path: str) -> Json:
    return _checked(path, lambda: merged(schemas))


def _checked(path: str, make: Callable[[], Json]) -> Json:
    try:
        return make()
    except ValueError as exc:
        raise NoInstance(f"{path}: {exc}") from None
