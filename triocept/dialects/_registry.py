"""The dialects by name: those of the package, those that are installed beside it, those that a program gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from .anthropic_messages import ANTHROPIC_MESSAGES
from .base import Dialect
from .gemini import GEMINI
from .ollama import OLLAMA
from .openai_chat import OPENAI_CHAT
from .openai_completions import OPENAI_COMPLETIONS
from .openai_responses import OPENAI_RESPONSES

__all__ = ["DIALECTS", "GROUP", "dialect", "known_dialects"]

GROUP = "triocept.dialects"
"""The entry points of packages that bring a dialect: each names a `Dialect`."""

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        each.name: each
        for each in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES, GEMINI, OPENAI_COMPLETIONS, OLLAMA)
    }
)
"""The dialects of the package, by name."""


def dialect(name: str) -> Dialect:
    """The dialect of this name, of the package or of an installed one.

    Raises:
        ValueError: there is none.
    """
    known = DIALECTS if name in DIALECTS else known_dialects()
    if name not in known:
        raise ValueError(f"there is no dialect {name!r}; there are {', '.join(sorted(known))}")
    return known[name]


def known_dialects(more: Iterable[Dialect] = ()) -> Mapping[str, Dialect]:
    """The dialects of the package, those of installed ones, and `more`, by name.

    Raises:
        TypeError: one is no `Dialect`.
        ValueError: two have one name.
        Exception: what an entry point raised.
    """
    found = dict(DIALECTS)
    for each in (*_installed(), *more):
        if not isinstance(each, Dialect):
            raise TypeError(f"a dialect is a triocept.dialects.Dialect, not {type(each).__name__}")
        if each.name in found and found[each.name] is not each:
            raise ValueError(f"there are two dialects {each.name!r}")
        found[each.name] = each
    return MappingProxyType(found)


@cache
def _installed() -> tuple[Dialect, ...]:
    return tuple(point.load() for point in entry_points(group=GROUP))
