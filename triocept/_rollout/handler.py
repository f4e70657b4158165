"""The type of a handler, and the check that an object is a handler, which runs before an agent's first call."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncContextDecorator
from functools import partial, wraps
from reprlib import repr as short
from typing import Any, TypeAlias

from .._util.checks import is_not_async, named, takes
from .._util.contexts import Context
from .exchange import Exchange

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""A callable that answers an exchange, such as an async function, an upstream, a script or a replay."""


def check_handler(handler: object, *, plain: bool = False) -> None:
    """Raise TypeError if `handler` cannot be called with an exchange, or if its result is certainly not awaitable.

    If `plain` is True, a function that is not async is accepted, too, because `chaos` can wrap such a function in a
    program without trio. If `handler` wraps another handler, the inner handler is checked as well.

    A function that is not `async` may return the awaitable of another function (`lambda exchange: answer(exchange,
    5)`). So only a function that certainly returns a constant or a text is rejected. If any other function returns a
    value that is not awaitable, the wrapper of `awaiting` raises an error.

    Raises:
        TypeError: `handler` is not a handler; the error's text gives the reason.
    """
    if isinstance(handler, list | tuple):
        what = "a list of replies: pass ScriptedModel(replies) as the handler"
        raise TypeError(
            f"a handler must be `async def handler(exchange)`; {short(handler)} looks like {what}"
        )
    if inspect.iscoroutine(handler):
        handler.close()  # otherwise Python warns, too, that the coroutine was never awaited
        name = handler.__name__
        raise TypeError(
            f"a handler must be a function, but this is a call of one: pass {name}, not {name}(…)"
        )
    if (inner := getattr(handler, "_handler_within", None)) is not None:
        check_handler(inner)
    if (problem := _problem(handler, plain=plain)) is not None:
        raise TypeError(f"a handler must be `async def handler(exchange)`; {named(handler)} {problem}")


def configured_model(handler: object) -> str | None:
    """Return the name of the model that `handler` always requests, even if the agent requests another model.

    Return None if `handler` is neither an upstream with a configured model, nor a wrapper of such an upstream.
    """
    model = getattr(handler, "_configured_model", None)
    return model if isinstance(model, str) else None


def awaiting(handler: Handler) -> Handler:
    """Return `handler` unchanged if it is an `async` function, or a callable object that is not a function.

    For a function that is not `async`, return a wrapper that raises TypeError if the function's result is not
    awaitable.
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
    """Return True if `handler` is a context manager that was not entered with `async with`.

    This check is needed because `callable` returns True for a context manager made with contextlib, as for a handler.
    (Such an object can be called as a decorator.)
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
        entry = inner.entry() if isinstance(inner, Context) else "async with … as handler"
        return f"is a context that was not entered: write `{entry}`"
    if isinstance(inner, str):
        if inner.startswith("http"):
            return "is a str: for a real model, use `async with open_upstream(url, dialect=…) as model`"
        return f"is a str: for a fixed answer, use ScriptedModel([{short(inner)}]); for a real model, open_upstream"
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
