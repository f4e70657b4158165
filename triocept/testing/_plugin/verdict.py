"""Choose the exception that a test raises at its end because of the problems of its models.

Rules:

1. An exception of a handler fails the test, even if the application ignored the resulting status 500.
2. An unused reply and an unanswered call fail the test, too.
3. If the test itself raises an exception, this exception is raised, and the models' problems are added to it as notes.
   But if the text of this exception quotes the 500 of a failed handler, the handler's error is raised, with the test's
   exception as its context.
4. An exception that ends pytest is never replaced. If the test raises a skip, a handler's error is raised in place of
   the skip. If the test raises an xfail, the xfail is raised, with the handler's error as a note: a handler is part of
   the test, and may raise the xfail itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ..._rollout.outcome import words_of_fault
from .._leaving import chain
from .models import ModelFactory


def verdict(models: ModelFactory, own: BaseException | None) -> BaseException | None:
    """Return the exception that fails the test; None if the test passes.

    `own` is the exception that the test raised.
    """
    found = models.check(own)
    faults = [each for each in found if models.is_fault(each)]
    fault = _as_one(faults)
    if own is None or (isinstance(own, pytest.skip.Exception) and fault is not None):
        # If no handler has failed, return another error unchanged (a blocked loop, a warning as an error), or all
        # complaints in one error.
        errors = [each for each in found if type(each) is not AssertionError]
        if fault is not None or errors or not found:
            return fault or _as_one(errors)
        return AssertionError("\n".join(map(str, found)))
    texts = [str(each) for each in chain(own)]
    # True if the exception, or one within it, quotes the text that a fault sent to its client.
    is_quoted = any(words_of_fault(each) in text for each in faults for text in texts)
    if isinstance(own, Exception) and is_quoted:
        return _behind(own, fault) if fault is not None else own
    for each in found:
        if not is_in(own, each):
            is_complaint = type(each) is AssertionError
            what = (
                str(each)
                if is_complaint
                else f"the handler of the test's model failed: {type(each).__name__}: {each}"
            )
            own.add_note(f"triocept: {what}")
    return own


def _as_one(faults: Sequence[BaseException]) -> BaseException | None:
    if len(faults) < 2:
        return faults[0] if faults else None
    return BaseExceptionGroup(f"{len(faults)} errors of handlers", faults)


def is_in(own: BaseException, problem: BaseException) -> bool:
    return any(each is problem for each in chain(own))


def _behind(own: BaseException, fault: BaseException) -> BaseException:
    """Make `own`, the test's exception, the context of the oldest cause of `fault`. Return `fault`."""
    first = fault
    while (earlier := first.__cause__ or first.__context__) is not None:
        if earlier is own or earlier is fault:  # they are already chained
            return fault
        first = earlier
    first.__context__, first.__suppress_context__ = own, False
    return fault
