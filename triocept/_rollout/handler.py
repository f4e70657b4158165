"""The type of a handler, and its check, which is made before the agent's first call."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncContextDecorator
from functools import partial, wraps
from reprlib import repr as short
from typing import Any, TypeAlias

from .._util.checks import is_not_async, named, takes
from .exchange import Exchange

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""A callable that answers an exchange: a function, an upstream, a script, a replay."""


def check_handler(handler: object, *, plain: bool = False) -> None:
    """Raise TypeError unless `handler` can be called with an exchange, and can return an awaitable.

    With `plain`, a function that returns no awaitable is accepted, too: `chaos` may wrap a function of a program
    without trio. If `handler` wraps another handler, the inner one is checked as well.

    A function that is not `async` may return the awaitable of another function (`lambda exchange: answer(exchange,
    5)`). Only a function that certainly returns a constant or a text is rejected here; `awaiting` rejects the others.

    Raises:
        TypeError: it is not a handler; the text gives the reason.
    """
    if isinstance(handler, list | tuple):
        what = "a list of replies: pass ScriptedModel(replies) as the handler"
        raise TypeError(
            f"a handler must be `async def handler(exchange)`; {short(handler)} looks like {what}"
        )
    if (inner := getattr(handler, "_handler_within", None)) is not None:
        check_handler(inner)
    if (problem := _problem(handler, plain=plain)) is not None:
        raise TypeError(f"a handler must be `async def handler(exchange)`; {named(handler)} {problem}")


def configured_model(handler: object) -> str | None:
    """Return the model that a handler is configured to request, whatever the agent requests.

    It is the model of an upstream, or of an upstream within another handler. None if unknown.
    """
    model = getattr(handler, "_configured_model", None)
    return model if isinstance(model, str) else None


def awaiting(handler: Handler) -> Handler:
    """Return `handler`.

    For a function that is not `async`, return a wrapper that raises TypeError if its result is not awaitable.
    """
    if not inspect.isroutine(handler) or inspect.iscoroutinefunction(handler):
        return handler

    @wraps(handler)
    async def awaited(exchange: Exchange) -> None:
        given: object = handler(exchange)
        if not inspect.isawaitable(given):
            what = f"it returned a {type(given).__name__}, {short(given)}"
            text = f"a handler must be `async def handler(exchange)`; {named(handler)} is not async: {what}"
            raise TypeError(text)
        await given

    return awaited


def is_unentered(handler: object) -> bool:
    """Return True if the handler is a context manager that was not entered.

    Context managers of contextlib are callable, because they can be decorators.
    """
    decorates = (
        isinstance(handler, AsyncContextDecorator)
        and type(handler).__call__ is AsyncContextDecorator.__call__
    )
    return decorates or (isinstance(handler, AbstractAsyncContextManager) and not callable(handler))


def _problem(handler: object, *, plain: bool) -> str | None:
    inner: Any = handler
    while isinstance(inner, partial):
        inner = inner.func
    if is_unentered(inner):
        return "is a context that was not entered: use `async with … as handler`"
    if not callable(inner):
        return "cannot be called"
    if isinstance(inner, type) and not hasattr(inner, "__await__"):
        return "is a class: pass an instance of it"
    function = inner if inspect.isroutine(inner) else type(inner).__call__
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return "is a generator: to answer, use `await exchange.respond(…)`, not `yield`"
    if not plain and is_not_async(function):
        return "is not async"
    return None if takes(handler, 1) else "does not take one argument, the exchange"
