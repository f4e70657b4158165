"""What a fault is, whatever it says: a value, and a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import signature
from typing import TypeAlias

from ..._rollout.exchange import Exchange

__all__ = ["Act", "BaseFault"]

Act: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""What a fault does to a call."""


class BaseFault:
    """A value, and a handler.

    Args:
        name: that of its constructor.
        arguments: what it was made with.
        act: what it does.
    """

    __slots__ = ("_act", "arguments", "name")

    name: str
    """That of its constructor."""
    arguments: Mapping[str, object]
    """What it was made with, where that is not the default."""
    _act: Act

    def __init__(self, name: str, arguments: Mapping[str, object], act: Act) -> None:
        takes = signature(getattr(type(self), name)).parameters
        given = {key: value for key, value in arguments.items() if value != takes[key].default}
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", given)
        object.__setattr__(self, "_act", act)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a fault is a value: its {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a fault is a value: its {name} cannot be deleted")

    def __repr__(self) -> str:
        return f"Fault.{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseFault) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a call so.

        Raises:
            ValueError: the agent's connection has no word for it: HTTP/2 none for bytes without a head, a websocket
                none for a status.
            AlreadySettled, ExchangeAbandoned: as `exchange.respond`.

        Cancellation: as `exchange.respond`.
        """
        await self._act(exchange)
