"""Who is let in: how many connections at once, for how long one that has shown no key, and what may wait of them all.

Rules:

1. A connection that has shown a key of this endpoint may idle for as long as its rollout lives: agents think. Then it
   is one without a key again.
2. Where there is no more room, that connection goes which has been here longest without a key. Where there is none, the
   new one is told 503.
3. What is held for connections without a key (heads, what comes behind them) is weighed as it is read, wherever it
   waits then. Over `MOST_HELD` that connection goes which has held something for longest, with what it held.
4. The limits of time are the same for all, so whoever came first is due first: two queues, and one task that sleeps
   until the first in them is due. A request costs no timer, and a connection that has shown its key none either.
5. Strangers take turns: connections that have shown no key are read a few at a time. Thousands that send at once would
   else be read in one turn of the event loop, and nobody else has one meanwhile. Who has shown a key never waits there.
6. A turn lasts for one piece and one schedule point: what was read is looked at before more of others is.
7. Requests without a key take turns to be served, too, one at a time, behind the connections that can be accepted and
   those that begin. So a crowd waits to be served, where a request with a key does not wait, and not before that.
8. First come connections that have not begun anything and have not sent a request without a key. An agent's first
   piece has its key: an agent that comes new waits for other beginners alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeVar, final

import msgspec
import trio

from .._util.limits import EndpointLimits
from ..errors import Refusal
from .notices import Notices

if TYPE_CHECKING:
    from .._rollout.rollout_state import RolloutState

T = TypeVar("T")

MOST_KEYLESS = 8_192
"""Connections without a key, each some 20 KB; a process may have a million descriptors."""
MOST_HELD = 8 * 1024 * 1024
"""Bytes, of all connections without a key. They are read a few at a time (`Turns`), and those that show one are out of
the count before others are read: so it is what is left of heads and bodies without an end."""
MOST_ROUNDS = 16
"""Times that a request without a key lets connections that are accepted, or begin, go first."""
ANY_SYSTEM = 1_024
"""Descriptors of a process, where the system does not say how many it may have."""


class Guest(Protocol):
    """A connection, as the door sees it."""

    def cut(self, *, late: bool = False) -> None:
        """Close it at once; `late`: in the middle of a head, with 408."""


@final
class Admission:
    """The connections of one endpoint."""

    def __init__(self, limits: EndpointLimits) -> None:
        self.limits = limits
        self.notices = Notices()
        self.waiting = Waiting(limits.waiting_bytes, limits.body_seconds)
        self.reading = Turns(AT_ONCE)
        self.serving = Turns(1)
        self._most = limits.connections or _descriptors() * 3 // 4
        self._open: set[Guest] = set()
        self._entered = 0
        """Connections that were ever accepted."""
        self._keyless: dict[Guest, float] = {}
        """Since when."""
        self._heads: dict[Guest, float] = {}
        """Those in the middle of a head, and since when."""
        self._held: dict[Guest, int] = {}
        """Bytes; of those that have sent any, in the order of their first."""
        self._bytes_held = 0
        self._timer = trio.CancelScope()

    def make_room(self) -> bool:
        """Whether one more may come; if need be another one goes."""
        if len(self._open) < self._most:
            return len(self._keyless) < MOST_KEYLESS or self.shed()
        return self.shed()

    def enter(self, guest: Guest) -> None:
        """A new connection."""
        self._open.add(guest)
        self._entered += 1
        self._keyless[guest] = now = trio.current_time()
        self._be_awake_at(now + self.limits.keyless_seconds)

    def leave(self, guest: Guest) -> None:
        """It is closed."""
        self._open.discard(guest)
        self.admit(guest)
        self.end_head(guest)

    def expire(self, guest: Guest) -> None:
        """The rollout has ended whose key it has shown: it is as a new connection."""
        if guest in self._open:
            self._keyless[guest] = now = trio.current_time()
            self._be_awake_at(now + self.limits.keyless_seconds)

    def admit(self, guest: Guest) -> None:
        """It has shown a key that opens something here."""
        self._keyless.pop(guest, None)
        self._bytes_held -= self._held.pop(guest, 0)

    async def wait_to_serve(self, *, begins: bool) -> None:
        """Wait until a request without a key may be served.

        Args:
            begins: as of `Turns.begin`.

        Cancellation: immediate.
        """
        await self.serving.begin(begins=begins)
        try:
            for _ in range(MOST_ROUNDS):
                entered = self._entered
                for _ in range(2):  # two turns of the event loop: within one, tasks run in any order
                    await trio.lowlevel.checkpoint()
                if entered == self._entered and not self.reading.crowded:
                    break
        finally:
            self.serving.give_back()

    def begin_head(self, guest: Guest) -> None:
        """A head has begun, if it had not, and its end was not there."""
        if guest not in self._heads:
            self._heads[guest] = now = trio.current_time()
            self._be_awake_at(now + self.limits.head_seconds)

    def end_head(self, guest: Guest) -> None:
        """It is whole, or given up."""
        self._heads.pop(guest, None)

    def hold(self, guest: Guest, count: int) -> None:
        """So many bytes are held for it now; no matter where it has shown its key."""
        if guest not in self._keyless:
            return
        self._bytes_held += count - self._held.get(guest, 0)
        if count:
            self._held[guest] = count
        else:
            self._held.pop(guest, None)
        while self._bytes_held > MOST_HELD:
            self.notices.warn("held", "over %d bytes of connections without a key: one is closed", MOST_HELD)
            self._cut(next(iter(self._held)), late=True)

    def shed(self) -> bool:
        """Close the connection that has been here longest without a key; whether there was one."""
        guest = next(iter(self._keyless), None)
        if guest is None:
            return False
        self.notices.warn("shed", "no room for a further connection: one without a key is closed")
        self._cut(guest)
        return True

    @trio.lowlevel.enable_ki_protection
    async def watch(self) -> None:
        """Close what is overdue, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._next_due()) as self._timer:
                await trio.sleep_forever()
            self._cut_overdue()

    def _next_due(self) -> float:
        keyless = next(iter(self._keyless.values()), inf) + self.limits.keyless_seconds
        return min(keyless, next(iter(self._heads.values()), inf) + self.limits.head_seconds)

    def _be_awake_at(self, time: float) -> None:
        if time < self._timer.deadline:  # else it wakes too early, and naps again: that is cheaper
            self._timer.deadline = time

    def _cut_overdue(self) -> None:
        now = trio.current_time()
        for since, seconds, what in (
            (self._heads, self.limits.head_seconds, "a head was not whole after"),
            (self._keyless, self.limits.keyless_seconds, "a connection has shown no key for"),
        ):
            for guest, begun in tuple(since.items()):
                if begun + seconds > now:
                    break
                self.notices.warn(what, f"{what} %g s: it is closed", seconds)
                self._cut(guest, late=True)

    def _cut(self, guest: Guest, *, late: bool = False) -> None:
        late = late and guest in self._heads
        self.leave(guest)
        guest.cut(late=late)


def _descriptors() -> int:
    """How many descriptors the process may open."""
    if sys.platform == "win32":
        return ANY_SYSTEM
    import resource  # there is none on Windows

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ANY_SYSTEM * 1024 if most == resource.RLIM_INFINITY else most


AT_ONCE = 4
"""Connections that are read in one turn of the event loop: 64 KiB, and what comes of them. A request to Quart takes a
millisecond; to close a connection whose client goes on sending takes the kernel as much."""


@final
class Turns:
    """The turns of all connections without a key to do one thing.

    Args:
        most: of them that do it in one turn of the event loop.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._beginners = trio.lowlevel.ParkingLot()
        self._others = trio.lowlevel.ParkingLot()

    async def begin(self, *, begins: bool) -> None:
        """Wait for a turn, which is to be given back by `end`. No schedule point where one is free.

        Args:
            begins: the connection is in the middle of nothing, and has sent no request without a key.

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
            self.give_back()

    @property
    def crowded(self) -> bool:
        """True if connections that begin wait for a turn."""
        return bool(self._beginners)

    def give_back(self) -> None:
        """Give a turn back at once."""
        if not (self._beginners.unpark() or self._others.unpark()):
            self._free += 1


@final
class Waiting:
    """The bodies and websocket messages that were received and are not parsed yet.

    Args:
        most: bytes.
        seconds: in which something more of a body has to come.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.bytes = 0
        self.most = most
        self.seconds = seconds
        self.of: Counter[RolloutState] = Counter()
        """The bytes of each rollout that has some."""
        self.first: dict[RolloutState, Share] = {}
        """The oldest of each, which always has room."""


@final
class Share(msgspec.Struct):
    """Those of one request."""

    waiting: Waiting
    rollout: RolloutState
    bytes: int = 0
    """How many were added. A body that came at once is none: it is small."""

    def add(self, count: int) -> None:
        """Add so many bytes. The first body of a rollout always has room.

        Raises:
            Refusal: 503, there would be too many in all, or more than half of that of one rollout. All are released.
        """
        waiting = self.waiting
        of_rollout = waiting.of[self.rollout] + count
        if waiting.first.setdefault(self.rollout, self) is not self and (
            waiting.bytes + count > waiting.most or of_rollout > waiting.most // 2
        ):
            self.release()
            raise no_room()
        waiting.bytes += count
        waiting.of[self.rollout] = of_rollout
        self.bytes += count

    def release(self) -> None:
        """They are parsed, or thrown away."""
        waiting = self.waiting
        if waiting.first.get(self.rollout) is self:
            del waiting.first[self.rollout]
        if not self.bytes:
            return
        waiting.bytes -= self.bytes
        waiting.of[self.rollout] -= self.bytes
        self.bytes = 0
        if not waiting.of[self.rollout]:
            del waiting.of[self.rollout]

    async def next(self, receive: Callable[[], Awaitable[T]]) -> T:
        """Wait for a further piece of the body: no longer than its rollout lives.

        Raises:
            Refusal: the rollout has ended; or 408, nothing has come in time. All bytes are released.
        """
        rollout, seconds = self.rollout, self.waiting.seconds
        if not rollout.ended.is_set():
            with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
                rollout.on_end.add(scope.cancel)
                try:
                    return await receive()
                finally:
                    rollout.on_end.discard(scope.cancel)
        self.release()
        if rollout.ended.is_set() and rollout.ending is not None:
            raise rollout.ending.with_traceback(None)
        raise Refusal(408, f"the body is not whole, and nothing more of it has come for {seconds:g} s")


def no_room() -> Refusal:
    """The refusal of a body for which there is no room."""
    return Refusal(503, "too many bytes of requests wait here already", retry_after=1)
