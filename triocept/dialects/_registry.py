"""The dialects by name: those of the package, of installed packages, and of the program."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import NamedTuple

from .._util.checks import described
from .base import Dialect

log = logging.getLogger("triocept.dialects")

GROUP = "triocept.dialects"
"""The entry point group of packages with a dialect: each entry point names a `Dialect`."""


@cache
def own_dialects() -> Mapping[str, Dialect]:
    """Load the dialects of the package on first use (a hundred modules); return them by name."""
    from .anthropic_messages import ANTHROPIC_MESSAGES
    from .gemini import GEMINI
    from .ollama import OLLAMA
    from .openai_chat import OPENAI_CHAT
    from .openai_completions import OPENAI_COMPLETIONS
    from .openai_responses import OPENAI_RESPONSES

    own = (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES, GEMINI, OPENAI_COMPLETIONS, OLLAMA)
    return MappingProxyType({each.name: each for each in own})


def dialect(name: str) -> Dialect:
    """Return the dialect of this name, from the package or an installed one.

    Raises:
        ValueError: no dialect has this name, or the installed package that should provide it failed; the text has the
            reason.
    """
    own = own_dialects()
    known = own if name in own else known_dialects()
    if name not in known:
        broken = _installed().broken.get(name)
        why = f": {broken}" if broken is not None else f"; there are {', '.join(sorted(known))}"
        raise ValueError(f"there is no dialect {name!r}{why}")
    return known[name]


def known_dialects(more: Iterable[Dialect] = ()) -> Mapping[str, Dialect]:
    """Return the dialects of the package, of installed packages, and `more`, by name.

    An entry point that cannot be loaded, or that has the name or the route of another dialect, is left out. A warning
    in the log names its package, once.

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
    """The dialects of the package, and of installed packages."""
    broken: Mapping[str, str]
    """The error of each entry point that provides no dialect."""


@cache
def _installed() -> _Installed:
    found, broken = dict(own_dialects()), dict[str, str]()
    for point in entry_points(group=GROUP):
        try:
            _add(found, point.load())
        except Exception as exc:  # one broken package must not block all others
            package = point.dist.name if point.dist is not None else "an installed package"
            broken[point.name] = (
                f"the entry point `{point.name} = {point.value}` of {package}, of the group {GROUP}, "
                f"brings none: {type(exc).__name__}: {exc}"
            )
            log.warning("a dialect is omitted: %s", broken[point.name])
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
                f"the dialect {each.name!r} cannot have {path}: the dialect {owner.name!r} has that path"
            )
    found[each.name] = each
