"""Read the mappings in a script file.

The texts of its errors name the file and the line, and describe the correction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from ..._util.checks import meant
from ..._util.documents import Node
from .forms import Form

F = TypeVar("F", bound=Form)
T = TypeVar("T")


def head_of(form: type[Form]) -> str:
    """Return the name of the first field of `form`. A mapping with this name as a key is converted to this form."""
    return form.__struct_encode_fields__[0]


def form_of(node: Node, among: tuple[type[Form], ...]) -> type[Form] | None:
    if not isinstance(node.value, dict):
        return None
    return next((form for form in among if head_of(form) in node.value), None)


def read_form(node: Node, form: type[F], nested: Mapping[str, type[Form]] | None = None) -> F:
    """Return the mapping in `node`, converted to the type `form`. Fields of type Any keep their plain values.

    Args:
        node: the mapping.
        form: the type of the mapping.
        nested: types of the mappings inside this mapping, by the key whose value they are.

    Raises:
        DialectError: the mapping does not fit the type.
    """
    if not isinstance(node.value, dict):
        raise node.error(f"a mapping is expected here, not {short(node.json)}")
    check_keys(node, form)
    try:
        return msgspec.convert(node.json, form)
    except msgspec.ValidationError as exc:
        problem, _, path = str(exc).partition(" - at ")
        inner = node.find(path.strip("`"))
        known = (nested or {}).get(inner.path.rpartition(".")[2].partition("[")[0])
        if "unknown field" in problem and known is not None:
            check_keys(inner, known)
        value = inner.value
        kinds = get_args(get_type_hints(form).get(path.strip("`").removeprefix("$.")))
        words = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
        text = f"{problem[:1].lower()}{problem[1:]}"
        if "enum" in problem and words:
            text = f"there is no value {value!r}{meant(value, words)}"
        elif not isinstance(value, dict | list):
            text += f": {value!r}"
            if "Expected `str" in problem and not isinstance(value, str):
                text += "; put it in quotes to make it a text"
            elif "Expected `bool" in problem and isinstance(value, str):
                text += "; write true or false"
        raise inner.error(text) from None


def check_keys(node: Node, form: type[Form]) -> None:
    """Check that each key of the mapping in `node` is a field of `form`.

    Raises:
        DialectError: the mapping has an unknown key. The error's text names this key and suggests the right one.
    """
    known = form.__struct_encode_fields__
    for name, inner in node.value.items():
        if name not in known:
            raise inner.error(f"there is no key {name!r} here{meant(name, known)}")


def made(node: Node, make: Callable[[], T]) -> T:
    """Return `make()`.

    If `make` raises TypeError or ValueError, raise a DialectError that names the file and the place of `node`.
    """
    try:
        return make()
    except (TypeError, ValueError) as exc:
        raise node.error(str(exc)) from None
