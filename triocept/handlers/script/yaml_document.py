"""A YAML document with its lines. PyYAML composes it; what a scalar is is said here, by YAML 1.2's core schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import yaml

from ...errors import DialectError
from .document import DEEPEST, Node, NodeValue

__all__ = ["read_yaml"]

_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[str, str, Callable[[str], NodeValue]]] = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+", "-+0123456789", int),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789", float),
}
"""How each looks, how it begins, and what it is."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
    """PyYAML's own resolvers are YAML 1.1's: `no` is false there, `12:30` a number, and 1e3 a text."""

    yaml_implicit_resolvers: ClassVar[Any] = {}


for _name, (_pattern, _first, _) in _SCALARS.items():
    _begin = [*_first, ""] if _name == "null" else list(_first)
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _begin)


def read_yaml(text: str, file: str) -> Node:
    """The one document of a YAML text.

    Raises:
        DialectError: it is none, or has something that a script has no use for.
    """
    try:
        composed: Any = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        mark: Any = exc.problem_mark or exc.context_mark
        where = file if mark is None else f"{file}:{mark.line + 1}"
        problem = ", ".join(filter(None, [exc.context, exc.problem]))
        raise DialectError(f"not valid YAML: {problem}", path=where) from None
    except yaml.YAMLError as exc:
        raise DialectError(f"not valid YAML: {exc}", path=file) from None
    if composed is None:
        return Node(value=None, file=file, line=1, path="")
    return _read(composed, file, "", None, 0)


def _read(composed: Any, file: str, path: str, key_line: int | None, depth: int) -> Node:
    line = composed.start_mark.line + 1
    empty = Node(value=None, file=file, line=line, path=path, key_line=key_line)
    if depth > DEEPEST:
        raise empty.error(f"more than {DEEPEST} levels deep")
    value: NodeValue
    if isinstance(composed, yaml.MappingNode):
        value = dict(_members(composed, empty, depth))
    elif isinstance(composed, yaml.SequenceNode):
        value = [
            _read(item, file, f"{path}[{number}]", None, depth + 1)
            for number, item in enumerate(composed.value)
        ]
    else:
        value = _scalar(composed, empty)
    return Node(value=value, file=file, line=line, path=path, key_line=key_line)


def _members(composed: Any, around: Node, depth: int) -> Iterator[tuple[str, Node]]:
    lines: dict[str, int] = {}
    for key, item in composed.value:
        line = key.start_mark.line + 1
        here = Node(value=None, file=around.file, line=line, path=around.path)
        name = _scalar(key, here) if isinstance(key, yaml.ScalarNode) else None
        if not isinstance(name, str):
            raise here.error(f"a key is a text: in quotes, {str(getattr(key, 'value', ''))!r} would be one")
        if name in lines:
            raise here.error(f"{name!r} stands here twice, in line {lines[name]}, too")
        lines[name] = line
        path = f"{around.path}.{name}" if around.path else name
        yield name, _read(item, around.file, path, line, depth + 1)


def _scalar(composed: Any, here: Node) -> NodeValue:
    kind = cast(str, composed.tag).removeprefix(_TAG)
    text: str = composed.value
    if kind == "str":
        return text
    if kind not in _SCALARS:
        raise here.error(f"there are no tags in a script: {composed.tag}")
    try:
        return _SCALARS[kind][2](text)
    except ValueError:
        raise here.error(f"{text!r} is no {kind}") from None
