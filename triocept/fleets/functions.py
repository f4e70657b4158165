"""Types of the functions that a map calls, and a check of such a function, which is made before any task runs."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from .._util.checks import described, is_not_async

Contra = TypeVar("Contra", contravariant=True)
Co = TypeVar("Co", covariant=True)

RetryIf: TypeAlias = Callable[[BaseException], bool]
"""`(error) -> True` if the task should run again."""


class RolloutFunction(Protocol[Contra, Co]):
    """Function that a map calls for each task. It must be importable, or defined in `__main__`."""

    def __call__(self, worker: Any, task: Contra, /, *, attempt: int) -> Awaitable[Co]:
        """Run one task.

        Args:
            worker: the value of the context that the function `worker` of `open_fleet` opened: by default an
                `Endpoint`.
            task: one of the map's tasks.
            attempt: number of the attempt, from 1. A later attempt is made if the worker died during the attempt
                before, or if `retry_if` returned True for its exception. Earlier attempts may have had side effects.
        """


class SampleFunction(Protocol[Contra, Co]):
    """Function that a map calls for each sample of a task, with the sample's index in its group."""

    def __call__(self, worker: Any, task: Contra, /, *, attempt: int, sample: int) -> Awaitable[Co]:
        """Run one sample of a task.

        Args:
            worker: see `RolloutFunction`.
            task: the task. All samples of a group get the same task.
            attempt: number of the attempt of this sample, from 1.
            sample: index of the sample, from 0 to `group_size` - 1; 0 if the map has no groups.
        """


def name_of(function: object) -> str:
    """Return the name of a function, even if it is wrapped in a `partial`."""
    function = _unwrapped(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def takes_sample(function: object) -> bool:
    """Return True if `function` has a parameter `sample`; raise TypeError if a map cannot call `function`."""
    if not callable(function):
        raise TypeError(f"a map needs an async function, not {described(function)}")
    name = name_of(function)
    code = getattr(_unwrapped(function), "__code__", None)
    returns_none = is_not_async(function)
    if code is not None and not code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE):
        # A plain function without calls returns no new awaitable.
        returns_none |= bool(code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)) or not any(
            step.opname.startswith("CALL") for step in dis.get_instructions(code)
        )
    if returns_none:
        raise TypeError(
            f"{name} must be an `async def` without `yield`: it returns nothing that can be awaited"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, perhaps
        return False
    try:
        signature.bind(None, None, attempt=1, sample=0)
    except TypeError:
        pass
    else:
        return True
    try:
        signature.bind(None, None, attempt=1)
    except TypeError as exc:
        parameters = signature.parameters.values()
        plain = [
            each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        required = [
            each.name
            for each in (*plain[2:], *(each for each in parameters if each.kind is each.KEYWORD_ONLY))
            if each.default is each.empty and each.name not in ("attempt", "sample")
        ]
        takes_attempt = "attempt" in signature.parameters or any(
            each.kind is each.VAR_KEYWORD for each in parameters
        )
        if required and takes_attempt:
            names = ", ".join(f"`{each}`" for each in required)
            raise TypeError(
                f"{name} requires {names}, which a map does not pass: declare a default, or bind a value with "
                "functools.partial"
            ) from None
        raise TypeError(
            f"{name} must accept attempt=, because a map calls `await {name}(worker, task, attempt=1)`; if {name} has "
            f"a parameter `sample`, the map passes it, too ({exc})"
        ) from None
    return False


def _unwrapped(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return function
