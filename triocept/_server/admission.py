"""Admission control: limit the connections, the time until they send a key, and the received bytes.

Rules:

1. An authenticated connection is one that has sent a key of this endpoint. An authenticated connection may be idle
   until its rollout ends, because agents send nothing while they work. After the end of its rollout, the connection
   counts as keyless (not authenticated) again.
2. At the limit of connections, the oldest keyless connection is closed. If every connection is authenticated, the
   new one is answered with 503.
3. The received bytes of keyless connections (heads, and the bytes after them) are counted from the moment they are read
   until they are processed. When their number exceeds `MOST_HELD`, the connection whose bytes have waited the longest
   is closed, and its bytes are discarded.
4. The time limits are the same for all connections, so deadlines are in the order of arrival. Therefore two queues
   (heads and keyless connections) are enough, with one task that sleeps until the first deadline. Requests and
   authenticated connections need no timer.
5. Only a few keyless connections are read in one turn of the event loop. Without this limit, thousands of connections
   that send bytes at the same time would all be read in one turn, and no other task could run during this turn.
   Authenticated connections are read without waiting. If many new connections send valid keys, more of them are read
   in one turn (see `Turns.note_key`).
6. Connections are read in turns (`Turns`), one piece in each turn. A turn of a connection ends one schedule point after
   the piece is read, so that the piece is processed before further connections are read.
7. Requests without a key are answered one at a time. Connections that can be accepted, or have just been accepted, are
   served before such requests. A request with a key never waits for requests without a key.
8. Among the keyless connections, new connections are read first: connections that have sent neither an incomplete head
   nor a request without a key. An agent's first piece contains its key, so a new agent waits only for other new
   connections.
9. A time limit ends a connection only if the connection is silent (`Overdue`): all bytes that have arrived were read
   and processed. The program may block the event loop for longer than any limit, and again between any two turns of the
   event loop. Bytes that arrive while the event loop is blocked are in time.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import takewhile
from math import inf
from typing import Protocol, TypeVar, final

import msgspec
import trio

from .._util.limits import MOMENT, MOMENT_TURNS, EndpointLimits, wait_turns
from ..errors import Refusal
from .notices import Notices

T = TypeVar("T")

MOST_KEYLESS = 8_192
"""Maximum keyless connections. Each takes about 20 KB of memory, and a process may have a million file descriptors."""
MOST_HELD = 8 * 1024 * 1024
"""Maximum bytes held for all keyless connections.

Connections are read a few at a time (`Turns`). As soon as a connection has sent its key, its bytes no longer count,
before any other connection is read. So only heads and bodies that never end can reach the maximum."""
MOST_ROUNDS = 16
"""Maximum rounds for which a request without a key waits until new connections are accepted and served."""
ANY_SYSTEM = 1_024
"""Number of file descriptors that is assumed as a process's limit if the system does not report a limit."""


class KeyHolder(Protocol):
    """An object to which an API key belongs: a rollout, or the view (web page)."""

    on_end: set[Callable[[], object]]
    """Functions that are called when the key becomes invalid."""
    ended: trio.Event


class Guest(Protocol):
    """A connection, with the attributes and methods that `Admission` needs."""

    pieces: int
    """Number of counted pieces that were read while the connection was keyless. A small piece counts at once, a large
    piece only if it contained a request."""
    served: int
    """Number of requests without a key that began to be served."""
    in_turns: int
    """Number of turns (`Turns`) that the connection has or waits for. Until a turn ends, the bytes that were received
    in this turn count as not processed."""
    arrived_at: float
    """Arrival time of the last received byte, even of a byte that only frames a chunk. The time is updated only while
    hypercorn serves the connection."""
    had_key: bool
    """True if the connection has sent a valid key, even if the key's rollout has ended."""

    @property
    def progress(self) -> object:
        """A value that changes when bytes are read from the socket, and when a request without a key is answered."""

    def is_readable(self) -> bool:
        """Return True if the socket contains bytes, or the client has disconnected."""

    def cut(self, *, late: bool = False) -> None:
        """Close the connection immediately.

        If `late` is True, first send 408, because a request head was incomplete.
        """


@final
class Admission:
    """The open connections of one endpoint, and the limits on them. A keyless connection has sent no valid key yet."""

    def __init__(self, limits: EndpointLimits) -> None:
        self.limits = limits
        self.notices = Notices()
        self.waiting = Waiting(limits.waiting_bytes, limits.body_seconds)
        self.reading = Turns(AT_ONCE)
        self.handshakes = Turns(AT_ONCE)
        self.serving = Turns(1)
        self._most = limits.connections or _max_descriptors() * 3 // 4
        self._open: set[Guest] = set()
        self._entered = 0
        """Number of connections that were registered so far."""
        self._keyless: dict[Guest, float] = {}
        """Each keyless connection, with the time at which it became keyless; the oldest comes first."""
        self._heads: dict[Guest, float] = {}
        """Each connection with an incomplete request head, with the time at which the head began; the oldest comes
        first."""
        self._held: dict[Guest, int] = {}
        """Number of received, unprocessed bytes of each keyless connection that has such bytes. The connection whose
        bytes have waited longest comes first."""
        self._bytes_held = 0
        self._timer = trio.CancelScope()

    @property
    def crowded(self) -> bool:
        """True if a new connection is waiting to be read, or for its TLS handshake."""
        return self.reading.crowded or self.handshakes.crowded

    def has_capacity(self) -> bool:
        """Return True if another connection can be accepted.

        At a limit, first close the oldest keyless connection to make room.
        """
        if len(self._open) < self._most:
            return len(self._keyless) < MOST_KEYLESS or self.shed()
        return self.shed()

    def enter(self, guest: Guest) -> None:
        self._open.add(guest)
        self._entered += 1
        self._keyless[guest] = now = trio.current_time()
        self._be_awake_at(now + self.limits.keyless_seconds)

    def leave(self, guest: Guest) -> None:
        if not guest.had_key:
            self.reading.note_keyless()
        self._open.discard(guest)
        self.admit(guest)
        self.end_head(guest)

    def expire(self, guest: Guest) -> None:
        """Mark a connection as keyless again, because the rollout whose key it has sent has ended."""
        if guest in self._open:
            self._keyless[guest] = now = trio.current_time()
            self._be_awake_at(now + self.limits.keyless_seconds)

    def admit(self, guest: Guest) -> None:
        self._keyless.pop(guest, None)
        self._bytes_held -= self._held.pop(guest, 0)

    async def wait_to_serve(self, guest: Guest, *, begins: bool) -> None:
        """Wait until a request without a key may be answered.

        `begins` is passed to `Turns.begin`. Cancellation: immediate.
        """
        await self.serving.begin(guest, begins=begins)
        try:
            for _ in range(MOST_ROUNDS):
                entered = self._entered
                await wait_turns(2)  # trio runs the tasks of one turn of the event loop in any order
                if entered == self._entered and not self.crowded:
                    break
        finally:
            self.serving.give_back(guest)

    def begin_head(self, guest: Guest) -> None:
        """Start the time limit for an incomplete request head. If the limit is already running, do not restart it."""
        if guest not in self._heads:
            self._heads[guest] = now = trio.current_time()
            self._be_awake_at(now + self.limits.head_seconds)

    def end_head(self, guest: Guest) -> None:
        self._heads.pop(guest, None)

    def hold(self, guest: Guest, count: int) -> None:
        """Set the number of received, unprocessed bytes of `guest`. Do nothing if the connection is authenticated."""
        if guest not in self._keyless:
            return
        self._bytes_held += count - self._held.get(guest, 0)
        if count:
            self._held[guest] = count
        else:
            self._held.pop(guest, None)
        while self._bytes_held > MOST_HELD:
            self.notices.warn(
                "held",
                "connections without a valid key hold over %d bytes, so the oldest of these connections is closed",
                MOST_HELD,
            )
            self._cut(next(iter(self._held)), late=True)

    def shed(self) -> bool:
        """Close the oldest keyless connection. Return False if there is no keyless connection."""
        guest = next(iter(self._keyless), None)
        if guest is None:
            return False
        self.notices.warn(
            "shed", "too many connections are open, so the oldest connection without a valid key is closed"
        )
        self._cut(guest)
        return True

    @trio.lowlevel.enable_ki_protection
    async def watch(self) -> None:
        """Close the silent connections whose time limit has passed. This function runs until it is cancelled."""
        overdue: dict[Guest, Overdue] = {}
        while True:
            if not overdue:
                keyless = next(iter(self._keyless.values()), inf) + self.limits.keyless_seconds
                heads = next(iter(self._heads.values()), inf) + self.limits.head_seconds
                with trio.CancelScope(deadline=min(keyless, heads)) as self._timer:
                    await trio.sleep_forever()
            now = trio.current_time()
            # A client may still react to data that was just sent, as in a TLS handshake.
            await trio.sleep(MOMENT)
            late = [*self._late(self._heads, self.limits.head_seconds, now)]
            late += self._late(self._keyless, self.limits.keyless_seconds, now)
            overdue = {guest: overdue.get(guest) or Overdue(guest) for guest in late}
            await wait_turns(MOMENT_TURNS)
            silent = {guest for guest, each in overdue.items() if each.is_silent()}
            for since, seconds, what in (
                (self._heads, self.limits.head_seconds, "its request head or TLS handshake was not complete"),
                (self._keyless, self.limits.keyless_seconds, "its client sent no valid key"),
            ):
                for guest in silent.intersection(self._late(since, seconds, now)):
                    self.notices.warn(what, f"a connection is closed, because {what} within %g s", seconds)
                    self._cut(guest, late=True)
            overdue = {guest: each for guest, each in overdue.items() if guest not in silent}

    @staticmethod
    def _late(since: dict[Guest, float], seconds: float, now: float) -> Iterator[Guest]:
        return takewhile(lambda guest: since[guest] + seconds <= now, since)

    def _be_awake_at(self, time: float) -> None:
        # A later deadline is not set: to wake early and sleep again is cheaper.
        if time < self._timer.deadline:
            self._timer.deadline = time

    def _cut(self, guest: Guest, *, late: bool = False) -> None:
        late = late and guest in self._heads
        self.leave(guest)
        guest.cut(late=late)


def _max_descriptors() -> int:
    if sys.platform == "win32":
        return ANY_SYSTEM
    import resource  # not available on Windows

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ANY_SYSTEM * 1024 if most == resource.RLIM_INFINITY else most


_LATE_PIECES = 8
"""Maximum pieces that a client may send after its time limit. Only small pieces, and pieces that contain a request
without a key, are counted.

A client that reacts to the server's messages sends few small pieces: three in a TLS handshake. Larger pieces need no
count, because the size of the head is limited."""


@final
class Overdue:
    """A connection whose time limit has passed, which is to be closed when it is silent.

    Before each call of `is_silent`, the caller must wait for `MOMENT_TURNS` turns of the event loop. During this wait,
    the bytes that were already read from the socket are processed.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._seen = guest.progress
        self._served = guest.served
        self._most = guest.pieces + _LATE_PIECES

    def is_silent(self) -> bool:
        """Return True if all bytes that have arrived were read and processed.

        Return True, too, if the client has sent too many small pieces since its time limit passed. Otherwise, return
        False while the connection waits for its turn.

        Any other False counts as one small piece, because bytes have arrived. If a request was served since the
        previous call, nothing is counted, because several requests can arrive in one piece.
        """
        guest, seen, served = self._guest, self._seen, self._served
        self._seen, self._served = guest.progress, guest.served
        if guest.pieces > self._most:
            return True
        if guest.in_turns:
            return False
        self._most -= guest.served == served
        return self._seen == seen and not guest.is_readable()


AT_ONCE = 4
"""Maximum keyless connections that are read in one turn of the event loop. Together they have at most 64 KiB.

The number is small because Quart takes a millisecond to answer a request, and the kernel takes a millisecond to close a
connection whose client still sends."""
MOST_AT_ONCE = 64
"""The same maximum, if at least that many connections in a row have sent a valid key. Reading the first bytes of 64
connections takes about 10 ms."""


@final
class Turns:
    """A limit on the number of keyless connections that are read, or served, at the same time.

    The limit is `most`. If more connections than `most` in a row have sent a valid key, the limit is the number of
    these connections, but at most `MOST_AT_ONCE`. So if many agents connect while a turn of the event loop takes long,
    each agent waits for few turns. As soon as a connection sends anything but a valid key, or disconnects without a
    key, the limit is `most` again. So clients without a key cannot raise the limit.

    Args:
        most: maximum connections that may have a turn at the same time.
    """

    def __init__(self, most: int) -> None:
        self._least = most
        self._taken = 0
        self._keys = 0
        """Number of connections in a row that have sent a valid key."""
        self._beginners = trio.lowlevel.ParkingLot()
        self._others = trio.lowlevel.ParkingLot()

    async def begin(self, guest: Guest, *, begins: bool) -> None:
        """Wait for a turn. After the turn, the caller must call `end` or `give_back`.

        If a turn is free, the function returns without a schedule point.

        Args:
            begins: True if the connection has sent neither an incomplete head nor a request without a key. Such
                connections get their turns before all other connections.

        Cancellation: no turn was taken.
        """
        guest.in_turns += 1
        if self._taken < self._most:
            self._taken += 1
            return
        try:
            await (self._beginners if begins else self._others).park()
        except BaseException:
            guest.in_turns -= 1
            raise

    async def end(self, guest: Guest) -> None:
        """Give the turn back, after a schedule point at which other tasks run.

        Cancellation: has no effect here, because otherwise the received bytes would be lost.
        """
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self.give_back(guest)

    @property
    def crowded(self) -> bool:
        """True if a new connection (`begins=True` in the call of `begin`) is waiting for a turn."""
        return bool(self._beginners)

    def give_back(self, guest: Guest) -> None:
        guest.in_turns -= 1
        self._taken -= 1
        self._fill()

    def note_key(self) -> None:
        """Record that a keyless connection has sent a valid key."""
        self._keys += 1
        self._fill()

    def note_keyless(self) -> None:
        """Record that a connection which had a turn has sent no valid key."""
        self._keys = 0

    @property
    def _most(self) -> int:
        return max(self._least, min(self._keys, MOST_AT_ONCE))

    def _fill(self) -> None:
        while self._taken < self._most and (self._beginners.unpark() or self._others.unpark()):
            self._taken += 1


@final
class Waiting:
    """Limits the received bytes that are not parsed yet, over all rollouts.

    These are bytes of request bodies and of websocket messages.

    Args:
        most: maximum bytes.
        seconds: maximum seconds between two pieces of a body.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.bytes = 0
        self.most = most
        self.seconds = seconds
        self.of: Counter[KeyHolder] = Counter()
        """For each rollout: the number of its received bytes that are not parsed yet."""
        self.first: dict[KeyHolder, Share] = {}
        """For each rollout: its oldest `Share`, which is never refused."""


@final
class Share(msgspec.Struct):
    """The received, unparsed bytes of one request, which `Waiting` counts."""

    waiting: Waiting
    rollout: KeyHolder
    bytes: int = 0
    """Number of counted bytes of this request. A body that arrives in one piece is not counted, because it is small."""

    def add(self, count: int) -> None:
        """Count `count` more received bytes of the request.

        The oldest waiting body of each rollout is never refused.

        Raises:
            Refusal: with 503, because all waiting bytes would exceed the limit, or the waiting bytes of the rollout
                would exceed half of the limit. The bytes of this request are then no longer counted.
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
        """Stop counting the bytes of the request, because they were parsed or discarded."""
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

    async def next(self, receive: Callable[[], Awaitable[T]], guest: Guest) -> T:
        """Wait for the next piece of a body, and return it.

        The wait ends early when the rollout ends. It also ends when the time limit has passed and the connection is
        silent.

        Args:
            receive: a function that returns the next piece. If a call of the function is cancelled, the function is
                called again later.
            guest: the connection.

        Raises:
            Refusal: the rollout has ended, or no piece arrived in time (408). The bytes of the request are then no
                longer counted.
        """
        rollout, seconds = self.rollout, self.waiting.seconds
        due, overdue = trio.current_time() + seconds, None
        while not rollout.ended.is_set():
            with trio.CancelScope(deadline=due) as scope:
                rollout.on_end.add(scope.cancel)
                try:
                    return await receive()
                finally:
                    rollout.on_end.discard(scope.cancel)
            if (latest := guest.arrived_at + seconds) > trio.current_time():
                due, overdue = latest, None
                continue
            if overdue is None:
                overdue = Overdue(guest)
            elif overdue.is_silent():
                break
            await wait_turns(MOMENT_TURNS)
            due = trio.current_time() + MOMENT
        self.release()
        if rollout.ended.is_set() and (ending := getattr(rollout, "ending", None)) is not None:
            raise ending.with_traceback(None)
        raise Refusal(408, f"the body is incomplete, and no more bytes have arrived for {seconds:g} s")


def over_capacity() -> Refusal:
    return Refusal(
        503,
        "the requests that wait to be read already hold too many bytes in memory: send this request again later",
        retry_after=1,
    )
