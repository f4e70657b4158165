"""What a feature is: something that a request or an answer says, and how to see whether it still says it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from triocept._canonical.request import Request
from triocept._canonical.response import Response
from triocept.dialects import Failure

Look: TypeAlias = Callable[[Any], object]
"""What a request or a response says of the feature; None: nothing."""
Word: TypeAlias = Callable[[Any], str]
"""What has become of the feature, in a word, given what is seen now."""


def changed_to(seen: object) -> str:
    """The usual word: what it is now."""
    return f"{seen}"


@dataclass(frozen=True)
class Feature:
    """One row of the table."""

    group: str
    name: str
    look: Look
    word: Word = changed_to
    note: str = ""
    """Why it is so, for the page; empty: it needs no reason."""

    def verdict(self, before: object, now: object) -> str:
        """What has become of it."""
        if now == before:
            return "kept"
        return "lost" if now is None else self.word(now)


@dataclass(frozen=True)
class Ask(Feature):
    """Something that an agent may say in its request."""

    make: Callable[[str], Request | None] = lambda _: None
    """A request of this dialect that says it; None: the dialect cannot have it."""


@dataclass(frozen=True)
class Answer(Feature):
    """Something that a provider may say in its answer."""

    make: Callable[[str], Response | None] = lambda _: None
    """An answer of this dialect that says it; None: the dialect cannot have it."""
    fields: tuple[tuple[str, Any], ...] = ()
    """What the agent's request has beside."""
    replayed: bool = False
    """Whether it is looked for in the history that the agent sends back to the same provider."""


@dataclass(frozen=True)
class Fault(Feature):
    """Something that a provider's error may say."""

    make: Callable[[str], Failure | None] = lambda _: None
    """An error that says it."""
