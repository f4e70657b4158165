"""The base class of faults. A fault is a value, and also a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from inspect import getmembers, ismethod, signature
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from ..._rollout.exchange import Exchange

Act: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""A function that applies a fault to a call."""


_CALLED_OTHERWISE = {
    "rate_limit": "status(429)",
    "overloaded": "status(529)",
    "server_error": "status(500)",
    "timeout": "stall()",
    "disconnect": "close()",
}
"""Names that users may confuse with constructors of `Fault`, such as keywords of `chaos`, each with the right
constructor.
"""


class FaultType(type):
    """Metaclass of faults. For an unknown constructor, the metaclass raises an error that suggests the right name."""

    if not TYPE_CHECKING:  # type checkers must report names that do not exist

        def __getattr__(cls, name: str) -> NoReturn:
            known = [each for each, maker in getmembers(cls, ismethod) if not each.startswith("_")]
            near = _CALLED_OTHERWISE.get(name) or "".join(get_close_matches(name.lower(), known, 1))
            hint = f"; did you mean Fault.{near}?" if near else f"; the faults are {', '.join(known)}"
            raise AttributeError(f"there is no Fault.{name}{'' if name.startswith('_') else hint}")


class BaseFault(metaclass=FaultType):
    """Base class of faults. A fault is an immutable value, and also a handler that makes a model call fail.

    Args:
        name: name of the constructor.
        arguments: arguments of the constructor.
        act: the function that applies the fault to a call.
    """

    __slots__ = ("_act", "arguments", "name")

    name: str
    """Name of the constructor."""
    arguments: Mapping[str, object]
    """Arguments of the constructor that differ from the defaults."""
    _act: Act

    def __init__(self, name: str = "", arguments: object = None, act: Act | None = None) -> None:
        if act is None or not isinstance(arguments, Mapping):
            raise TypeError("create a fault by its name, as in Fault.status(429) or Fault.cut(after=2)")
        takes = signature(getattr(type(self), name)).parameters
        given = {key: value for key, value in arguments.items() if value != takes[key].default}
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", given)
        object.__setattr__(self, "_act", act)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Fault is immutable: its {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Fault is immutable: its {name} cannot be deleted")

    def __repr__(self) -> str:
        return f"Fault.{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseFault) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a call with this fault.

        Raises:
            ValueError: the fault is impossible on the agent's connection: for example, a call over a websocket gets no
                HTTP status.
            AlreadySettled, ExchangeAbandoned: as in `exchange.respond`.

        Cancellation: as in `exchange.respond`.
        """
        await self._act(exchange)
