"""Check arguments. Raise TypeError if the type is wrong, and ValueError if only the value is wrong.

A function calls these checks first, so the error comes from the function to which the wrong argument was passed. The
error's text names the argument, the expected value and the received value. Code that runs often does not use these
checks, because they take time.
"""

from __future__ import annotations

import dis
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, get_args

import msgspec

P = ParamSpec("P")
T = TypeVar("T")

REMOVED = {
    "fast": "model calls always use the fast path if they can",
    "http2": "the endpoint uses HTTP/1.1 only, even behind a reverse proxy that offers HTTP/2 to its clients",
}
"""Removed keywords of earlier releases, each with the reason for its removal."""
_TIMES = ("timeout", "time_limit", "max_seconds", "deadline")
"""Keywords with which other packages limit the time of a call."""
_TIMES_HINT = (
    "; to limit the time of an agent run, write open_rollout(limits=Limits(seconds=…)); to limit any other wait, write "
    "`with trio.fail_after(…):`"
)


_LIMITS = {
    name: name if name != "tokens" else "total_tokens"
    for name in ("turns", "tokens", "input_tokens", "output_tokens", "total_tokens", "cost")
}
"""Fields of `Limits` by the names, with or without `max_`, that are mistaken for keywords of `open_rollout`."""


def described(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__}: {short(value)}"


def check_type(name: str, value: object, kind: type | tuple[type, ...], what: str, hint: str = "") -> None:
    """Raise TypeError if `value` is not a `kind`. In the error, `what` describes the type; `hint` is appended."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, not {described(value)}{f'; {hint}' if hint else ''}")


def check_str(name: str, value: object) -> None:
    check_type(name, value, str, "a str")


def check_bool(name: str, value: object) -> None:
    check_type(name, value, bool, "a bool")


def check_mapping(name: str, value: object) -> None:
    check_type(name, value, Mapping, "a mapping")


def check_callable(name: str, value: object, what: str) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be {what}, not {described(value)}")


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise ValueError if `value` is not one of the values of the `Literal` type `choices`."""
    words = [repr(word) for word in get_args(choices)]
    if value not in get_args(choices):
        raise ValueError(f"{name} must be {', '.join(words[:-1])} or {words[-1]}, not {value!r}")


def check_keywords(function: str, given: Mapping[str, object], known: Collection[str]) -> None:
    """Raise TypeError if `given` has a keyword that is not in `known`. The error suggests a similar keyword."""
    for name in given.keys() - known:
        if (gone := REMOVED.get(name)) is not None:
            hint = f"; it was removed, because {gone}"
        elif name in ("key", "api_key"):
            hint = "; the endpoint generates a key for each rollout: read `rollout.api_key`"
        elif "limits" in known and (limit := _LIMITS.get(name.removeprefix("max_"))) is not None:
            hint = f"; write limits=Limits({limit}=…)"
        elif name in _TIMES and not _similar(name, known):
            hint = "; pass timeout= to fleet.map" if function == "open_fleet" else _TIMES_HINT
        else:
            hint = meant(name, known, "it accepts")
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def meant(name: object, known: Collection[str], all_of_them: str = "choose one of") -> str:
    """Return the end of an error about an unknown name: the most similar known name, or a list of all known names."""
    near = _similar(name, known)
    return f"; did you mean {near[0]}?" if near else f"; {all_of_them} {', '.join(known)}"


def _similar(name: object, known: Collection[str]) -> list[str]:
    """Return the name in `known` that is most similar to `name`, or has the same meaning; an empty list if none is."""
    if name in _TIMES and "seconds" in known:
        return ["seconds"]
    return get_close_matches(str(name), known, 1)


def with_known_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Return a wrapper of `function` with clearer errors for wrong arguments.

    For an unknown keyword, the error suggests the most similar known keyword. If an argument is missing, or there are
    too many, the error shows the required arguments.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return function  # the function checks its own keywords
    known = dict.fromkeys(parameter.name for parameter in parameters if parameter.name != "self")
    required = ", ".join(
        f"{parameter.name}=…" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.name in known
    )

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not kwargs.keys() <= known.keys():
            check_keywords(function.__name__, kwargs, known)
        try:
            return function(*args, **kwargs)
        except TypeError as exc:
            if required:
                try:
                    signature.bind(*args, **kwargs)
                except TypeError:
                    raise TypeError(f"{exc}; write {function.__name__}({required})") from None
            raise

    return call


def check_count(name: str, value: object, *, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, not {described(value)}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")


def check_number(
    name: str,
    value: object,
    *,
    positive: bool = False,
    negative: bool = False,
    infinite: bool = False,
    hint: str = "",
) -> None:
    """Raise an error if `value` is not a finite number of at least 0.

    Args:
        name: name of the argument in the error.
        value: the argument.
        positive: True if 0 is an error, too.
        negative: True if numbers below 0 are allowed.
        infinite: True if infinity is allowed. The documentation of the argument must then define what infinity means.
        hint: text at the end of the error about infinity: it names the value to use in place of infinity.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {described(value)}")
    number: Any = value  # Real has no comparison operators
    if not (number > 0 if positive else number >= 0 or (negative and number < 0)):  # False for NaN
        wanted = "more than 0" if positive else "a number" if negative else "0 or more"
        raise ValueError(f"{name} must be {wanted}, not {value}")
    if not (_is_finite(value) or (infinite and value == math.inf)):
        raise ValueError(f"{name} must be finite, not {described(value)}{f'; {hint}' if hint else ''}")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that is too large for a float, such as 10**400
        return False


def unsayable(place: str, fields: Mapping[str, Any], says: Callable[[Any], object]) -> TypeError | None:
    """Return a TypeError about the first field that `says` cannot encode as JSON; None if there is no such field."""
    for name, value in fields.items():
        try:
            says(value)
        except UnicodeEncodeError:
            continue
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            return TypeError(f"{place}: `{name}` cannot be written as JSON: {described(value)} ({exc})")
    return None


def named(function: object) -> str:
    name = getattr(function, "__qualname__", None)
    return f"`{name}`" if isinstance(name, str) else repr(function)


def takes(function: object, count: int) -> bool:
    try:
        with suppress(ValueError):  # perhaps written in C, without a signature
            inspect.signature(function).bind(*[None] * count)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


class Misnamed:
    """An attribute with a name that users expect, but that the class calls differently.

    Reading the attribute raises an AttributeError that names the right one. A class with `__getattr__` would do the
    same, but would make every read of an attribute slower.

    Args:
        right: what to write in place of the attribute.
    """

    def __init__(self, right: str) -> None:
        self._right = right

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        text = f"{owner.__name__!r} object has no attribute {self._name!r}; did you mean {self._right}?"
        raise AttributeError(text, name=self._name, obj=instance)


def has_no_keys(self: object, key: object) -> NoReturn:
    """Raise a TypeError for `message["content"]`. A class whose objects users take for a dict uses it as a method."""
    known = isinstance(key, str) and hasattr(self, key)
    hint = f": write .{key} in place of [{key!r}]" if known else ""
    raise TypeError(f"a {type(self).__name__} has attributes, and no keys or items{hint}")


class NamesItself(msgspec.StructMeta):
    """Metaclass of value classes for users. If an argument is wrong, the error of the constructor lists the fields.

    msgspec's own errors contain neither the name of the class nor its fields. Decoding does not call the constructor,
    so this metaclass does not make decoding slower.
    """

    if not TYPE_CHECKING:

        def __call__(self, *args: Any, **fields: Any) -> Any:
            try:
                return super().__call__(*args, **fields)
            except TypeError as exc:
                if not str(exc).startswith(_NOT_THESE):
                    raise
                names = ", ".join(self.__struct_fields__)
                form = getattr(self, "_wrong", "{} accepts only keyword arguments ({}): {}")
                unknown = fields.keys() - set(self.__struct_fields__)
                near = [each for name in sorted(unknown) for each in _similar(name, self.__struct_fields__)]
                hint = f"; did you mean {near[0]}?" if near else ""
                raise TypeError(f"{form.format(self.__name__, names, exc)}{hint}") from None


_NOT_THESE = ("Extra positional", "Unexpected keyword", "Missing required")


def is_not_async(function: object) -> bool:
    """Return True if the result of a function certainly cannot be awaited, so that the function is not async.

    This is certain if the bytecode returns only constants, texts or new collections.
    """
    code = getattr(function, "__code__", None)
    generator = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
    if code is None or code.co_flags & (inspect.CO_COROUTINE | generator):
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
"""Bytecode instructions whose result cannot be awaited (Python 3.11 to 3.14)."""
