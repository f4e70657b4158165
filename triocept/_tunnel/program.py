"""Run a program that prints its URL or port: start the program, read its output, and end it.

The program is started and ended like an agent: the program leads a process group, and none of its processes outlives
the context. If the Python program that uses triocept is killed, the watcher ends the started program.

Rules:

1. If the program fails, the error contains the last output of the program, without the keys in its environment.
2. The output is read until it ends, so that a full pipe never stops the program.
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
"""Maximum lines of output in an error's text. cloudflared and ngrok describe a failure in three to ten lines."""
LINE_LIMIT = 4096
"""Maximum bytes that are kept of a line. (A progress bar may be one endless line.)"""
LAST_LINE = 1.0
"""Seconds to wait for the last output of a program that has ended. The output ends late only if another process has the
pipe open."""
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
    """Run a program while the body runs, and yield the value that `find` returns for a line of its output.

    Args:
        argv: the command and its arguments.
        name: the program's name, with which error texts begin.
        find: a function that is called with each line of stdout and stderr. If the line matches, `find` returns the
            value to yield, else None.
        timeout: maximum seconds until a line matches.
        env: variables that are added to the environment of the Python program.
        grace: seconds between SIGTERM and SIGKILL when the program is ended.

    Raises:
        TunnelError: the program cannot be started, has ended, or did not print a matching line in time. If the program
            ends while the body runs, the body is cancelled. The error's text ends with the program's last output.
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
                        error = exc  # raised below, outside the nursery, which would wrap it
                    watch.cancel()
                if body.cancelled_caught:
                    problem = f"the program {_ending(process)}"
    except AgentFailed as exc:
        what = str(exc).removeprefix(f"agent {argv[0]!r} ")
        raise TunnelError(f"{name}: {argv[0]!r} {what}") from exc
    if error is not None:
        raise error
    if problem:
        raise TunnelError(f"{name}: {problem}{output.last(secret_values(environment))}")


async def _wait_found(process: AgentProcess, output: Output, timeout: float) -> str:
    """Wait until the program prints a matching line, and return "".

    If the program does not print such a line in time, return the reason as a text.
    """
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
        return f"the program {_ending(process)} before it printed its public URL"
    return f"the program did not print its public URL within {timeout:g} s"


def _ending(process: AgentProcess) -> str:
    code = process.returncode
    assert code is not None
    return f"was ended by signal {-code}" if code < 0 else f"ended with return code {code}"


@final
class Output:
    """Searches the output of a program line by line. The last lines are kept for error texts."""

    def __init__(self, find: Callable[[str], str | None]) -> None:
        self.found = ""
        """The value that `find` has returned for a line. Empty until then."""
        self._find = find
        self._event = trio.Event()
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._streams: list[_Stream] = []

    def open_stream(self) -> _Stream:
        self._streams.append(_Stream(self))
        return self._streams[-1]

    async def wait_found(self) -> None:
        await self._event.wait()

    def feed(self, line: str) -> None:
        if line.strip():
            self._lines.append(line.rstrip())
        if not self.found and (found := self._find(line)):
            self.found = found
            self._event.set()

    def last(self, secrets: Sequence[str]) -> str:
        """Return the last lines of the output, without `secrets`, as the end of an error's text."""
        for stream in self._streams:
            stream.end()
        if not self._lines:
            return "; the program printed nothing"
        return "; its last output:\n" + redact("\n".join(self._lines), secrets)


class _Stream:
    """A writer for stdout or stderr of the program. Worker threads call `write` with pieces of the output."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rest = b""

    def write(self, data: bytes) -> None:
        trio.from_thread.run_sync(self._feed, data)

    def end(self) -> None:
        """Pass on the last, incomplete line, because the stream has ended."""
        self._feed(b"\n")

    def _feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-LINE_LIMIT:]
        for line in lines:
            self._output.feed(line[-LINE_LIMIT:].decode(errors="replace"))
