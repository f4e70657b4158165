"""What the models of a test say of it when it has come to its end.

Rules:

1. What a handler raised fails the test, also where the application has swallowed the 500 that it got.
2. So does a reply that is left over, and a call that nobody answered.
3. A test that fails by itself keeps its failure, and has ours beside it. But where that failure quotes the 500 of a
   handler, the handler's error is the failure, and the test's own stands before it.
4. What ends pytest is not replaced, nor what says that a test cannot be run or is expected to fail; but no skip hides a
   handler's error. An xfail has it as a note: a handler is the test's code, and may say what is known to be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from ..._rollout.outcome import words_of_fault
from .models import ModelFactory


def verdict(models: ModelFactory, own: BaseException | None) -> BaseException | None:
    """What a test fails with; None: it passes.

    Args:
        models: those of the test.
        own: what the test itself has raised.
    """
    found = models.check(own)
    faults = [each for each in found if models.is_fault(each)]
    fault = _as_one(faults)
    if own is None or (isinstance(own, pytest.skip.Exception) and fault is not None):
        return fault or _complaint(found)
    if isinstance(own, Exception) and any(_quotes(own, each) for each in faults):
        return _behind(own, fault) if fault is not None else own
    for each in found:
        if not is_in(own, each):
            own.add_note(f"triocept: {_words(each)}")
    return own


def _words(problem: BaseException) -> str:
    if type(problem) is AssertionError:  # a complaint
        return str(problem)
    return f"the handler of its model failed: {type(problem).__name__}: {problem}"


def _as_one(faults: Sequence[BaseException]) -> BaseException | None:
    """One bare, several as a group."""
    if len(faults) < 2:
        return faults[0] if faults else None
    return BaseExceptionGroup(f"{len(faults)} errors of handlers", faults)


def _complaint(found: Sequence[BaseException]) -> BaseException | None:
    """What is wrong though no handler raised it: an error as it is (of a loop that is blocked, a warning that is one);
    what was found to be left, in one."""
    errors = [each for each in found if type(each) is not AssertionError]
    if errors:
        return _as_one(errors)
    return AssertionError("\n".join(map(str, found))) if found else None


def is_in(own: BaseException, problem: BaseException) -> bool:
    """Whether it is one of those that an exception is made of, or came of."""
    return any(each is problem for each in _within(own))


def _quotes(own: BaseException, fault: BaseException) -> bool:
    """Whether something in it repeats what its client was told of the fault."""
    words = words_of_fault(fault)
    return any(words in str(each) for each in _within(own))


def _within(exc: BaseException | None) -> Iterator[BaseException]:
    """It, what it came of, and what is in it if it is a group; each once."""
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


def _behind(own: BaseException, fault: BaseException) -> BaseException:
    """The fault, before whose own beginnings the test's failure stands in the traceback."""
    first = fault
    while (earlier := first.__cause__ or first.__context__) is not None:
        if earlier is own or earlier is fault:  # somebody has chained them already
            return fault
        first = earlier
    first.__context__, first.__suppress_context__ = own, False
    return fault
