"""A program that prints its URL or port: its start, its output, its end.

It is started and ended like an agent: it leads a process group of its own, and no process of it outlives the
context. If this program is killed, the watcher ends it.

Rules:

1. Its last output before a failure is in the error, without the keys in its environment.
2. Its output is read to the end: a full pipe never stops it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import final

import trio

from .._process.environment import secret_values
from .._process.output import redact
from .._process.process import AgentProcess, open_process
from .._process.watcher import open_watcher
from ..errors import AgentFailed, TunnelError

LAST_LINES = 20
"""Maximum lines that are kept: cloudflared and ngrok describe a failure in three to ten."""
LINE_LIMIT = 4096
"""Maximum bytes of a line that are kept: a progress bar is one line without an end."""
LAST_LINE = 1.0
"""Seconds that a program's last output may still be in the pipe; longer only if another process holds the pipe open."""
GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL."""


@asynccontextmanager
async def open_program(
    argv: Sequence[str],
    *,
    name: str,
    find: Callable[[str], str | None],
    timeout: float,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE,
) -> AsyncIterator[str]:
    """Run a program until it prints a line that matches, and on for as long as the body runs.

    Args:
        argv: the command and its arguments.
        name: name in errors.
        find: called with each line of stdout and stderr; returns the value to yield, or None.
        timeout: seconds until a line must match.
        env: variables to add to this program's environment.
        grace: seconds that the program has after SIGTERM.

    Raises:
        TunnelError: the program cannot be started; it ended, or printed no matching line, in time; or it ended
            while the body ran, which is then cancelled. The text ends with its last output.
    """
    environment = {**os.environ, **(env or {})}
    output = Output(find)
    problem, error = "", None
    try:
        async with (
            open_watcher() as watcher,
            open_process(
                argv,
                env=environment,
                watcher=watcher,
                output_limit=0,
                stdout_file=output.open_stream(),
                stderr_file=output.open_stream(),
                terminate_grace=grace,
            ) as process,
        ):
            problem = await _wait_found(process, output, timeout)
            if not problem:
                body = trio.CancelScope()
                async with trio.open_nursery() as nursery:
                    watch = trio.CancelScope(shield=True)  # only this block ends it

                    async def end_body() -> None:
                        with watch:
                            await process.wait()
                            body.cancel()

                    nursery.start_soon(end_body)
                    try:
                        with body:
                            yield output.found
                    except BaseException as exc:
                        error = exc  # re-raised below, outside the nursery: stays bare
                    watch.cancel()
                if body.cancelled_caught:
                    problem = f"it {_ending(process)}"
    except AgentFailed as exc:
        what = str(exc).removeprefix(f"agent {argv[0]!r} ")
        raise TunnelError(f"{name}: {argv[0]!r} {what}") from exc
    if error is not None:
        raise error
    if problem:
        raise TunnelError(f"{name}: {problem}{output.last(secret_values(environment))}")


async def _wait_found(process: AgentProcess, output: Output, timeout: float) -> str:
    """Wait for a matching line; return the reason if none will come, else an empty str."""
    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:

            async def await_line() -> None:
                await output.wait_found()
                nursery.cancel_scope.cancel()

            nursery.start_soon(await_line)
            await process.wait()
            with trio.move_on_after(LAST_LINE):
                await process.wait_drained()
            nursery.cancel_scope.cancel()
    if output.found:
        return ""
    if process.returncode is not None:
        return f"it {_ending(process)} before it printed where it can be reached"
    return f"it did not print within {timeout:g} s where it can be reached"


def _ending(process: AgentProcess) -> str:
    code = process.returncode
    assert code is not None
    return f"was ended by signal {-code}" if code < 0 else f"ended with return code {code}"


@final
class Output:
    """The output of a program, line by line; the last lines are kept."""

    def __init__(self, find: Callable[[str], str | None]) -> None:
        self.found = ""
        """The value found in a line; empty until then."""
        self._find = find
        self._event = trio.Event()
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._streams: list[_Stream] = []

    def open_stream(self) -> _Stream:
        """Return a writer for stdout or stderr, which may receive lines in pieces."""
        self._streams.append(_Stream(self))
        return self._streams[-1]

    async def wait_found(self) -> None:
        await self._event.wait()

    def feed(self, line: str) -> None:
        """Process a line."""
        if line.strip():
            self._lines.append(line.rstrip())
        if not self.found and (found := self._find(line)):
            self.found = found
            self._event.set()

    def last(self, secrets: Sequence[str]) -> str:
        """Return the last lines for the end of an error's text, after the program has ended."""
        for stream in self._streams:
            stream.end()
        if not self._lines:
            return "; it printed nothing"
        return "; its last output:\n" + redact("\n".join(self._lines), secrets)


class _Stream:
    """A stream of the program; written to in a worker thread, as the output of every agent is."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rest = b""

    def write(self, data: bytes) -> None:
        trio.from_thread.run_sync(self._feed, data)

    def end(self) -> None:
        """Process the rest, which may be an incomplete line."""
        self._feed(b"\n")

    def _feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-LINE_LIMIT:]
        for line in lines:
            self._output.feed(line[-LINE_LIMIT:].decode(errors="replace"))
