"""What a kind of inputs is."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

Input: TypeAlias = Any
"""A JSON value. Bytes are text of latin-1 in it."""
Check: TypeAlias = Callable[[Input], Awaitable[None]]
"""Tries one input; raises `Violation`, or `Unfit`."""


_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(10), *range(11, 32), *range(127, 160))}


class Violation(Exception):
    """An input has broken a rule."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Unfit(Exception):
    """This is no input of its kind: a shrinker has cut too much away."""


@dataclass(frozen=True)
class Kind:
    """One part of the wire, and how it is tried."""

    name: str
    generate: Callable[[Random], Input]
    """The input that this source of chance gives."""
    open_check: Callable[[], AbstractAsyncContextManager[Check]]
    """What tries inputs, one after the other. Its end looks at what all of them have left; it, too, may raise."""
    batch: int
    """How many inputs are tried between two such looks."""


def expect(holds: object, rule: str, what: object = "") -> None:
    """A violation of this rule, unless it holds."""
    if not holds:
        raise Violation(rule, str(what)[:2000].translate(_UNPRINTABLE))


def as_bytes(text: str) -> bytes:
    return text.encode("latin-1")


def as_text(data: bytes) -> str:
    return data.decode("latin-1")
