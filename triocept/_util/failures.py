"""Collecting the errors of several steps, all of which must run, and raising them at the end.

Rules:

1. A failed step does not prevent the next step.
2. A fault is never lost to a cancellation that crosses it: the two are separated, and the fault is raised.
3. One fault is raised unwrapped, several faults as a group without duplicates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import trio


def split_cancelled(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return the part of `exc` that is cancellation, and the rest; either may be None.

    A group is split, not unpacked.
    """
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)
    return (exc, None) if isinstance(exc, trio.Cancelled) else (None, exc)


def text_of(error: BaseException) -> str:
    """Return the text of an error of other code; if its `__str__` fails, a text about that."""
    try:
        return str(error)
    except Exception as exc:  # a fault of other code: only the error itself matters
        return f"(its text cannot be had: {type(exc).__name__})"


@contextmanager
def keeping(errors: list[BaseException]) -> Iterator[None]:
    """Keep the exception that leaves the block, for `raise_all` after it.

    It is for blocks around a nursery: a nursery that is cancelled while it waits for its tasks, shielded ones too,
    raises that cancellation. The code after it would never run.
    """
    try:
        yield
    except BaseException as exc:
        errors.append(exc)


@contextmanager
def keeping_each(errors: list[BaseException]) -> Iterator[None]:
    """Keep the exceptions that leave a nursery of triocept, unpacked from the group that the nursery makes."""
    try:
        yield
    except BaseException as exc:
        errors.extend(exc.exceptions if isinstance(exc, BaseExceptionGroup) else [exc])


async def run_each(*steps: Callable[[], Awaitable[None]]) -> list[BaseException]:
    """Run one step after the other, even after a failure. Return the exceptions."""
    errors: list[BaseException] = []
    for step in steps:
        with keeping(errors):
            await step()
    return errors


def raise_all(errors: list[BaseException]) -> None:
    """Raise the exceptions in `errors`: one unwrapped, several as a group. Return if there are none.

    Duplicates are raised once. A cancellation is raised only if there is no other exception: a cancelled task meets
    it again at the next checkpoint.
    """
    raised = [exc for exc in errors if split_cancelled(exc)[1] is not None] or errors[:1]
    faults: list[BaseException] = []  # each once, and none alone that a group contains
    for error in sorted(raised, key=lambda error: not isinstance(error, BaseExceptionGroup)):
        if not any(_holds(other, error) for other in faults):
            faults.append(error)
    if len(faults) == 1:
        _raise_as_it_is(faults[0])
    if faults:
        _raise_as_it_is(BaseExceptionGroup("several tasks of one rollout failed", faults))


def _raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise an exception with its original context.

    If a body was cancelled because of it, that cancellation is being handled, and Python would print all of it
    before the actual error.
    """
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context


def without(error: BaseException, errors: list[BaseException]) -> list[BaseException]:
    """Return the errors that contain another leaf than `error` does: nurseries rebuild its group on its way."""
    known = {id(leaf) for leaf in leaves(error)}
    return [other for other in errors if any(id(leaf) not in known for leaf in leaves(other))]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Iterate over the leaves of a group, or over one error."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def _holds(error: BaseException, one: BaseException) -> bool:
    if error is one:
        return True
    return isinstance(error, BaseExceptionGroup) and any(_holds(each, one) for each in error.exceptions)
