"""Helpers for calling the program's own functions, which may be async or not."""

from __future__ import annotations

import inspect
from typing import Any

from .._util.checks import check_callable, named, takes
from .._util.contexts import Context


def check_function(name: str, function: object, form: str) -> None:
    check_callable(name, function, form)
    if isinstance(function, type):
        raise TypeError(f"{name} must be {form}; {function.__qualname__} is a class: pass an instance of it")
    if not takes(function, 1):
        raise TypeError(f"{name} must be {form}; {named(function)} does not take one argument")


async def awaited(given: Any) -> Any:
    """If `given` is awaitable, await it and return the result. Otherwise return `given`.

    A context manager of triocept, such as `open_upstream(…)`, is returned and not awaited: its method `__await__` only
    raises an error that explains the mistake.
    """
    return await given if inspect.isawaitable(given) and not isinstance(given, Context) else given
