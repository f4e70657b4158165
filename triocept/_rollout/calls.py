"""The connections of one rollout, and the exchanges that they wait for.

The rule of retries, for calls that say the same to the model (see `retries`) in the same conversation:

1. One that comes while the other runs joins it, and reads its answer from the start. While a connection still waits
   for that one it takes more to tell a retry from an agent that samples several answers at once: a mark, or the agent's
   own name of the conversation (the SDKs, which have none, count their retries; so theirs that say they are none are
   none).
2. One that comes after the other was answered gets that answer again if no connection has got all of it, or if the
   client marks it as a retry: an answer that is there goes before one that is still made, and the oldest that nobody is
   being given before any other.
3. Any other is an exchange of its own: a repetition is no retry, and what was refused, failed or abandoned is asked
   anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import trio

from .._canonical.request import Request
from .._trace.turn import Turn
from .alike import Alike
from .answer import Answer, Condition, Subscription
from .exchange_core import ExchangeCore
from .outcome import Answered
from .retries import Retry, meaning

__all__ = ["Calls", "Deliver", "OnRetry"]

OnRetry: TypeAlias = Literal["join", "new"]
"""What becomes of a call that repeats another."""
Deliver: TypeAlias = Callable[[Subscription], Awaitable[None]]
"""Writes an answer to the connection that waits for it, to its end; ClientGone if the client has hung up before."""

KEPT_ANSWERS = 64
"""How many of the last answers a retry can get again: those that nobody has got are kept longest. They are those of the
trace, not copies."""


@dataclass(eq=False, slots=True)
class _Ended:
    """An exchange that has ended."""

    retry_key: Hashable
    request: Request
    answer: Answer | None
    """None: it was not answered."""
    _meaning: bytes | None = None

    @property
    def is_undelivered(self) -> bool:
        """Whether it has an answer that no connection has got."""
        return self.answer is not None and not self.answer.delivered

    def says(self, wanted: bytes) -> bool:
        """Whether it was asked what has this meaning; read once, and no sooner than somebody asks."""
        if self._meaning is None:
            self._meaning = meaning(self.request)
        return self._meaning == wanted


class _Latest:
    """The exchanges of a rollout that have ended last. An answer that nobody has got is the last to go."""

    def __init__(self) -> None:
        self._kept: dict[_Ended, None] = {}
        """In order."""
        self._by_key: dict[Hashable, list[_Ended]] = {}
        self._undelivered: list[_Ended] = []
        """Those of them whose answer nobody had got when the latest ended, in order: each call looks through these, and
        not through the many of one key that an agent has that samples."""

    def __iter__(self) -> Iterator[_Ended]:
        return iter(self._kept)

    def __contains__(self, retry_key: Hashable) -> bool:
        return retry_key in self._by_key

    def add(self, ended: _Ended) -> None:
        self._kept[ended] = None
        if (same := self._by_key.get(ended.retry_key)) is None:
            self._by_key[ended.retry_key] = [ended]
        else:
            same.append(ended)
        if self._undelivered:
            self._undelivered = [one for one in self._undelivered if one.is_undelivered]
        if ended.is_undelivered:
            self._undelivered.append(ended)
        if len(self._kept) > KEPT_ANSWERS:
            self._discard(self._first_to_go(ended))

    def lost(self, request: Request, retry_key: Hashable, *, attended: bool) -> Answer | None:
        """The oldest answer to the same that no connection has got: one that nobody waits for, or that is being given
        to somebody."""
        return _first(
            request,
            (
                one
                for one in self._undelivered
                if one.answer is not None
                and not one.answer.delivered
                and one.answer.attended == attended
                and one.retry_key == retry_key
            ),
        )

    def newest(self, request: Request, retry_key: Hashable) -> Answer | None:
        """That of the newest exchange that said the same, if it has one."""
        return _first(request, reversed(self._by_key.get(retry_key, ())))

    def _first_to_go(self, newest: _Ended) -> _Ended:
        for one in self._kept:
            if one is not newest and not one.is_undelivered:
                return one
        return next(iter(self._kept))

    def _discard(self, ended: _Ended) -> None:
        del self._kept[ended]
        if ended in self._undelivered:
            self._undelivered.remove(ended)
        same = self._by_key[ended.retry_key]
        same.remove(ended)
        if not same:
            del self._by_key[ended.retry_key]


def _first(request: Request, known: Iterable[_Ended]) -> Answer | None:
    """The answer of the first of them that said the same; what a call says is read once there is one to compare."""
    said: bytes | None = None
    for one in known:
        said = meaning(request) if said is None else said
        if one.says(said):
            return one.answer
    return None


class Calls:
    """What waits in one rollout, and what was answered last."""

    def __init__(self, on_retry: OnRetry) -> None:
        self.on_retry: OnRetry = on_retry
        self._open: dict[Hashable, Alike] = {}
        self._latest = _Latest()
        self._subscriptions: set[Subscription] = set()
        self._left = Condition()

    @property
    def open(self) -> tuple[ExchangeCore, ...]:
        """The exchanges that are not recorded yet."""
        return tuple(exchange for alike in self._open.values() for exchange in alike.exchanges)

    @property
    def connections(self) -> int:
        """How many connections wait."""
        return len(self._subscriptions)

    def find(
        self, request: Request, retry_key: Hashable, retry: Retry, *, named: bool
    ) -> ExchangeCore | Answer | None:
        """What a call has to share: a running exchange, or an answer; None if it gets an exchange of its own.

        `named`: whether the agent has said which conversation it belongs to.
        """
        if self.on_retry == "new":
            return None
        proven = retry is Retry.MARKED or (retry is Retry.UNKNOWN and named)
        latest = self._latest
        if retry_key in latest and (answer := latest.lost(request, retry_key, attended=False)) is not None:
            return answer
        alike = self._open.get(retry_key)
        if alike is not None and (other := alike.find(request, proven=proven)) is not None:
            return other
        if proven and (answer := latest.lost(request, retry_key, attended=True)) is not None:
            return answer
        return latest.newest(request, retry_key) if retry is Retry.MARKED else None

    def add(self, exchange: ExchangeCore) -> None:
        """It begins."""
        if (alike := self._open.get(exchange.retry_key)) is None:
            alike = self._open[exchange.retry_key] = Alike()
        alike.add(exchange)

    def end(self, exchange: ExchangeCore, turn: Turn | None) -> None:
        """It has its outcome, and this turn, unless it could not be recorded."""
        alike = self._open[exchange.retry_key]
        alike.discard(exchange)
        if not alike.exchanges:
            del self._open[exchange.retry_key]
        if self.on_retry == "join":
            answered = turn is not None and isinstance(exchange.answer.outcome, Answered)
            request = turn.request if turn is not None else exchange.request
            self._latest.add(_Ended(exchange.retry_key, request, exchange.answer if answered else None))

    def enter(self, subscription: Subscription) -> None:
        """One more connection waits, with this subscription."""
        self._subscriptions.add(subscription)

    def leave(self, subscription: Subscription, exchange: ExchangeCore | None) -> None:
        """The wait is over; that for `exchange`, if it was for one that had not ended."""
        self._subscriptions.discard(subscription)
        alike = self._open.get(exchange.retry_key) if exchange is not None else None
        if alike is not None and exchange in alike.exchanges:
            alike.lose(exchange)
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
