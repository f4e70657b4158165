"""What fails while several things have to be done all the same: kept first, then raised.

Rules:

1. A step that fails does not keep the next one from being taken.
2. A fault is never lost to a cancellation that crosses it: the two are told apart, and the fault counts.
3. One fault leaves bare, several leave as a group, and none is in it twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import trio


def split_cancelled(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What of `exc` is cancellation, and what is not: either may be None. A group is split, not unpacked."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)
    return (exc, None) if isinstance(exc, trio.Cancelled) else (None, exc)


def text_of(error: BaseException) -> str:
    """What an error of others says; of one whose `__str__` fails, that it does."""
    try:
        return str(error)
    except Exception as exc:  # theirs: the error is what counts
        return f"(its text cannot be had: {type(exc).__name__})"


@contextmanager
def keeping(errors: list[BaseException]) -> Iterator[None]:
    """Keep what leaves the block, to be raised by `raise_all` behind it.

    Around a nursery: one that is cancelled while it waits for its tasks, shielded ones too, raises that cancellation,
    and what stands behind it is never reached.
    """
    try:
        yield
    except BaseException as exc:
        errors.append(exc)


@contextmanager
def keeping_each(errors: list[BaseException]) -> Iterator[None]:
    """The same around a nursery of ours: the group that it makes of what leaves it is nobody's but its own."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors.extend(group.exceptions)
    except BaseException as exc:
        errors.append(exc)


async def run_each(*steps: Callable[[], Awaitable[None]]) -> list[BaseException]:
    """Take one step after the other, though one fails; what they raised."""
    errors: list[BaseException] = []
    for step in steps:
        try:
            await step()
        except BaseException as exc:
            errors.append(exc)
    return errors


def raise_all(errors: list[BaseException]) -> None:
    """Raise what is in `errors`: one bare, several as a group, none not at all. One that comes twice is one.
    Cancellation counts where there is nothing else: whoever is cancelled meets it again at the next checkpoint."""
    faults = _distinct([exc for exc in errors if split_cancelled(exc)[1] is not None] or errors[:1])
    if len(faults) == 1:
        _raise_as_it_is(faults[0])
    if faults:
        _raise_as_it_is(BaseExceptionGroup("several tasks of one rollout failed", faults))


def _raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise it with the context that it has. Where a body was cancelled because of it, that cancellation is being
    handled, and Python would print all of it before what happened."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context


def without(error: BaseException, errors: list[BaseException]) -> list[BaseException]:
    """Those that hold something else than `error` does: nurseries make its group anew on its way."""
    known = {id(leaf) for leaf in leaves(error)}
    return [other for other in errors if any(id(leaf) not in known for leaf in leaves(other))]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """It; or, of a group, all that is in it and is none."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def _distinct(errors: list[BaseException]) -> list[BaseException]:
    """Each of them once: not alone, too, what a group holds."""
    found: list[BaseException] = []
    for error in sorted(errors, key=lambda error: not isinstance(error, BaseExceptionGroup)):
        if not any(_holds(other, error) for other in found):
            found.append(error)
    return found


def _holds(error: BaseException, one: BaseException) -> bool:
    if error is one:
        return True
    return isinstance(error, BaseExceptionGroup) and any(_holds(each, one) for each in error.exceptions)
