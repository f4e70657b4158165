"""The connections of one rollout, and the exchanges that they wait for.

The rule of retries, for calls that say the same to the model (see `retries`) in the same conversation:

1. One that comes while the other runs joins it, and reads its answer from the start. While a connection still waits
   for that one it takes more to tell a retry from an agent that samples several answers at once: a mark, or the agent's
   own name of the conversation (the SDKs, which have none, count their retries; so theirs that say they are none are
   none).
2. One that comes after the other was answered gets that answer again if no connection has got all of it, or if the
   client marks it as a retry.
3. Any other is an exchange of its own: a repetition is no retry, and what was refused, failed or abandoned is asked
   anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from .._canonical.request import Request
from .._trace.turn import Turn
from .answer import Answer, Subscription
from .condition import Condition
from .outcome import Answered
from .retries import Retry, same_request

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["Calls", "Deliver", "OnRetry"]

OnRetry: TypeAlias = Literal["join", "new"]
"""What becomes of a call that repeats another."""
Deliver: TypeAlias = Callable[[Subscription], Awaitable[None]]
"""Writes an answer to the connection that waits for it, to its end; ClientGone if the client has hung up before."""

KEPT_ANSWERS = 64
"""How many of the last answers a retry can get again. They are those of the trace, not copies."""


@dataclass(frozen=True)
class _Ended:
    """The last exchange of its retry_key that has ended."""

    request: Request
    answer: Answer


class Calls:
    """What waits in one rollout, and what was answered last."""

    def __init__(self, on_retry: OnRetry) -> None:
        self.on_retry: OnRetry = on_retry
        self._open: dict[Hashable, dict[Exchange, None]] = {}
        self._lost: set[Exchange] = set()
        """Those of them that some connection has left."""
        self._ended: dict[Hashable, _Ended] = {}
        self._subscriptions: set[Subscription] = set()
        self._left = Condition()

    @property
    def open(self) -> tuple[Exchange, ...]:
        """The exchanges that are not recorded yet."""
        return tuple(exchange for alike in self._open.values() for exchange in alike)

    @property
    def connections(self) -> int:
        """How many connections wait."""
        return len(self._subscriptions)

    def find(
        self, request: Request, retry_key: Hashable, retry: Retry, *, named: bool
    ) -> Exchange | Answer | None:
        """What a call has to share: a running exchange, or an answer; None if it gets an exchange of its own.

        `named`: whether the agent has said which conversation it belongs to.
        """
        if self.on_retry == "new":
            return None
        proven = retry is Retry.MARKED or (retry is Retry.UNKNOWN and named)
        alike = self._open.get(retry_key, {})
        lost = [exchange for exchange in self._lost if exchange in alike and not exchange._answer.attended]
        for other in (*lost, *alike) if proven else lost:
            if (not other.settled or isinstance(other._outcome, Answered)) and same_request(
                request, other.request
            ):
                return other
        ended = self._ended.get(retry_key)
        if ended is None or not isinstance(ended.answer.outcome, Answered):
            return None
        undelivered = not ended.answer.delivered and (proven or not ended.answer.attended)
        wanted = undelivered or retry is Retry.MARKED
        return ended.answer if wanted and same_request(request, ended.request) else None

    def add(self, exchange: Exchange) -> None:
        """It begins."""
        self._open.setdefault(exchange._retry_key, {})[exchange] = None

    def end(self, exchange: Exchange, turn: Turn | None) -> None:
        """It has its outcome, and this turn, unless it could not be recorded."""
        alike = self._open[exchange._retry_key]
        del alike[exchange]
        if not alike:
            del self._open[exchange._retry_key]
        self._lost.discard(exchange)
        self._ended.pop(exchange._retry_key, None)
        if turn is not None and self.on_retry == "join":
            self._ended[exchange._retry_key] = _Ended(turn.request, exchange._answer)
            if len(self._ended) > KEPT_ANSWERS:
                del self._ended[next(iter(self._ended))]

    def enter(self, subscription: Subscription) -> None:
        """One more connection waits, with this subscription."""
        self._subscriptions.add(subscription)

    def leave(self, subscription: Subscription, exchange: Exchange | None) -> None:
        """The wait is over; that for `exchange`, if it was for one that had not ended."""
        self._subscriptions.discard(subscription)
        if exchange is not None and exchange in self._open.get(exchange._retry_key, ()):
            self._lost.add(exchange)
        self._left.notify_all()

    async def see_out(self, seconds: float) -> None:
        """Wait until no connection waits any more; break off what still does after so long."""
        with trio.move_on_after(seconds):
            await self._wait()
        for subscription in self._subscriptions:
            subscription.hang_up()
        await self._wait()

    async def _wait(self) -> None:
        while self._subscriptions:
            await self._left.wait()
