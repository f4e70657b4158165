"""What a handler is, and whether something can be one: seen where it is given, not at the agent's first call."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from types import CodeType
from typing import Any, TypeAlias

from .exchange import Exchange

__all__ = ["Handler", "check_handler"]

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""Whatever answers an exchange: a function, an upstream, a script, a replay."""


def check_handler(handler: object) -> None:
    """See whether `handler` can be called with an exchange, and can give something to await.

    A function that is not `async` may hand on what another gives (`lambda exchange: answer(exchange, 5)`): only one
    that can return nothing but None is told from it here.

    Raises:
        TypeError: it is no handler; the text says what is wrong with it.
    """
    if (problem := _problem(handler)) is not None:
        raise TypeError(f"a handler is `async def handler(exchange)`; {_name(handler)} {problem}")


def _problem(handler: object) -> str | None:
    inner: Any = handler
    while isinstance(inner, partial):
        inner = inner.func
    if not callable(inner):
        return "cannot be called"
    if isinstance(inner, type) and not hasattr(inner, "__await__"):
        return "is a class: give an object of it"
    function = inner if inspect.isroutine(inner) else type(inner).__call__
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return "is a generator: `yield` gives no answer, `await exchange.respond(…)` does"
    code = getattr(function, "__code__", None)
    if code is not None and not inspect.iscoroutinefunction(function) and _gives_nothing(code):
        return "is not async"
    return None if _takes_one(handler) else "does not take one argument, the exchange"


def _gives_nothing(code: CodeType) -> bool:
    """Whether a function of this code can return nothing but None, and so nothing that can be awaited."""
    if code.co_flags & inspect.CO_COROUTINE:
        return False
    before = None
    for step in dis.get_instructions(code):
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return False
        if step.opname == "RETURN_VALUE" and not (
            before is not None and before.opname == "LOAD_CONST" and before.argval is None
        ):
            return False
        before = step
    return True


def _takes_one(handler: object) -> bool:
    try:
        inspect.signature(handler).bind(None)  # type: ignore[arg-type]
    except TypeError:
        return False
    except ValueError:  # written in C, perhaps: nobody knows
        return True
    return True


def _name(handler: object) -> str:
    name = getattr(handler, "__qualname__", None)
    return f"`{name}`" if isinstance(name, str) else repr(handler)
