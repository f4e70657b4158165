"""Strangers take turns: connections that have shown no key are read a few at a time.

Thousands that send at once would else be read in one turn of the event loop, and nobody else has one meanwhile.

Rules:

1. Who has shown a key never waits here.
2. A turn lasts for one piece and one schedule point: what was read is looked at before more of others is.
3. Who is in the middle of something goes behind those who are not. An agent's first piece has its key, and so an agent
   that comes new waits for other beginners alone, and not for all heads that have no end.
"""

from __future__ import annotations

from typing import final

import trio

__all__ = ["AT_ONCE", "Turns"]

AT_ONCE = 4
"""Connections that are read in one turn of the event loop: 64 KiB, and what comes of them. A request to Quart takes a
millisecond; to close a connection whose client goes on sending takes the kernel as much."""


@final
class Turns:
    """Those of one endpoint."""

    def __init__(self) -> None:
        self._free = AT_ONCE
        self._beginners = trio.lowlevel.ParkingLot()
        self._others = trio.lowlevel.ParkingLot()

    async def begin(self, *, begins: bool) -> None:
        """Wait for a turn, which is to be given back by `end`. No schedule point where one is free.

        Args:
            begins: it is in the middle of nothing.

        Cancellation: there was no turn.
        """
        if self._free:
            self._free -= 1
        else:
            await (self._beginners if begins else self._others).park()

    async def end(self) -> None:
        """Give it back, behind a schedule point.

        Cancellation: not here. What was read is still in nobody's hands.
        """
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        if not (self._beginners.unpark() or self._others.unpark()):
            self._free += 1
