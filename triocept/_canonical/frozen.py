"""Make read-only copies of the JSON values in a request.

A message that an agent sends again is parsed once, so the requests of several calls contain the same objects. The
structs in a request cannot be changed, but plain dicts and lists in these structs (`extra`, `parameters`, `raw`, …)
could be. Therefore they are replaced by a `FrozenDict` and a `FrozenList`. Apart from changes, both behave like a dict
and a list. Copies of such objects (`{**extra}`, `copy.deepcopy(request)`) are plain dicts and lists. `json` and PyYAML
write such objects as plain dicts and lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from operator import is_
from sys import modules
from typing import Any, NoReturn, TypeVar, final

import msgspec

from .content import Json, Media, Message, Opaque, Reasoning, RefusalText, Text, ToolCall, ToolResult
from .request import OutputFormat, Request, Tool, ToolChoice

S = TypeVar("S", bound=msgspec.Struct)


@final
class FrozenDict(dict[str, Json]):
    """A read-only dict: each method that would change the dict raises a TypeError."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[dict[str, Json]]]:
        return dict, ({**self},)


@final
class FrozenList(list[Json]):
    """A read-only list: each method that would change the list raises a TypeError."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[list[Json]]]:
        return list, ([*self],)


def _refuse(self: object, *args: object, **fields: object) -> NoReturn:
    raise TypeError(
        "this part of an agent's request is read-only, because other calls share it: change a copy (copy.deepcopy)"
    )


_CHANGES = ("__setitem__", "__delitem__", "clear", "pop")
for _kind, _changes in (
    (FrozenDict, ("__ior__", "popitem", "setdefault", "update")),
    (FrozenList, ("__iadd__", "__imul__", "append", "extend", "insert", "remove", "reverse", "sort")),
):
    for _change in (*_CHANGES, *_changes):
        setattr(_kind, _change, _refuse)

_known_to_yaml = False
"""True after the read-only classes were registered with PyYAML's dumpers, which write only registered subclasses of
dict."""


def _tell_yaml() -> None:
    """Register the read-only classes with all of PyYAML's dumpers.

    Do nothing if the program has not imported PyYAML.
    """
    global _known_to_yaml
    dumpers = [*filter(None, [getattr(modules.get("yaml.representer"), "SafeRepresenter", None)])]
    for dumper in dumpers:
        dumpers += dumper.__subclasses__()
        if "yaml_representers" in vars(dumper):  # otherwise it has those of its base
            dumper.add_representer(FrozenDict, dumper.represent_dict)
            dumper.add_representer(FrozenList, dumper.represent_list)
    _known_to_yaml = bool(dumpers)


_FIELDS: dict[type, tuple[str, ...]] = {
    **dict.fromkeys((Text, Reasoning, Media, ToolCall, RefusalText, ToolChoice), ("extra",)),
    **dict.fromkeys((Message, ToolResult), ("content", "extra")),
    Opaque: ("raw",),
    Tool: ("parameters", "extra"),
    OutputFormat: ("schema", "extra"),
    Request: ("messages", "tools", "tool_choice", "output_format", "extra"),
}
"""For each type that occurs in a request: the names of its fields that can contain JSON, at any level."""
_FROZEN: dict[type, type] = {dict: FrozenDict, list: FrozenList}
_CONTAINERS = frozenset((dict, list, FrozenDict, FrozenList))
_CONSTANT = frozenset((str, type(None), bool, int, float, FrozenDict, FrozenList))
_set_field: Any = dict.__setitem__
_set_item: Any = list.__setitem__


def is_constant(values: Iterable[Json]) -> bool:
    return _CONSTANT.issuperset(map(type, values))


def frozen(value: Any) -> Any:
    """Return a copy of a parsed value, in which each dict and each list is read-only.

    If the value contains no dict and no list, return the same object.
    """
    kind = type(value)
    if kind is Message and not _has_json(value):
        return value
    if kind is tuple:
        parts = tuple([frozen(each) for each in value])
        return value if all(map(is_, parts, value)) else parts
    if (names := _FIELDS.get(kind)) is not None:
        return _with_frozen(value, names)
    if kind is list and any(isinstance(each, msgspec.Struct) for each in value):
        return FrozenList(map(frozen, value))
    if kind in _FROZEN:
        return frozen_json(value)
    return _with_frozen(value, value.__struct_fields__) if isinstance(value, msgspec.Struct) else value


def _has_json(value: Message | ToolResult) -> bool:
    if value.extra is not None:
        return True
    content: tuple[Any, ...] = value.content
    for part in content:
        kind = type(part)
        if kind is Opaque or part.extra is not None or (kind is ToolResult and _has_json(part)):
            return True
    return False


def _with_frozen(value: S, names: Iterable[str]) -> S:
    """Return `value` with read-only copies of the dicts and lists in its fields `names`."""
    changed: dict[str, object] = {}
    for name in names:
        old = getattr(value, name)
        if type(old) not in _CONSTANT and (new := frozen(old)) is not old:
            changed[name] = new
    return msgspec.structs.replace(value, **changed) if changed else value


def frozen_request(request: Request, before: int) -> Request:
    """Return a request whose JSON is read-only.

    Only the first `before` messages are converted. The JSON in later messages must already be read-only.
    """
    known = request.messages[:before]
    if (head := frozen(known)) is not known:
        request = msgspec.structs.replace(request, messages=(*head, *request.messages[before:]))
    return _with_frozen(request, [name for name in _FIELDS[Request] if name != "messages"])


def frozen_json(value: Json) -> Json:
    """Return a read-only copy of a JSON value. The value may be nested thousands of levels deep."""
    if type(value) not in _FROZEN:
        return value
    if not _known_to_yaml and "yaml.representer" in modules:
        _tell_yaml()
    whole = _FROZEN[type(value)](value)
    left = [whole]
    for node in left:
        put = _set_field if type(node) is FrozenDict else _set_item
        for place, old in node.items() if type(node) is FrozenDict else enumerate(node):
            if type(old) in _FROZEN:
                new = _FROZEN[type(old)](old)
                put(node, place, new)
                left.append(new)
    return whole


def count_members(value: Json, most: int) -> int | None:
    """Return the number of members of `value` at all levels.

    Return None if `value` contains more than `most` dicts and lists.
    """
    left = [value]
    push = left.append
    for node in islice(left, most):
        for each in node.values() if isinstance(node, dict) else node:
            if type(each) is not str and type(each) in _CONTAINERS:
                push(each)
    return sum(map(len, left)) if len(left) <= most else None
