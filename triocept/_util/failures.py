"""Run several steps, collect the exceptions of the steps, and raise these exceptions at the end.

Rules:

1. After a failed step, the next step still runs.
2. If a cancellation and another exception (a fault) are raised together, only the fault is raised.
3. One fault is raised unwrapped. Several faults are raised as a group without duplicates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import trio


def split_cancelled(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split `exc` into two exceptions: one with its cancellations, and one with its other exceptions.

    A part is None if it would be empty.

    If `exc` is a group, each part is a group, too.
    """
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)
    return (exc, None) if isinstance(exc, trio.Cancelled) else (None, exc)


def text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as exc:  # a fault of other code: only the error itself matters
        return f"(its text is not available, because __str__ raised {type(exc).__name__})"


@contextmanager
def keeping(errors: list[BaseException]) -> Iterator[None]:
    """Catch the exception that the `with` block raises, and append it to `errors`, for a later `raise_all`.

    Use this context manager around a nursery, so that the code after the nursery always runs. If a nursery is cancelled
    while it waits for its tasks, even for shielded tasks, it raises the cancellation.
    """
    try:
        yield
    except BaseException as exc:
        errors.append(exc)


@contextmanager
def keeping_each(errors: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as exc:
        errors.extend(exc.exceptions if isinstance(exc, BaseExceptionGroup) else [exc])


async def run_each(*steps: Callable[[], Awaitable[None]]) -> list[BaseException]:
    errors: list[BaseException] = []
    for step in steps:
        with keeping(errors):
            await step()
    return errors


def raise_all(errors: list[BaseException]) -> None:
    """Raise the exceptions in `errors`: one exception unwrapped, several as a group. If the list is empty, return.

    Duplicates are raised once. A cancellation is raised only if there is no other exception, because the cancelled task
    raises it again at its next checkpoint.
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
    """Raise `error`, and keep its original context.

    A plain `raise` would replace its `__context__` by the exception that is being handled. If that exception is the
    cancellation of a `with` body, the traceback would show the cancellation before the actual error.
    """
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context


def without(error: BaseException, errors: list[BaseException]) -> list[BaseException]:
    """Return `errors`, but leave out each exception that consists only of parts of `error`."""
    known = {id(leaf) for leaf in leaves(error)}
    return [other for other in errors if any(id(leaf) not in known for leaf in leaves(other))]


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def _holds(error: BaseException, one: BaseException) -> bool:
    if error is one:
        return True
    return isinstance(error, BaseExceptionGroup) and any(_holds(each, one) for each in error.exceptions)
