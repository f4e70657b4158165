"""Context managers that a Ctrl-C (KeyboardInterrupt) can interrupt only at a checkpoint.

In code that is not protected, trio raises `KeyboardInterrupt` at any line. If a context manager is interrupted after it
has started a task, and before it can end this task, the program waits for the task for ever. In a protected context
manager, the interrupt is raised only at a checkpoint, like a cancellation.

The body of an `async with` block is the user's code, and is not protected. Functions that users pass in (a handler, a
recorder, a tool) are not protected either. Called functions inherit protection, so `call_user` removes the protection
when it calls these functions. triocept's own recorders are protected: if an interrupt were raised while a line is
written, the file would look damaged.

The context manager with which a pool opens endpoints is protected, too: if a Ctrl-C interrupted its entry, no code
could exit this context manager.
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
"""Name of the attribute by which `protected_methods` marks a protected method."""


def protected_context(
    function: Callable[P, AsyncIterator[T]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Apply `contextlib.asynccontextmanager` to a function, and protect the function from KeyboardInterrupt."""
    return _opening(function, _Protected)


def shown_context(
    function: Callable[P, AsyncIterator[T]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Apply `contextlib.asynccontextmanager` to a public function.

    `help()` shows the type of the context manager, and the error for a misspelt keyword suggests the right keyword.

    The function is not protected from KeyboardInterrupt. (`open_upstream` uses `shown_context`: an
    `Upstream` is a handler, which counts as the user's code.)
    """
    return _opening(function, _Context)


def shown(
    context: AbstractAsyncContextManager[T, bool | None], name: str, gives: str
) -> AbstractAsyncContextManager[T, bool | None]:
    """Return a context manager whose errors show how to enter it: `async with NAME(…) as GIVES`."""
    return _Context(context, name, gives)


def _opening(
    function: Callable[P, AsyncIterator[T]], kind: type[_Context[T]]
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Return a function with the parameters of `function` that returns a context manager of type `kind`.

    With contextlib alone, `help()` would show the return type of the generator function.
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
    """A context manager whose errors show how to enter it: `async with NAME(…) as GIVES`."""

    _name: str
    _gives: str

    def __repr__(self) -> str:
        return f"{self._name}(…)"

    def entry(self) -> str:
        return f"async with {self!r} as {self._gives}"

    if not TYPE_CHECKING:  # Python's own text would name this class, which users do not use

        def __enter__(self) -> NoReturn:
            raise TypeError(self._how_to_enter())

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(f"cannot read .{name} yet: {self._how_to_enter()}", name=name)

        def _how_to_enter(self) -> str:
            text = f"{self!r} is an async context manager: write `{self.entry()}`"
            if self._name in ("serve_endpoint", "open_rollout", "open_upstream"):
                text += "; for code that is not async, use `triocept.testing`"
            return text

        def __exit__(self, *error: object) -> None: ...

        __await__ = __enter__
        __aiter__ = __enter__


class _Context(Context[T]):
    """A wrapper that gives another context manager the errors of `Context`."""

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
    """A context manager whose entry and exit are protected from the first instruction to the last."""

    __aenter__ = enable_ki_protection(_Context.__aenter__)
    __aexit__ = enable_ki_protection(_Context.__aexit__)


def protected_methods(kind: type[T]) -> type[T]:
    """Protect the async methods of a class from KeyboardInterrupt, even if `call_user` calls them."""
    for method in vars(kind).values():
        if inspect.iscoroutinefunction(method):
            enable_ki_protection(method)
            setattr(method, _PROTECTED, True)
    return kind


def call_user(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    """Call a user's function with KeyboardInterrupt enabled.

    A method that `protected_methods` has protected stays protected.
    """
    # A bound method formats an error for each attribute that it lacks, even if `getattr` has a default.
    plain = getattr(function, "__func__", function)
    if getattr(plain, _PROTECTED, None) is True:
        return function(*args, **kwargs)
    return _interruptible(function, *args, **kwargs)


@disable_ki_protection
async def _interruptible(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    return await function(*args, **kwargs)
