"""Lease the sealed traces in a directory to trainers. A trace has at most one lease at a time.

Rules:

1. A claim is added to `_claims` before any exception can be raised. The claim is removed when its trace is acknowledged
   or given back.
2. A lease does not wait until another lease releases the lock of a file. The lease reads the directory's modification
   time every 0.1 s, which takes a microsecond. The lease lists the directory when this time has changed, and every 30
   s. While other processes or leases have claimed files, the lease lists the directory every second. The reason: the
   modification time does not change when another process dies and its locks are released.
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
"""Seconds between two reads of the directory's modification time."""
AGAIN = 1.0
"""Seconds until a lease tries again to claim files that other processes or leases had claimed."""
ALL = 30.0
"""Maximum seconds between two listings of the directory. The directory is then listed even if its modification time is
unchanged, because another machine with a different clock could have set this time."""
_COARSE = 1_000_000_000
"""If two changes of a directory are less than this number of nanoseconds apart, both could leave the same modification
time."""


@final
class TraceLease:
    """A lease on a directory: an async iterator that yields leased traces. Only `lease_traces` creates instances.

    Each trace is leased only to this object until the program calls `acknowledge` with the trace. When the `async with`
    block ends, traces that were not acknowledged are given back, so that another lease can get them.
    """

    def __init__(self, directory: Path, *, wait: bool) -> None:
        self.directory: Path = directory
        self._wait = wait
        self._claims: dict[int, tuple[Trace | None, Claim]] = {}
        """Each leased trace with its claim, by Python's `id` of the trace. While a trace is still being read, its claim
        is stored under Python's `id` of the claim."""
        self._ready: deque[Path] = deque()
        self._seen: int | None = None
        """Modification time that the directory had at the last listing; None if the directory must be listed again."""
        self._others = False
        """True if, at the last listing, another process or lease had claimed a file in the directory."""
        self._looked_at = -ALL
        self._closed = False

    def __repr__(self) -> str:
        return f"<TraceLease of {self.directory}: {len(self._claims)} leased>"

    def __aiter__(self) -> TraceLease:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Trace:
        """Return the next trace, leased to this object.

        If no trace is free, wait for a free trace. If `wait` is False, end the iteration.

        Raises:
            OSError: the directory, or a file in it, cannot be read.
            DialectError: a file is not a trace file, or a newer triocept wrote it.
            trio.ClosedResourceError: the `async with` block has ended.

        Cancellation: a trace that was already claimed is given back.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError(f"{self!r} is closed")
            while self._ready:
                if (trace := await self._take(self._ready.popleft())) is not None:
                    return trace
            found = os.stat(self.directory).st_mtime_ns
            patience = AGAIN if self._others else ALL
            if found != self._seen or (
                self._wait and trio.current_time() >= self._looked_at + patience
            ):  # the directory may contain new files
                self._look()
            elif self._wait:
                await trio.sleep(INTERVAL)
            else:
                raise StopAsyncIteration

    def acknowledge(self, *traces: Trace) -> None:
        """Move the files of `traces` to the subdirectory `taken`, so that these traces are never leased again.

        Raises:
            ValueError: a trace is not leased by this object. In this case, none of the traces is acknowledged.
            OSError: a file could not be moved; its trace is still leased by this object.
        """
        for trace in traces:
            if self._claims.get(id(trace), (None,))[0] is not trace:
                raise ValueError(
                    f"{self!r} does not lease {trace!r}: the trace was already acknowledged, or came from another lease"
                )
        for trace in traces:
            self._claims[id(trace)][1].acknowledge()
            del self._claims[id(trace)]

    async def _take(self, path: Path) -> Trace | None:
        """Claim the file at `path`, and return its trace.

        Return None if another lease has the file, or if the file is damaged.
        """
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
        gap = next((gap for each in traces for gap in each.gaps), "the file contains no line of a rollout")
        try:
            log.warning(
                "the trace file %s is incomplete, and was moved to %s: %s", path, claim.put_aside(), gap
            )
        except OSError:
            claim.give_back()
            raise
        return None

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
    """Lease the sealed traces that a `DirectoryRecorder` writes. Each trace can be acknowledged only once.

    For example::

        async with lease_traces("runs") as lease:
            async for trace in lease:
                await train(branches(trace))
                lease.acknowledge(trace)

    Any number of leases, in one program or in many, may use a directory: a trace is never leased to two leases at the
    same time. Traces that were not acknowledged when the block ends are given back. After at most two seconds, other
    leases can get the traces that a killed process had leased. (The kernel releases the lock on a file when the
    process, and all processes that it has forked, have ended.) A trace contains the traces of its children. A file that
    is incomplete is moved to the subdirectory `damaged`, and a warning is logged.

    Args:
        directory: an existing directory. A network file system must support locks.
        wait: if True, the iteration waits for the next trace. If False, the iteration ends when no trace is free, even
            if another lease may still give back a trace.

    Closing: traces that were not acknowledged are given back.

    Raises:
        TypeError: an argument has the wrong type.
        NotADirectoryError, FileNotFoundError: there is no such directory.

    Cancellation: as for closing.
    """
    check_bool("wait", wait)
    check_type("directory", directory, (str, os.PathLike), "a path")
    path = Path(directory).absolute()  # noqa: ASYNC240 - no I/O
    os.scandir(path).close()  # raises if it is not a directory
    lease = TraceLease(path, wait=wait)
    try:
        yield lease
    finally:
        lease._close()


def _read(path: Path) -> Trace | None:
    """Return the trace in a file that is not a child of another trace; None if the file contains no trace."""
    traces = read_traces(path, on_damage=lambda damage: None)  # a damaged trace is not sealed
    children = {id(child) for trace in traces for child in trace.children}
    return next((trace for trace in traces if id(trace) not in children), None)
