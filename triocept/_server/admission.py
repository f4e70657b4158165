"""Admission control: limits on connections, on their time without a key, and on the bytes that wait.

Rules:

1. An authenticated connection (it has sent a key of this endpoint) may idle for as long as its rollout lives:
   agents think. When the rollout ends, the connection counts as keyless again.
2. At the limit of connections, the oldest keyless connection is closed. If every connection is authenticated, the
   new one is answered with 503.
3. Bytes held for keyless connections (heads, and what follows them) are counted as they are read, wherever they wait
   afterwards. Above `MOST_HELD`, the connection that has held bytes for longest is closed and its bytes are discarded.
4. The time limits are equal for all connections, so deadlines come in the order of arrival: two queues, and one task
   that sleeps until the first deadline. A request needs no timer, and neither does an authenticated connection.
5. Keyless connections are read a few at a time. Otherwise thousands that send at once would all be read in one
   turn of the event loop, and no other task would run meanwhile. Authenticated connections never wait there.
6. A turn lasts for one piece and one schedule point: the piece is processed before pieces of other connections are.
7. Requests without a key are also served one at a time, after the connections that can be accepted and those that
   begin. So a crowd of them waits only at this point, where a request with a key does not wait.
8. Connections that have not begun anything and have not sent a request without a key come first. An agent's first
   piece contains its key, so a new agent waits only for other beginners.
9. A time limit ends nothing before other tasks have run for a moment after it. A program may block the event loop
   for longer than any limit; whatever arrived meanwhile is read first. That moment is counted in turns of the event
   loop, and not in seconds: the handlers of the first requests may block it again before the next ones are read.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeVar, final

import msgspec
import trio

from .._util.limits import MOMENT, MOMENT_TURNS, EndpointLimits, pass_moment, wait_turns
from ..errors import Refusal
from .notices import Notices

if TYPE_CHECKING:
    from .._rollout.rollout_state import RolloutState

T = TypeVar("T")

MOST_KEYLESS = 8_192
"""Maximum keyless connections. Each takes some 20 KB; a process may have a million descriptors."""
MOST_HELD = 8 * 1024 * 1024
"""Maximum bytes held for all keyless connections.

Connections are read a few at a time (`Turns`), and a connection that sends its key leaves the count before others
are read. So this limits the heads and bodies that never end.
"""
MOST_ROUNDS = 16
"""Maximum times that a request without a key waits for connections that are accepted, or begin."""
ANY_SYSTEM = 1_024
"""Descriptors that a process is assumed to have where the system does not report the limit."""


class Guest(Protocol):
    """The interface of a connection for `Admission`."""

    def cut(self, *, late: bool = False) -> None:
        """Close the connection at once; `late`: in the middle of a head, with 408."""


@final
class Admission:
    """The admission state of all connections of one endpoint."""

    def __init__(self, limits: EndpointLimits) -> None:
        self.limits = limits
        self.notices = Notices()
        self.waiting = Waiting(limits.waiting_bytes, limits.body_seconds)
        self.reading = Turns(AT_ONCE)
        self.serving = Turns(1)
        self._most = limits.connections or _descriptors() * 3 // 4
        self._open: set[Guest] = set()
        self._entered = 0
        """Number of connections accepted so far."""
        self._keyless: dict[Guest, float] = {}
        """Keyless connections, each with the time since when it has had no key."""
        self._heads: dict[Guest, float] = {}
        """Connections in the middle of a head, each with the time when the head began."""
        self._held: dict[Guest, int] = {}
        """Bytes held for each connection that has sent any, in the order of its first byte."""
        self._bytes_held = 0
        self._timer = trio.CancelScope()

    def has_capacity(self) -> bool:
        """Return True if one more connection may be accepted; close a keyless connection if necessary."""
        if len(self._open) < self._most:
            return len(self._keyless) < MOST_KEYLESS or self.shed()
        return self.shed()

    def enter(self, guest: Guest) -> None:
        """Register a new connection."""
        self._open.add(guest)
        self._entered += 1
        self._keyless[guest] = now = trio.current_time()
        self._be_awake_at(now + self.limits.keyless_seconds)

    def leave(self, guest: Guest) -> None:
        """Remove a closed connection."""
        self._open.discard(guest)
        self.admit(guest)
        self.end_head(guest)

    def expire(self, guest: Guest) -> None:
        """Count the connection as keyless again: the rollout of its key has ended."""
        if guest in self._open:
            self._keyless[guest] = now = trio.current_time()
            self._be_awake_at(now + self.limits.keyless_seconds)

    def admit(self, guest: Guest) -> None:
        """Count the connection as authenticated: it has sent a valid key."""
        self._keyless.pop(guest, None)
        self._bytes_held -= self._held.pop(guest, 0)

    async def wait_to_serve(self, *, begins: bool) -> None:
        """Wait until a request without a key may be served (`begins`: see `Turns.begin`). Cancellation: immediate."""
        await self.serving.begin(begins=begins)
        try:
            for _ in range(MOST_ROUNDS):
                entered = self._entered
                await wait_turns(2)  # within a turn, tasks run in any order
                if entered == self._entered and not self.reading.crowded:
                    break
        finally:
            self.serving.give_back()

    def begin_head(self, guest: Guest) -> None:
        """Record that a head has begun and is incomplete; keep the time of an earlier call."""
        if guest not in self._heads:
            self._heads[guest] = now = trio.current_time()
            self._be_awake_at(now + self.limits.head_seconds)

    def end_head(self, guest: Guest) -> None:
        """Record that the head is complete, or given up."""
        self._heads.pop(guest, None)

    def hold(self, guest: Guest, count: int) -> None:
        """Record how many bytes are held for a connection; ignored if it is authenticated."""
        if guest not in self._keyless:
            return
        self._bytes_held += count - self._held.get(guest, 0)
        if count:
            self._held[guest] = count
        else:
            self._held.pop(guest, None)
        while self._bytes_held > MOST_HELD:
            self.notices.warn(
                "held", "unauthenticated connections hold over %d bytes: the oldest is closed", MOST_HELD
            )
            self._cut(next(iter(self._held)), late=True)

    def shed(self) -> bool:
        """Close the oldest keyless connection; return True if there was one."""
        guest = next(iter(self._keyless), None)
        if guest is None:
            return False
        self.notices.warn("shed", "too many connections are open: the oldest unauthenticated one is closed")
        self._cut(guest)
        return True

    @trio.lowlevel.enable_ki_protection
    async def watch(self) -> None:
        """Close overdue connections, until cancelled."""
        while True:
            keyless = next(iter(self._keyless.values()), inf) + self.limits.keyless_seconds
            heads = next(iter(self._heads.values()), inf) + self.limits.head_seconds
            with trio.CancelScope(deadline=min(keyless, heads)) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            await pass_moment()
            await wait_turns(self.reading.waiting + MOMENT_TURNS)  # twice as many as it takes to read these
            for since, seconds, what in (
                (self._heads, self.limits.head_seconds, "a head, or a TLS handshake, was incomplete after"),
                (self._keyless, self.limits.keyless_seconds, "a connection has sent no key for"),
            ):
                for guest, begun in tuple(since.items()):
                    if begun + seconds > now:
                        break
                    self.notices.warn(what, f"{what} %g s: it is closed", seconds)
                    self._cut(guest, late=True)

    def _be_awake_at(self, time: float) -> None:
        if time < self._timer.deadline:  # otherwise it wakes too early and sleeps again, which is cheaper
            self._timer.deadline = time

    def _cut(self, guest: Guest, *, late: bool = False) -> None:
        late = late and guest in self._heads
        self.leave(guest)
        guest.cut(late=late)


def _descriptors() -> int:
    """Return how many descriptors the process may open."""
    if sys.platform == "win32":
        return ANY_SYSTEM
    import resource  # not available on Windows

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ANY_SYSTEM * 1024 if most == resource.RLIM_INFINITY else most


AT_ONCE = 4
"""Maximum keyless connections that are read in one turn of the event loop: 64 KiB, and the work that they cause.

A request to Quart takes a millisecond. To close a connection whose client still sends takes the kernel as long.
"""


@final
class Turns:
    """The turns in which all keyless connections do one thing.

    Args:
        most: maximum connections that do it in one turn of the event loop.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._beginners = trio.lowlevel.ParkingLot()
        self._others = trio.lowlevel.ParkingLot()

    async def begin(self, *, begins: bool) -> None:
        """Wait for a turn, which must be given back with `end`. No schedule point if a turn is free.

        Args:
            begins: True if the connection is in the middle of nothing, and has sent no request without a key.

        Cancellation: no turn was taken.
        """
        if self._free:
            self._free -= 1
        else:
            await (self._beginners if begins else self._others).park()

    async def end(self) -> None:
        """Give the turn back, after a schedule point (other tasks run first).

        Cancellation: not here, because no task owns the received bytes yet.
        """
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self.give_back()

    @property
    def crowded(self) -> bool:
        """True if connections that begin wait for a turn."""
        return bool(self._beginners)

    @property
    def waiting(self) -> int:
        """Number of connections that wait for a turn."""
        return len(self._beginners) + len(self._others)

    def give_back(self) -> None:
        """Give a turn back at once."""
        if not (self._beginners.unpark() or self._others.unpark()):
            self._free += 1


@final
class Waiting:
    """The bodies and websocket messages that were received and are not parsed yet.

    Args:
        most: maximum bytes.
        seconds: maximum seconds between two pieces of a body.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.bytes = 0
        self.most = most
        self.seconds = seconds
        self.of: Counter[RolloutState] = Counter()
        """Waiting bytes of each rollout that has some."""
        self.first: dict[RolloutState, Share] = {}
        """The oldest share of each rollout, which is never refused."""


@final
class Share(msgspec.Struct):
    """The waiting bytes of one request."""

    waiting: Waiting
    rollout: RolloutState
    bytes: int = 0
    """Bytes added. A body that arrives in one piece is not added: it is small."""

    def add(self, count: int) -> None:
        """Add `count` bytes. The first body of a rollout is never refused.

        Raises:
            Refusal: 503: the bytes would exceed the total limit, or the rollout's bytes half of this limit. All bytes
                of the request are released.
        """
        waiting = self.waiting
        of_rollout = waiting.of[self.rollout] + count
        if waiting.first.setdefault(self.rollout, self) is not self and (
            waiting.bytes + count > waiting.most or of_rollout > waiting.most // 2
        ):
            self.release()
            raise over_capacity()
        waiting.bytes += count
        waiting.of[self.rollout] = of_rollout
        self.bytes += count

    def release(self) -> None:
        """Release the bytes: they are parsed, or discarded."""
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

    async def next(
        self, receive: Callable[[], Awaitable[T]], arrived_at: Callable[[], float] = lambda: -inf
    ) -> T:
        """Wait for the next piece of the body, at most until the rollout ends.

        Args:
            receive: returns the piece. It is called again after a cancellation.
            arrived_at: returns the time of the last byte of any kind, such as the framing of a chunk.

        Raises:
            Refusal: the rollout has ended; or 408, no piece arrived in time. All bytes of the request are released.
        """
        rollout, seconds = self.rollout, self.waiting.seconds
        due, is_last = trio.current_time() + seconds, False
        while not rollout.ended.is_set():
            with trio.CancelScope(deadline=due) as scope:
                rollout.on_end.add(scope.cancel)
                try:
                    return await receive()
                finally:
                    rollout.on_end.discard(scope.cancel)
            now = trio.current_time()
            if (latest := arrived_at() + seconds) > now:
                due, is_last = latest, False
            elif is_last:
                break
            else:
                await wait_turns(MOMENT_TURNS)
                due, is_last = trio.current_time() + MOMENT, True
        self.release()
        if rollout.ended.is_set() and rollout.ending is not None:
            raise rollout.ending.with_traceback(None)
        raise Refusal(408, f"the body is incomplete, and no byte of it has arrived for {seconds:g} s")


def over_capacity() -> Refusal:
    """Return the refusal of a body that exceeds the limit of waiting bytes."""
    return Refusal(503, "too many bytes of requests wait here already", retry_after=1)
