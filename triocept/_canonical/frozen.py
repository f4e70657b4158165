"""Read-only copies of the JSON in a request.

A message that an agent sends again is parsed once, so the requests of several calls contain the same objects. The
structs in a request cannot be changed, but the dicts and lists in them could (`extra`, `parameters`, `raw`, …).
Therefore these dicts and lists are `FrozenDict` and `FrozenList`, which are a dict and a list in every other respect.
Their copies (`{**extra}`, `copy.deepcopy(request)`) are plain dicts and lists, and `json` and PyYAML write them as
plain dicts and lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from sys import maxsize, modules
from typing import Any, NoReturn, TypeVar, cast, final

import msgspec

from .content import Json, Message, Opaque, Part, ToolResult
from .request import Request

T = TypeVar("T")


@final
class FrozenDict(dict[str, Json]):
    """A dict whose methods that change it raise a TypeError."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[dict[str, Json]]]:
        return dict, ({**self},)


@final
class FrozenList(list[Json]):
    """A list whose methods that change it raise a TypeError."""

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
"""True after PyYAML's dumpers were extended: they write a subclass of dict only if it is registered."""


def _tell_yaml() -> None:
    """Let all of PyYAML's dumpers write read-only JSON. Do nothing if the program has not imported PyYAML."""
    global _known_to_yaml
    dumpers = [*filter(None, [getattr(modules.get("yaml.representer"), "SafeRepresenter", None)])]
    for dumper in dumpers:
        dumpers += dumper.__subclasses__()
        if "yaml_representers" in vars(dumper):  # otherwise it has those of its base
            dumper.add_representer(FrozenDict, dumper.represent_dict)
            dumper.add_representer(FrozenList, dumper.represent_list)
    _known_to_yaml = bool(dumpers)


_FROZEN: dict[type, type] = {dict: FrozenDict, list: FrozenList}
_CONSTANT = frozenset((str, type(None), bool, int, float, FrozenDict, FrozenList))
_set_field: Any = dict.__setitem__
_set_item: Any = list.__setitem__


def is_constant(values: Iterable[Json]) -> bool:
    """Return True if all of these JSON values are immutable (no dict, no list)."""
    return _CONSTANT.issuperset(map(type, values))


def frozen(value: T) -> T:
    """Return a parsed value with read-only copies of its dicts and lists; the same object if it contains none."""
    kind, found = type(value), cast(Any, value)
    if kind is list and any(isinstance(each, msgspec.Struct) for each in found):
        return cast(T, FrozenList(map(frozen, found)))
    if kind in _FROZEN:
        return cast(T, frozen_json(found))
    if kind is tuple:
        parts = tuple([frozen(each) for each in found])
        return value if all(map(is_, parts, found)) else cast(T, parts)
    if not isinstance(value, msgspec.Struct) or (isinstance(value, Message) and not _has_json(value)):
        return value
    changed: dict[str, object] = {}
    for name, old in zip(value.__struct_fields__, msgspec.structs.astuple(value), strict=True):
        if type(old) not in _CONSTANT and (new := frozen(old)) is not old:
            changed[name] = new
    return msgspec.structs.replace(value, **changed) if changed else value


def frozen_request(request: Request, before: int) -> Request:
    """Return a request whose JSON is read-only. Its messages from index `before` on are not converted."""
    head = frozen(request.messages[:before])
    rest = frozen(msgspec.structs.replace(request, messages=()))
    return msgspec.structs.replace(rest, messages=(*head, *request.messages[before:]))


def frozen_json(value: Json) -> Json:
    """Return a read-only copy of a JSON value."""
    found = frozen_within(value, maxsize)
    assert found is not None
    return found[0]


def frozen_within(value: Json, most: int) -> tuple[Json, int] | None:
    """Return a read-only copy of a JSON value, and the number of its members at all levels.

    Return None if the value has more than `most` dicts and lists. Each takes 0.4 µs. The function does not call itself,
    because an agent's document may be nested thousands of levels deep.
    """
    if type(value) not in _FROZEN:
        return value, 0
    if not _known_to_yaml and "yaml.representer" in modules:
        _tell_yaml()
    whole = _FROZEN[type(value)](value)
    left, size = [whole], 0
    for node in left:
        size += len(node)
        put, members = (
            (_set_field, node.items()) if type(node) is FrozenDict else (_set_item, enumerate(node))
        )
        for place, old in members:
            if type(old) in _FROZEN:
                if len(left) >= most:
                    return None
                new = _FROZEN[type(old)](old)
                put(node, place, new)
                left.append(new)
    return whole, size


def _has_json(value: Message | ToolResult) -> bool:
    """Return True if a message or a result contains JSON. Most messages and results do not."""
    return value.extra is not None or any(map(_has_own_json, value.content))


def _has_own_json(part: Part) -> bool:
    return (
        isinstance(part, Opaque) or part.extra is not None or (type(part) is ToolResult and _has_json(part))
    )
