"""Contexts that a Ctrl-C (KeyboardInterrupt) cannot interrupt between two lines.

trio raises `KeyboardInterrupt` at any line of the program, unless its code is protected. A context that is
interrupted after it has started something, and before it can end it, waits for it for ever. A protected context gets
the interrupt at a checkpoint, like a cancellation.

The body of a context is the user's code, and unprotected. So is a function that users pass in (a handler, a recorder,
a tool): protection is inherited down the stack, so each such call goes through `call_user`. triocept's own recorders
are protected: an interrupt within a line would leave a file that looks damaged.

A context that a pool is given to open endpoints with stays protected: if it were interrupted half entered, nothing
could exit it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

from trio.lowlevel import disable_ki_protection, enable_ki_protection

from .checks import with_known_keywords

P = ParamSpec("P")
T = TypeVar("T")
_PROTECTED = "__triocept_protected__"
"""Attribute of a method that `protected_methods` has protected."""


def protected_context(
    function: Callable[P, AsyncIterator[T]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Return `contextlib.asynccontextmanager` of a function, with its own code protected from KeyboardInterrupt."""
    return _opening(function, _Protected)


def shown_context(
    function: Callable[P, AsyncIterator[T]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Return `contextlib.asynccontextmanager` of a public function.

    `help()` shows its result, and misspelt keywords get a hint.

    Unprotected: an `Upstream` is a handler, and so the user's code.
    """
    return _opening(function, _Context)


def shown(
    context: AbstractAsyncContextManager[T, bool | None], name: str, gives: str
) -> AbstractAsyncContextManager[T, bool | None]:
    """Return a context whose errors show how to enter it: `async with NAME(…) as GIVES`."""
    return _Context(context, name, gives)


def _opening(
    function: Callable[P, AsyncIterator[T]], kind: type[_Context[T]]
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Return a function that opens a context of this kind, with its keywords and signature.

    contextlib would keep the generator's signature.
    """
    make = asynccontextmanager(function)

    @wraps(function)
    def open_context(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T, bool | None]:
        return kind(make(*args, **kwargs), function.__name__)

    known: Any = with_known_keywords(open_context)
    known.__wrapped__ = function
    known.__annotations__ = dict(function.__annotations__)
    gives = str(known.__annotations__["return"]).replace("AsyncIterator", "AbstractAsyncContextManager", 1)
    known.__annotations__["return"] = gives
    signature = inspect.signature(function).replace(return_annotation=gives)
    known.__signature__ = signature
    return known  # type: ignore[no-any-return]


class Context(AbstractAsyncContextManager[T, "bool | None"], Generic[T]):
    """A context whose errors show how to enter it: `async with NAME(…) as GIVES`."""

    _name: str
    _gives: str

    if not TYPE_CHECKING:  # Python's own text would name this class, which users do not use

        def __enter__(self) -> NoReturn:
            """Raise a TypeError that shows the `async with`: for `with`, `await` and `async for`."""
            raise TypeError(self._how_to_enter())

        def __getattr__(self, name: str) -> NoReturn:
            """Raise an AttributeError that shows the `async with`: for `serve_endpoint().port`."""
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(f"cannot read .{name} yet: {self._how_to_enter()}", name=name)

        def _how_to_enter(self) -> str:
            call = f"{self._name}(…)"
            text = f"{call} is an async context manager: `async with {call} as {self._gives}`"
            if self._name in ("serve_endpoint", "open_rollout", "open_upstream"):
                text += "; for code that is not async there is `triocept.testing`"
            return text

        def __exit__(self, *error: object) -> None: ...

        __await__ = __enter__
        __aiter__ = __enter__


class _Context(Context[T]):
    """A wrapper that adds these errors to another context."""

    def __init__(
        self, context: AbstractAsyncContextManager[T, bool | None], name: str, gives: str = ""
    ) -> None:
        self._context = context
        self._name = name
        self._gives = gives or name.rpartition("_")[2]

    async def __aenter__(self) -> T:
        return await self._context.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._context.__aexit__(kind, value, traceback)


class _Protected(_Context[T]):
    """A context whose entry and exit are protected from their first instruction on; those of contextlib are not."""

    __aenter__ = enable_ki_protection(_Context.__aenter__)
    __aexit__ = enable_ki_protection(_Context.__aexit__)


def protected_methods(kind: type[T]) -> type[T]:
    """Protect the async methods of a class from KeyboardInterrupt, also if a user's code calls them."""
    for method in vars(kind).values():
        if inspect.iscoroutinefunction(method):
            enable_ki_protection(method)
            setattr(method, _PROTECTED, True)
    return kind


def call_user(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    """Call a user's function with KeyboardInterrupt enabled; one of `protected_methods` stays protected."""
    if getattr(function, _PROTECTED, None) is True:
        return function(*args, **kwargs)
    return _interruptible(function, *args, **kwargs)


@disable_ki_protection
async def _interruptible(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    return await function(*args, **kwargs)
