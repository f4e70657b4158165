"""Find a dialect by its name.

The dialect can be built in, come from an installed package, or be passed by the program.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import NamedTuple

from .._util.checks import described, meant
from .base import Dialect

log = logging.getLogger("triocept.dialects")

GROUP = "triocept.dialects"
"""The entry point group in which packages declare dialects; each entry point names a `Dialect`."""


@cache
def own_dialects() -> Mapping[str, Dialect]:
    """Return the built-in dialects by name. The first call imports about a hundred modules."""
    from .anthropic_messages import ANTHROPIC_MESSAGES
    from .gemini import GEMINI
    from .ollama import OLLAMA
    from .openai_chat import OPENAI_CHAT
    from .openai_completions import OPENAI_COMPLETIONS
    from .openai_responses import OPENAI_RESPONSES

    own = (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES, GEMINI, OPENAI_COMPLETIONS, OLLAMA)
    return MappingProxyType({each.name: each for each in own})


def dialect(name: str) -> Dialect:
    """Return the dialect with this name, which is built in or comes from an installed package.

    Raises:
        ValueError: no dialect has this name, or the installed package that declares the dialect could not be loaded.
            The message contains the reason.
    """
    own = own_dialects()
    known = own if name in own else known_dialects()
    if name not in known:
        broken = _installed().broken.get(name)
        why = f": {broken}" if broken is not None else similar_dialect(name, sorted(known))
        raise ValueError(f"there is no dialect {name!r}{why}")
    return known[name]


def similar_dialect(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown dialect: the most similar name, or a list of all names."""
    others = {"claude": "anthropic_messages", "google": "gemini", "vllm": "openai_chat"}
    return meant(others.get(name.lower(), name), [*known], "the dialects are")


def known_dialects(more: Iterable[Dialect] = ()) -> Mapping[str, Dialect]:
    """Return all dialects by name: built-in dialects, dialects of installed packages, and the dialects in `more`.

    An entry point that cannot be loaded is left out, and so is a dialect with the name or route of another dialect. A
    warning that names the entry point's package is logged once.

    Raises:
        TypeError: an item of `more` is not a `Dialect`.
        ValueError: an item of `more` has the name or the route of another dialect.
    """
    found = dict(_installed().dialects)
    for each in more:
        _add(found, each)
    return MappingProxyType(found)


class _Installed(NamedTuple):
    dialects: Mapping[str, Dialect]
    """The built-in dialects and the dialects of installed packages, by name."""
    broken: Mapping[str, str]
    """The error of each entry point whose dialect could not be loaded, by the entry point's name."""


@cache
def _installed() -> _Installed:
    found, broken = dict(own_dialects()), dict[str, str]()
    for point in entry_points(group=GROUP):
        try:
            _add(found, point.load())
        except Exception as exc:  # one broken package must not block all others
            package = point.dist.name if point.dist is not None else "an installed package"
            broken[point.name] = (
                f"the entry point `{point.name} = {point.value}` of {package}, in the group {GROUP}, "
                f"could not be loaded: {type(exc).__name__}: {exc}"
            )
            log.warning("a dialect of an installed package was not loaded: %s", broken[point.name])
    return _Installed(found, broken)


def _add(found: dict[str, Dialect], each: Dialect) -> None:
    if not isinstance(each, Dialect):
        raise TypeError(f"a dialect must be a triocept.dialects.Dialect, not {described(each)}")
    same = found.get(each.name)
    if same is each:
        return
    if same is not None:
        raise ValueError(
            f"two dialects have the name {each.name!r}: one with the route {same.route} and one with {each.route}"
        )
    for path in sorted(each.usual_paths):
        owner = next((other for other in found.values() if other.match(path, "") is not None), None)
        if owner is not None and each.match(path, "") is not None:  # the first dialect would get all calls
            raise ValueError(
                f"the dialect {each.name!r} cannot have the path {path}: the dialect {owner.name!r} has that path"
            )
    found[each.name] = each
