"""The context manager `Block`. If it is used without `with`, it raises an error that contains an example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

from .._util.checks import with_known_keywords

P = ParamSpec("P")
T = TypeVar("T")


class Block(ContextDecorator, AbstractContextManager[T, "bool | None"], Generic[T]):
    """Context manager (and decorator, as in contextlib) that raises an error with an example if `with` is missing.

    Args:
        make: returns the context manager that does the work.
        text: the correct `with` statement, which error texts show.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[T, bool | None]], text: str) -> None:
        self._make = make
        self._text = text
        self._context = make()

    def __enter__(self) -> T:
        __tracebackhide__ = True
        return self._context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        __tracebackhide__ = True
        return self._context.__exit__(kind, value, traceback)

    def _recreate_cm(self) -> Block[T]:
        """Return a new context. contextlib calls this method for each call of a decorated function."""
        return Block(self._make, self._text)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"the context was not entered: write {self._text}; the value after `as` has {name!r}",
                name=name,
                obj=self,
            )

        def __iter__(self) -> NoReturn:
            raise TypeError(f"the context was not entered: write {self._text}")

        async def __aenter__(self) -> NoReturn:
            raise TypeError(f"this context manager is not async: write {self._text}, without `async`")

        async def __aexit__(self, *error: object) -> None: ...


def block(found: str) -> Callable[[Callable[P, Iterator[T]]], Callable[P, Block[T]]]:
    """Return a decorator that makes a `Block` of a generator function.

    `found` is the name that error texts show after `with … as`.
    """

    def decorate(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
        make = contextmanager(function)
        text = f"`with {function.__name__}(…) as {found}`"

        @wraps(function)
        def open_block(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
            return Block(lambda: make(*args, **kwargs), text)

        opens: Any = open_block
        gives = str(function.__annotations__["return"]).replace("Iterator", "AbstractContextManager", 1)
        opens.__annotations__ = {**function.__annotations__, "return": gives}
        opens.__signature__ = inspect.signature(function).replace(return_annotation=gives)
        return with_known_keywords(open_block)

    return decorate
