"""The exchanges of one rollout that nobody has taken yet."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import trio

from .exchange_core import ExchangeCore

__all__ = ["Arrivals"]

log = logging.getLogger("triocept.rollout")

FORGOTTEN = 5.0
"""Seconds after which the first exchange that nobody takes is one that nobody will take."""
GIVEN_UP = 30.0
"""Seconds after which that is sure. A program that plays its agent itself, in the thread that was to take the exchange,
would wait for its SDK's own limit: ten minutes, three times (openai 3.57)."""


class Arrivals:
    """A queue without an end of its own: what waits in it are connections, each with one exchange."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[ExchangeCore, None] = OrderedDict()
        """In order; of a dict the first is not found at once where many before it were taken."""
        self._closed = False
        self._last = False
        """No exchange comes any more; those that wait are still to be taken."""
        self._take: Callable[[ExchangeCore], None] | None = None
        self._lot = trio.lowlevel.ParkingLot()
        self._asked = False
        """Somebody takes exchanges, or has taken one."""
        self._first = trio.Event()
        """One came that nobody took."""
        self._watch = trio.CancelScope()

    def put(self, exchange: ExchangeCore) -> None:
        """It waits to be taken, or is taken on the spot."""
        if self._take is not None:
            exchange.handed_over = True
            self._take(exchange)
        else:
            self._waiting[exchange] = None
            self._lot.unpark()
            if not self._asked:
                self._first.set()

    def put_back(self, exchange: ExchangeCore) -> None:
        """It was taken, and did not reach whoever asked: the next one gets it, before all others."""
        if not (exchange.settled or self._closed):
            exchange.handed_over = False
            self._waiting[exchange] = None
            self._waiting.move_to_end(exchange, last=False)
            self._lot.unpark()

    def discard(self, exchange: ExchangeCore) -> None:
        """It has its outcome, and is not to be taken any more."""
        self._waiting.pop(exchange, None)

    @trio.lowlevel.enable_ki_protection
    async def next(self) -> ExchangeCore | None:
        """The next exchange; None where there will be no more.

        Cancellation: nothing is taken.
        """
        self._asked = True
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._waiting or self._closed or self._last:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._closed:
            if self._waiting:
                exchange, _ = self._waiting.popitem(last=False)
                exchange.handed_over = True
                return exchange
            if self._last:
                break
            await self._lot.park()
        return None

    @property
    def taken_at_once(self) -> bool:
        """Whether `hand_all_to` is at work."""
        return self._take is not None

    async def hand_all_to(self, take: Callable[[ExchangeCore], None]) -> None:
        """Give every exchange to `take`, those that wait first, then each the moment it comes; until the end."""
        self._asked = True
        for exchange in tuple(self._waiting):
            self.discard(exchange)
            exchange.handed_over = True
            take(exchange)
        self._take = take
        try:
            while not (self._closed or self._last):
                await self._lot.park()
        finally:
            self._take = None

    def finish(self) -> None:
        """No exchange comes any more; those that wait are still to be taken."""
        self._last = True
        self._lot.unpark_all()

    def close(self) -> None:
        """No exchange comes any more, and none is to be taken."""
        self._closed = True
        self._lot.unpark_all()
        self._watch.cancel()

    @trio.lowlevel.enable_ki_protection
    async def forgotten(self, rollout_id: str) -> bool:
        """Say so once if an exchange waits, and nobody has ever asked for one: its agent hangs, without a word.

        Returns:
            True: it has waited for `GIVEN_UP`. False: the rollout has ended, or somebody takes them.
        """
        with self._watch:
            await self._first.wait()
            await trio.sleep(FORGOTTEN)
            if not self._asked:
                log.warning(
                    "rollout %s: for %g s a call of its agent has waited, and nobody takes it: give open_rollout a "
                    "handler, or iterate over the rollout (`async for exchange in rollout`)",
                    rollout_id,
                    FORGOTTEN,
                )
                await trio.sleep(GIVEN_UP - FORGOTTEN)
                return not self._asked
        return False
