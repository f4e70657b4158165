"""What leaves a block that ends with more than one error; and what a handler's error does not say by itself.

Rules:

1. What went wrong behind the block (a handler, the endpoint) is the cause, and the body's error (its SDK's 500, a
   failed assert) what came of it: the cause is raised, and the body's error is its context.
2. What ends programs or tests (a Ctrl-C, `pytest.skip`) is no consequence: it leaves as it is, with a note.
3. What the body has raised is not raised again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from traceback import walk_tb
from typing import NoReturn

from .._util.failures import leaves, raise_all

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


def leave(body: BaseException | None, errors: Iterable[BaseException]) -> None:
    """Raise what is to leave; return where there is nothing but the body's own error, which its block raises.

    Raises:
        BaseException: one of `errors` bare, several as a group.
    """
    __tracebackhide__ = True
    left = list({id(error): error for error in errors if error is not body}.values())
    if body is None:
        raise_all(left)
    elif isinstance(body, Exception) or not all(isinstance(error, Exception) for error in left):
        if left:
            _raise_in_context(body, left)
    else:
        for error in left:
            body.add_note(f"triocept: beside that, {error!r}")


def is_among(error: BaseException, known: Iterable[BaseException | None]) -> bool:
    """Whether it is one of them."""
    return any(error is one for one in known)


def is_mistake(error: BaseException | None) -> bool:
    """Return True if triocept's own check of an argument raised it: replies that are left are no news then."""
    if not isinstance(error, (AttributeError, TypeError, ValueError)) or error.__traceback__ is None:
        return False
    *_, (frame, _) = walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "triocept"


def _raise_in_context(body: BaseException, errors: list[BaseException]) -> NoReturn:
    __tracebackhide__ = True
    try:
        raise_all(errors)
    except BaseException as error:
        error.__context__ = body
        raise
    raise AssertionError("unreachable")


def explain(error: BaseException) -> None:
    """Give it a note, if it is one that has to do with that; one, however often it comes by."""
    for each in leaves(error):
        text = str(each) if isinstance(each, (RuntimeError, TypeError)) else ""
        if any(words in text for words in _OF_ASYNCIO) and _HINT not in getattr(each, "__notes__", ()):
            with suppress(TypeError):  # somebody's own `__notes__`, which is no list
                each.add_note(_HINT)
