"""Choose the error that a `with` block raises if there are several, and add hints to errors of asyncio code in trio.

Rules:

1. An error of a handler or of the endpoint counts as the cause. An error of the block's body (an SDK's exception for
   the 500, a failed assert) counts as the consequence. The cause is raised, with the body's error as its context.
2. An exception of the body that ends programs or tests (a Ctrl-C, `pytest.skip`) does not count as a consequence. Such
   an exception is raised unchanged, and the other errors are added to it as notes. For some of these exceptions
   (`sys.exit`, asyncio's `CancelledError`), Python would not print notes. Then the other errors are logged.
3. If trio has cancelled the body, a group is raised that contains the `trio.Cancelled` and the other errors. The
   cancelled scope removes the `trio.Cancelled` from the group, so that the other errors propagate.
4. An error that the body has raised is not raised again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from traceback import walk_tb

import trio

from .._util.failures import leaves, raise_all

log = logging.getLogger("triocept.testing")

_OF_ASYNCIO = (
    "no running event loop",
    "no current event loop",
    "should be used inside a task",
    "unrecognized yield message",
)
"""Parts of the error texts of asyncio when it does not run, and of trio when an awaitable of asyncio is awaited in
trio."""
_HINT = (
    "triocept: an async handler runs under trio, in the endpoint's own thread: use `trio.sleep`, for example, in place "
    "of `asyncio.sleep`. Code that needs asyncio must be a plain function, `def handler(exchange)`, which runs in a "
    "thread of its own and may call `asyncio.run`"
)


def leave(body: BaseException | None, errors: Iterable[BaseException]) -> None:
    """Raise the errors of a block at its end: a single error, or several errors as a group. See the module's rules.

    `body` is the exception that the block's body has raised. If `errors` contains no error except `body`, return.
    """
    __tracebackhide__ = True
    left = list({id(error): error for error in errors if error is not body}.values())
    if body is None:
        raise_all(left)
    elif isinstance(body, Exception) or not all(isinstance(error, Exception) for error in left):
        try:
            raise_all(left)
        except BaseException as raised:
            raised.__context__ = body
            raise
    elif left and all(isinstance(each, trio.Cancelled) for each in leaves(body)):
        raise BaseExceptionGroup(
            "a handler failed, and trio therefore cancelled the body of the block", [body, *left]
        ) from None
    else:
        asyncio = sys.modules.get("asyncio")
        unprinted = (SystemExit, GeneratorExit, *([asyncio.CancelledError] if asyncio else []))
        for error in left:
            if isinstance(body, unprinted):  # nothing prints their notes
                log.error("a handler failed, and %r ended its block", body, exc_info=error)
            else:
                body.add_note(f"triocept: a handler also failed: {error!r}")


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield `exc` and all exceptions that are linked to it (causes, contexts, members of groups), each of them once."""
    seen: set[int] = set()
    waiting = [exc]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


def is_among(error: BaseException, known: Iterable[BaseException | None]) -> bool:
    return any(error is one for one in known)


def is_mistake(error: BaseException | None) -> bool:
    """Return True if triocept raised `error` because of a wrong argument.

    After such an error, unused replies are not reported.
    """
    if not isinstance(error, (AttributeError, TypeError, ValueError)) or error.__traceback__ is None:
        return False
    *_, (frame, _) = walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "triocept"


def explain(error: BaseException) -> None:
    """Add a hint, once, to each error that is typical of asyncio code that ran under trio."""
    for each in leaves(error):
        text = str(each) if isinstance(each, (RuntimeError, TypeError)) else ""
        if any(words in text for words in _OF_ASYNCIO) and _HINT not in getattr(each, "__notes__", ()):
            with suppress(TypeError):  # a `__notes__` that is not a list
                each.add_note(_HINT)
