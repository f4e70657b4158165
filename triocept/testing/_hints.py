"""What a handler's error does not say by itself: that handlers run under trio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

__all__ = ["explain"]

_OF_ASYNCIO = (
    "no running event loop",
    "no current event loop",
    "should be used inside a task",
    "unrecognized yield message",
)
"""What asyncio says where it does not run, and trio where it meets something of asyncio's."""
_HINT = (
    "triocept: an async handler runs under trio, in the endpoint's own thread: `trio.sleep` in the place of "
    "`asyncio.sleep`, say. What needs asyncio is a plain function, `def handler(exchange)`: that runs in a thread of "
    "its own, and may call `asyncio.run`"
)


def explain(error: BaseException) -> None:
    """Give it a note, if it is one that has to do with that; one, however often it comes by."""
    for each in _within(error):
        is_one = isinstance(each, (RuntimeError, TypeError)) and any(
            words in str(each) for words in _OF_ASYNCIO
        )
        if is_one and _HINT not in getattr(each, "__notes__", ()):
            with suppress(TypeError):  # somebody's own `__notes__`, which is no list
                each.add_note(_HINT)


def _within(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _within(each)
    else:
        yield error
