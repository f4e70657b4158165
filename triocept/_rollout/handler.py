"""What a handler is, and whether something can be one: seen where it is given, not at the agent's first call."""

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
"""Whatever answers an exchange: a function, an upstream, a script, a replay."""


def check_handler(handler: object, *, plain: bool = False) -> None:
    """See whether `handler` can be called with an exchange, and can give something to await.

    `plain` lets a function pass that gives nothing to await: of a handler around another one, which may be a program's
    that is not trio's. It is told when the one around it is looked at.

    A function that is not `async` may hand on what another gives (`lambda exchange: answer(exchange, 5)`): only one
    that can return nothing but constants and texts is told from it here, any other by `awaiting`.

    Raises:
        TypeError: it is no handler; the text says what is wrong with it.
    """
    if isinstance(handler, list | tuple):
        what = "a list of replies: ScriptedModel(replies) is a handler that answers by it"
        raise TypeError(f"a handler is `async def handler(exchange)`; {short(handler)} may be {what}")
    if (inner := getattr(handler, "_handler_within", None)) is not None:
        check_handler(inner)
    if (problem := _problem(handler, plain=plain)) is not None:
        raise TypeError(f"a handler is `async def handler(exchange)`; {named(handler)} {problem}")


def told_model(handler: object) -> str | None:
    """The model that a handler is told to ask for, whatever the agent asks: an upstream's, or of a handler around one;
    None: nobody knows."""
    model = getattr(handler, "_told_model", None)
    return model if isinstance(model, str) else None


def awaiting(handler: Handler) -> Handler:
    """`handler`; if it is a function that is not `async`, one that says so where that gives nothing to await."""
    if not inspect.isroutine(handler) or inspect.iscoroutinefunction(handler):
        return handler

    @wraps(handler)
    async def awaited(exchange: Exchange) -> None:
        given: object = handler(exchange)
        if not inspect.isawaitable(given):
            what = f"it returned a {type(given).__name__}, {short(given)}"
            raise TypeError(
                f"a handler is `async def handler(exchange)`; {named(handler)} is not async: {what}"
            )
        await given

    return awaited


def is_unentered(handler: object) -> bool:
    """Whether it is a context. contextlib's can be called: as decorators."""
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
        return "is not entered: `async with … as handler`, and then it is one"
    if not callable(inner):
        return "cannot be called"
    if isinstance(inner, type) and not hasattr(inner, "__await__"):
        return "is a class: give an object of it"
    function = inner if inspect.isroutine(inner) else type(inner).__call__
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return "is a generator: `yield` gives no answer, `await exchange.respond(…)` does"
    if not plain and is_not_async(function):
        return "is not async"
    return None if takes(handler, 1) else "does not take one argument, the exchange"
