"""The shortest input that still fails: parts of a JSON value are taken away, as long as the rest does."""

import json
from collections.abc import Awaitable, Callable, Iterator

from .kind import Input


def size(value: Input) -> int:
    return len(json.dumps(value))


async def shrink(value: Input, fails: Callable[[Input], Awaitable[bool]], tries: int) -> Input:
    """The shortest value that was found with so many tries."""
    left, again = tries, True
    while again:
        again = False
        for smaller in _smaller(value):
            if left <= 0:
                return value
            if size(smaller) >= size(value):
                continue
            left -= 1
            if await fails(smaller):
                value, again = smaller, True
                break
    return value


def _smaller(value: Input) -> Iterator[Input]:
    """The value without some of it: large parts first."""
    match value:
        case str():
            yield from _without_parts(value)
        case list():
            yield from _without_parts(value)
            for at, inner in enumerate(value):
                yield from ([*value[:at], less, *value[at + 1 :]] for less in _smaller(inner))
        case dict():
            for name in value:
                yield {other: inner for other, inner in value.items() if other != name}
            for name, inner in sorted(value.items(), key=lambda item: -size(item[1])):
                yield from ({**value, name: less} for less in _smaller(inner))
        case bool() | None:
            return
        case int():
            yield from {0, value // 2} - {value}
        case float():
            yield int(value) if abs(value) < 1e15 else 0


def _without_parts(whole: Input) -> Iterator[Input]:
    """A text or a list without its halves, quarters, … down to single members."""
    width = len(whole)
    while width:
        for start in range(0, len(whole), width):
            yield whole[:start] + whole[start + width :]
        width = width // 2 if width < 4 or width > 64 else width * 2 // 3
