"""What a client has sent on one connection on HTTP/1.1's own way, and whether it is still there.

It is the connection's timer, too: the task that reads is one that waits for a deadline anyway. A scope for each wait
would cost a call three times as much.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import final

import trio

from .._rollout.answer import Condition
from .base_connection import BaseConnection

__all__ = ["Inbox"]

_START = b"POST /"
_BLANK_LINE = re.compile(rb"\n\r?\n")
_MAX_HEAD = 64 * 1024
"""Bytes; a longer head is hypercorn's, which has a cap of its own."""
_CONTROLS = 0x20
"""What is not above it begins no head: h11 refuses it at once."""
_READ_AHEAD = 256 * 1024
"""Bytes that may be read and not taken: the body of the request that is being read, or requests behind one that
waits, which are read for the sake of the hang-up."""


@final
class Inbox:
    """What the client has sent and nobody has taken, and whether it is still there."""

    def __init__(self, connection: BaseConnection) -> None:
        self.data = connection.ahead
        self.gone = False
        self._callback: Callable[[], None] | None = None
        self._timer = trio.CancelScope()
        self._due = inf
        self._at_due: Callable[[], None] | None = None
        self._connection = connection
        self._arrival = Condition()
        self._room = Condition()

    @trio.lowlevel.enable_ki_protection
    async def read(self) -> None:
        """Read until the client hangs up."""
        try:
            while not self.gone:
                with trio.CancelScope(deadline=self._due) as self._timer:
                    await self._read_on()
                if self._at_due is not None and self._due <= trio.current_time():
                    self._at_due()
                    self.call_at(inf)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.hang_up()

    def call_at(self, due: float, callback: Callable[[], None] | None = None) -> None:
        """Call this at that time, by trio's clock, and forget what was to be called before."""
        self._due, self._at_due = due, callback
        if due < self._timer.deadline:  # else it wakes too early, and waits again: that is cheaper
            self._timer.deadline = due

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call this when the client hangs up, or now if it has; None: nobody wants to know any more."""
        self._callback = callback
        if self.gone and callback is not None:
            callback()

    async def _read_on(self) -> None:
        """Read until the client hangs up. Cancellation: nothing is lost."""
        while True:
            while len(self.data) > _READ_AHEAD:
                await self._room.wait()
            if not await self._read_more():
                self.hang_up()
                return
            self._arrival.notify_all()

    async def _read_more(self) -> bool:
        """Whether something has come. (A function of its own, so that nothing holds it while the next is awaited.)"""
        if not self._connection.keyless:
            data = await self._connection.wire.receive()
            self.data += data
            return bool(data)
        data = await self._connection.receive_in_turn(len(self.data))
        self.data += data
        return bool(data)

    def hang_up(self) -> None:
        """The client is gone."""
        self.gone = True
        self._arrival.notify_all()
        if self._callback is not None:
            self._callback()

    async def arrival(self) -> None:
        """Until more has come, or the client is gone."""
        self._room.notify_all()
        await self._arrival.wait()

    async def take_head(self) -> bytes | None:
        """The bytes up to a blank line; None where there is none, or none that could be ours."""
        data, seen, begun = self.data, 0, False
        lines = counted = 0
        while True:
            while not (data or self.gone):
                await self.arrival()
            end = data.find(b"\r\n\r\n", seen)
            ours = data.startswith(_START[: len(data)]) and (end if end >= 0 else len(data)) <= _MAX_HEAD
            blank = _BLANK_LINE.search(data, max(0, seen - 2), end + 3 if end >= 0 else len(data))
            if blank is not None and blank.start() != end + 1:
                return None
            if not ours:
                lines, counted = lines + data.count(b"\n", counted), len(data)
                if blank is not None or not self._may_wait(lines):
                    return None
            if end >= 0:
                if begun:
                    self._connection.end_head()
                return self.take(end + 4)
            if self.gone:
                return None
            seen = max(0, len(data) - 3)
            if data:
                begun = True  # though it may be less than is looked at again
                self._connection.begin_head()
                self._connection.hold(len(data))
            await self.arrival()

    def _may_wait(self, lines: int) -> bool:
        """Whether the head of a stranger, though hypercorn's, may wait here for its end, where that costs a tenth: it
        is no longer than hypercorn allows, which would not refuse it for its beginning either."""
        data, limits = self.data, self._connection.limits
        return (
            self._connection.keyless
            and len(data) <= min(limits.head_bytes, _READ_AHEAD)
            and data[0] > _CONTROLS
            and lines <= limits.head_lines
        )

    def take(self, most: int) -> bytes:
        """As much as there is, of so many bytes."""
        if most >= len(self.data):
            taken = bytes(self.data)
            self.data.clear()
            return taken
        with memoryview(self.data) as view:
            taken = bytes(view[:most])
        del self.data[:most]
        return taken

    def put_back(self, data: bytes) -> None:
        """The opposite of `take`."""
        self.data[:0] = data
