"""What leaves a block that ends with more than one error.

Rules:

1. What went wrong behind the block (a handler, the endpoint) is the cause, and the body's error (its SDK's 500, a
   failed assert) what came of it: the cause is raised, and the body's error is its context.
2. What ends programs or tests (a Ctrl-C, `pytest.skip`) is no consequence: it leaves as it is, with a note.
3. What the body has raised is not raised again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from .._failures import raise_all

__all__ = ["is_among", "leave"]


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


def _raise_in_context(body: BaseException, errors: list[BaseException]) -> NoReturn:
    __tracebackhide__ = True
    try:
        raise_all(errors)
    except BaseException as error:
        error.__context__ = body
        raise
    raise AssertionError("unreachable")
