"""What a caller gives, looked at where it is given.

A mistake is an error of the very call that it is made in: a `TypeError`, or a `ValueError` where the type is right. Its
text has three parts: which argument, what that takes, and what it got. Nothing here is for what a call does many times.
"""

from __future__ import annotations

import dis
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from reprlib import repr as short
from types import CodeType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_args

import msgspec

P = ParamSpec("P")
T = TypeVar("T")

_REMOVED = {
    "fast": "model calls always take the fast way where they can",
    "http2": "the endpoint speaks HTTP/1.1, also to a reverse proxy that offers HTTP/2 to its clients",
}
"""Keywords of earlier releases, and what holds without them."""


def described(value: object) -> str:
    """A value as a message shows it: its type, and the beginning of it."""
    return "None" if value is None else f"{type(value).__name__}: {short(value)}"


def check_type(name: str, value: object, kind: type | tuple[type, ...], what: str, hint: str = "") -> None:
    """See whether `value` is of a type; `what` says which, `hint` how one is made."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {what}, not {described(value)}{f'; {hint}' if hint else ''}")


def check_str(name: str, value: object) -> None:
    check_type(name, value, str, "a str")


def check_bool(name: str, value: object) -> None:
    check_type(name, value, bool, "a bool")


def check_mapping(name: str, value: object) -> None:
    check_type(name, value, Mapping, "a mapping")


def check_callable(name: str, value: object, what: str) -> None:
    if not callable(value):
        raise TypeError(f"{name} is {what}, not {described(value)}")


def check_choice(name: str, value: object, choices: object) -> None:
    """See whether `value` is one of the words of a `Literal`."""
    words = [repr(word) for word in get_args(choices)]
    if value not in get_args(choices):
        raise ValueError(f"{name} is {', '.join(words[:-1])} or {words[-1]}, not {value!r}")


def check_keywords(function: str, given: Mapping[str, object], known: Collection[str]) -> None:
    """See whether a function knows all the keywords that it was given."""
    for name in given.keys() - known:
        gone = _REMOVED.get(name)
        hint = f": it was removed; {gone}" if gone is not None else meant(name, known, "it takes")
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def meant(name: object, known: Collection[str], all_of_them: str = "there are") -> str:
    """What an error says behind a name that nothing has: the one that is like it; else all that there are."""
    near = get_close_matches(str(name), known, 1)
    return f": {near[0]}?" if near else f"; {all_of_them} {', '.join(known)}"


def with_known_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, that names the keyword that was meant where it is given one that it has not."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return function  # it looks at them itself
    known = dict.fromkeys(parameter.name for parameter in parameters if parameter.name != "self")

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not kwargs.keys() <= known.keys():
            check_keywords(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return call


def check_count(name: str, value: object, *, least: int = 0) -> None:
    """See whether `value` is a whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is a whole number, not {described(value)}")
    if value < least:
        raise ValueError(f"{name} is {least} or more, not {value}")


def check_number(
    name: str,
    value: object,
    *,
    positive: bool = False,
    negative: bool = False,
    infinite: bool = False,
    hint: str = "",
) -> None:
    """See whether `value` is a finite number, and 0 or more.

    Args:
        name: what the error calls it.
        value: what was given.
        positive: whether 0 is none, either.
        negative: whether one below 0 is one, too.
        infinite: whether infinity is one: only where the argument's own description says what it means.
        hint: what to give in the place of infinity.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number, not {described(value)}")
    number: Any = value  # Real says nothing of an order
    if not (number > 0 if positive else number >= 0 or (negative and number < 0)):  # nan is nothing of it
        wanted = "more than 0" if positive else "a number" if negative else "0 or more"
        raise ValueError(f"{name} is {wanted}, not {value}")
    if not (_is_finite(value) or (infinite and value == math.inf)):
        raise ValueError(f"{name} is finite, not {described(value)}{f'; {hint}' if hint else ''}")


def _is_finite(value: Real) -> bool:
    """Whether it is so, as a float too: no clock can be set to 10**400."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def unsayable(place: str, fields: Mapping[str, Any], says: Callable[[Any], object]) -> TypeError | None:
    """The error of the first of these fields that JSON cannot say; None: it can say them all."""
    for name, value in fields.items():
        try:
            says(value)
        except UnicodeEncodeError:
            continue
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            return TypeError(f"{place}: `{name}` is not JSON: {described(value)} ({exc})")
    return None


def named(function: object) -> str:
    """How a message calls what it was given."""
    name = getattr(function, "__qualname__", None)
    return f"`{name}`" if isinstance(name, str) else repr(function)


def takes(function: object, count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)  # type: ignore[arg-type]
    except TypeError:
        return False
    except ValueError:  # written in C, perhaps: nobody knows
        return True
    return True


class NamesItself(msgspec.StructMeta):
    """The class of a noun that people write by hand: what cannot be made of it says what it takes. msgspec says neither
    which class it was nor what that has. Decoding goes another way, and is as fast as ever."""

    if not TYPE_CHECKING:

        def __call__(self, *args: Any, **fields: Any) -> Any:
            try:
                return super().__call__(*args, **fields)
            except TypeError as exc:
                if not str(exc).startswith(_NOT_THESE):
                    raise
                names = ", ".join(self.__struct_fields__)
                raise TypeError(f"{self.__name__} takes {names} by name: {exc}") from None


_NOT_THESE = ("Extra positional", "Unexpected keyword", "Missing required")


def is_not_async(function: object) -> bool:
    """Whether a function, or a method, can be seen to give nothing that can be awaited."""
    code = getattr(function, "__code__", None)
    return code is not None and _gives_nothing(code)


def _gives_nothing(code: CodeType) -> bool:
    """Whether a function of this code can return nothing but constants, texts and the like."""
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return False
    before = ""
    for step in dis.get_instructions(code):
        if step.opname == "RETURN_VALUE" and (step.is_jump_target or before not in _PLAIN):
            return False
        before = step.opname
    return True


_PLAIN = frozenset(
    {
        *("LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST"),
        *("BUILD_STRING", "BUILD_LIST", "BUILD_TUPLE", "BUILD_MAP", "BUILD_SET"),
    }
)
"""What makes a value that nobody can await (Python 3.11 to 3.14)."""
