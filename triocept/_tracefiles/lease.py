"""Lease sealed traces from a directory, for trainers: each trace has one holder until it is acknowledged.

Rules:

1. A claim is in `_claims` before anything can be raised, and leaves it acknowledged or given back.
2. Nobody waits for a lock, and nobody asks for one over and over: a look at the directory's time costs a microsecond,
   and the directory is read when that has changed, and now and then. What somebody else has is tried again more often,
   for a process that is killed changes no time.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import final

import trio

from .._trace.directory import Claim, family, sealed_files
from .._trace.reader import read_traces
from .._trace.trace import Trace
from .._util.checks import check_bool, check_type
from .._util.contexts import protected_context

log = logging.getLogger("triocept.trace")

INTERVAL = 0.1
"""Seconds between two looks at the directory's time."""
AGAIN = 1.0
"""Seconds after which what others have is tried again."""
ALL = 30.0
"""Seconds after which the directory is read though its time is the same: that is of another machine's clock, maybe."""
_COARSE = 1_000_000_000
"""Nanoseconds: a directory that has changed so short a time ago may have changed since, and have the same time."""


@final
class TraceLease:
    """The traces that one program has leased from a directory. Made by `lease_traces` only.

    Iterate over it: each trace is leased to this object alone until `acknowledge` is called with it. A trace that is
    not acknowledged when the block ends, in whatever way, is given back, and another lease can have it.
    """

    def __init__(self, directory: Path, *, wait: bool) -> None:
        self.directory: Path = directory
        self._wait = wait
        self._claims: dict[int, tuple[Trace | None, Claim]] = {}
        """By the trace's `id`; by the claim's while it is read."""
        self._ready: deque[Path] = deque()
        self._seen: int | None = None
        """The directory's time, when it was read last; None: it has to be read again."""
        self._others = False
        """Whether somebody else has a file that is there."""
        self._looked_at = -ALL
        self._closed = False

    def __repr__(self) -> str:
        return f"<TraceLease of {self.directory}: {len(self._claims)} leased>"

    def __aiter__(self) -> TraceLease:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Trace:
        """The next trace that nobody else has. Where there is none it waits, or ends (`wait=False`).

        Raises:
            OSError: the directory, or a file in it, cannot be read.
            DialectError: a file is none of ours, or of a newer triocept.
            trio.ClosedResourceError: the block has ended.

        Cancellation: what was claimed meanwhile is given back.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError(f"{self!r} is closed")
            while self._ready:
                if (trace := await self._take(self._ready.popleft())) is not None:
                    return trace
            if self._is_due():
                self._look()
            elif self._wait:
                await trio.sleep(INTERVAL)
            else:
                raise StopAsyncIteration

    def acknowledge(self, *traces: Trace) -> None:
        """Mark traces as done: their files go to `taken` in the directory and are not leased again.

        Raises:
            ValueError: one of the traces is not leased here. Nothing was acknowledged.
            OSError: a file could not be moved; its trace is still leased here.
        """
        for trace in traces:
            if self._claims.get(id(trace), (None,))[0] is not trace:
                raise ValueError(f"{trace!r} is not leased here, or was acknowledged before")
        for trace in traces:
            self._claims[id(trace)][1].acknowledge()
            del self._claims[id(trace)]

    async def _take(self, path: Path) -> Trace | None:
        """The trace in a file; None: somebody else has it."""
        claim = Claim.of(path)
        if claim is None:
            self._others = True
            return None
        self._claims[id(claim)] = (None, claim)
        try:
            trace = await trio.to_thread.run_sync(_read, path)
        except BaseException:
            del self._claims[id(claim)]
            claim.give_back()
            raise
        del self._claims[id(claim)]
        traces = [*family(trace)] if trace is not None else []
        if trace is not None and all(each.sealed for each in traces):
            self._claims[id(trace)] = (trace, claim)
            return trace
        gap = next((gap for each in traces for gap in each.gaps), "no line of a rollout is in it")
        try:
            log.warning("%s is not whole, and was moved to %s: %s", path, claim.put_aside(), gap)
        except OSError:
            claim.give_back()
            raise
        return None

    def _is_due(self) -> bool:
        """Whether the directory may have something new."""
        if self._seen is None or os.stat(self.directory).st_mtime_ns != self._seen:
            return True
        return self._wait and trio.current_time() >= self._looked_at + (AGAIN if self._others else ALL)

    def _look(self) -> None:
        found = os.stat(self.directory).st_mtime_ns
        self._seen = found if not self._wait or time.time_ns() - found > _COARSE else None
        self._others, self._looked_at = False, trio.current_time()
        own = {claim.path for _, claim in self._claims.values()}
        self._ready.extend(path for path in sealed_files(self.directory) if path not in own)

    def _close(self) -> None:
        self._closed = True
        claims, self._claims = self._claims, {}
        for _, claim in claims.values():
            claim.give_back()


@protected_context
async def lease_traces(directory: str | os.PathLike[str], *, wait: bool = True) -> AsyncIterator[TraceLease]:
    """Lease the sealed traces that a `DirectoryRecorder` writes, each exactly once::

        async with lease_traces("runs") as lease:
            async for trace in lease:
                await train(branches(trace))
                lease.acknowledge(trace)

    Any number of leases, in one program or in many, may share a directory: no two hold a trace at once. A trace that
    is not acknowledged when the block ends is given back. So is a trace that was leased when the process was killed,
    within two seconds: the lock on a file goes with the process, and with the processes that it has forked. A trace
    comes with the traces of its children. A file that is not whole is put aside, in `damaged`, with a warning.

    Args:
        directory: it has to be there. On a network file system locks have to work.
        wait: True waits for the next trace. False ends the iteration where no trace is free, though another lease may
            still give one back.

    Closing: traces that were not acknowledged are given back.

    Raises:
        TypeError: an argument is not of its type.
        NotADirectoryError, FileNotFoundError: there is no such directory.

    Cancellation: as of closing.
    """
    check_bool("wait", wait)
    lease = TraceLease(_checked(directory), wait=wait)
    try:
        yield lease
    finally:
        lease._close()


def _checked(directory: str | os.PathLike[str]) -> Path:
    check_type("directory", directory, (str, os.PathLike), "a path")
    path = Path(directory).absolute()
    with os.scandir(path):  # whether it is one
        return path


def _read(path: Path) -> Trace | None:
    """The trace that is in a file, with its children; None: the file is empty."""
    traces = read_traces(path, on_damage=_ignore)
    children = {id(child) for trace in traces for child in trace.children}
    return next((trace for trace in traces if id(trace) not in children), None)


def _ignore(damage: Exception) -> None:
    """What is damaged is not sealed."""
