"""Read the output of an agent, and make the result of its run.

The start and the end of each output stream are kept in memory. Together they take at most twice `output_limit`. Files
and terminals get all output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, final

import msgspec
import trio

from .._util.checks import Misnamed
from ..errors import AgentFailed

STDERR_TAIL = 2000
"""Maximum characters of the end of stderr that an error contains: about one screen."""


class BinaryWriter(Protocol):
    """A target for output: a file opened in binary mode, or any other object that has this method `write`."""

    def write(self, data: bytes, /) -> Any:
        """Write some or all of the bytes, and return their number; None means all.

        This method is called in a worker thread.
        """


@final
class AgentResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an agent's run. Its `repr` shows neither output nor arguments, because these may contain keys."""

    argv: tuple[str, ...]
    returncode: int
    """Exit status of the agent; as in `subprocess`, a negative number is the signal that ended the agent."""
    duration: float
    """Seconds from the agent's start to its end, on trio's clock."""
    stdout: bytes = b""
    """The whole stdout. If its middle was dropped: its start and its end, with a note about the dropped bytes between
    them. Empty if stdout was not captured."""
    stderr: bytes = b""
    """The whole stderr. If its middle was dropped: its start and its end, with a note about the dropped bytes between
    them. Empty if stderr was not captured."""
    stdout_dropped: int = 0
    """Number of bytes missing from `stdout`."""
    stderr_dropped: int = 0
    """Number of bytes missing from `stderr`."""
    stderr_tail: str = ""
    """The last 2000 characters of stderr, with `***` in place of the keys in the agent's environment."""

    if not TYPE_CHECKING:
        output, text = Misnamed("stdout_text"), Misnamed("stdout_text")
        code, exit_code, status = [Misnamed("returncode") for _ in range(3)]

    @property
    def stdout_text(self) -> str:
        """Stdout decoded as UTF-8; invalid bytes become U+FFFD."""
        return self.stdout.decode(errors="replace")

    @property
    def stderr_text(self) -> str:
        """Stderr decoded as UTF-8; invalid bytes become U+FFFD."""
        return self.stderr.decode(errors="replace")

    def check(self) -> AgentResult:
        """Return this result if the return code is 0.

        Raises:
            AgentFailed: the return code is not 0. The error contains `stderr_tail`.
        """
        if self.returncode == 0:
            return self
        code = self.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"returned {code}"
        text = f"agent {self.argv[0]!r} {how} after {self.duration:.1f} s"
        if self.stderr_tail:
            text += f"; its stderr ends with:\n{self.stderr_tail}"
        raise AgentFailed(text, argv=self.argv, returncode=self.returncode)

    def __repr__(self) -> str:
        return (
            f"<AgentResult {self.argv[0]!r}: returncode {self.returncode}, {self.duration:.1f} s, "
            f"{len(self.stdout)} + {len(self.stderr)} bytes>"
        )


@final
class OutputBuffer:
    """Buffer for the start and the end of a stream of bytes."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def feed(self, data: bytes) -> None:
        self._total += len(data)
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room > 0 else data
        if len(self._tail) > 2 * self._tail_limit:  # not at each feed: this moves the whole tail
            self._trim()

    @property
    def dropped(self) -> int:
        return max(0, self._total - self._head_limit - self._tail_limit)

    def content(self) -> bytes:
        self._trim()
        if not self.dropped:
            return bytes(self._head + self._tail)
        return b"%s\n[... %d bytes dropped ...]\n%s" % (self._head, self.dropped, self._tail)

    def tail(self) -> str:
        end = bytes(self._tail) if len(self._tail) >= 4 * STDERR_TAIL else bytes(self._head + self._tail)
        return end[-4 * STDERR_TAIL :].decode(errors="replace").strip()[-STDERR_TAIL:]

    def _trim(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._tail_limit)]


@final
class Tee:
    """A file that receives all output of one stream.

    Worker threads write to the file, so that a slow disk delays only this agent.
    """

    def __init__(self, file: BinaryWriter) -> None:
        self._file = file
        # A limiter of its own: a program whose threads are all busy must still get its agents' output. Its size is 1,
        # so that two streams to the same file take turns.
        self._limiter = trio.CapacityLimiter(1)

    async def write(self, data: bytes) -> None:
        """Write all bytes to the file, and flush it.

        Cancellation: immediate. The worker thread is abandoned, and finishes its current write.

        Raises:
            Exception: the file raised it; usually an OSError.
        """

        def write_all() -> None:
            rest = memoryview(data)
            while rest:
                # Raw files and pipes may accept less than all bytes.
                written = self._file.write(bytes(rest) if len(rest) < len(data) else data)
                rest = rest[written if isinstance(written, int) else len(rest) :]
            flush: Callable[[], object] | None = getattr(self._file, "flush", None)
            if flush is not None:
                flush()

        await trio.to_thread.run_sync(write_all, abandon_on_cancel=True, limiter=self._limiter)


@final
class OutputReader:
    """Reader of one output stream of an agent. It writes the bytes into a buffer, and into files (the tees)."""

    def __init__(self, stream: trio.abc.ReceiveStream | None, limit: int, tees: Sequence[Tee]) -> None:
        self.buffer: OutputBuffer = OutputBuffer(limit)
        self.error: Exception | None = None
        """The first exception that was raised by a write to a tee; None if there was no exception."""
        self._stream = stream
        self._sinks = tees

    @trio.lowlevel.enable_ki_protection
    async def read(self, on_error: Callable[[], None]) -> None:
        """Read the stream to its end.

        If a tee fails, the stream is still read to its end, so that the agent neither waits for a full pipe nor gets
        SIGPIPE.

        `on_error` is called when a tee fails. Cancellation: immediate; the bytes read so far are in the buffer.
        """
        if self._stream is None:
            return
        async with self._stream:
            async for chunk in self._stream:
                data = bytes(chunk)
                self.buffer.feed(data)
                if self.error is not None:
                    continue
                try:
                    for tee in self._sinks:
                        await tee.write(data)
                except Exception as exc:
                    # An object of the caller may raise any exception, and the caller gets it.
                    self.error = exc
                    on_error()


def redact(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
