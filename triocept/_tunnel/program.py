"""A program that prints where it can be reached: its start, its words, its end.

It is started and ended as an agent is: it leads a group of its own, nothing of it outlives the context, and should
this program be killed, the watcher ends it.

Rules:

1. Whatever it says before it fails stands in the error, without the keys in its environment.
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

LAST_WORDS = 20
"""Lines: cloudflared and ngrok tell a failure in three to ten."""
LINE_LIMIT = 4096
"""Bytes of a line that are kept: a progress bar is one line without an end."""
LAST_LINE = 1.0
"""Seconds that what a program has said last may still be in the pipe; longer only if another holds the pipe open."""
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
    """Run a program until it says what is looked for, and on for as long as the body runs.

    Args:
        argv: the command and its arguments.
        name: what an error calls it.
        find: is given each line that it prints, on stdout or stderr, and finds in it what the context gives, or not.
        timeout: seconds for that.
        env: what is added to this program's environment.
        grace: seconds that it has after SIGTERM.

    Raises:
        TunnelError: it cannot be started; it ended or said nothing of the kind in time; it ended while the body ran,
            which is cancelled then. The text ends with its own last words.
    """
    environment = {**os.environ, **(env or {})}
    words = Words(find)
    problem, error = "", None
    try:
        async with (
            open_watcher() as watcher,
            open_process(
                argv,
                env=environment,
                watcher=watcher,
                output_limit=0,
                stdout_file=words.open_stream(),
                stderr_file=words.open_stream(),
                terminate_grace=grace,
            ) as process,
        ):
            problem = await _wait_found(process, words, timeout)
            if not problem:
                body = trio.CancelScope()
                async with trio.open_nursery() as nursery:
                    watch = trio.CancelScope(shield=True)
                    nursery.start_soon(_watch, process, body, watch)
                    try:
                        with body:
                            yield words.found
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
        raise TunnelError(f"{name}: {problem}{words.last(secret_values(environment))}")


async def _wait_found(process: AgentProcess, words: Words, timeout: float) -> str:
    """Wait for what is looked for; returns why it will not come, or nothing."""
    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, words.wait_found, nursery.cancel_scope)
            await process.wait()
            with trio.move_on_after(LAST_LINE):
                await process.wait_drained()
            nursery.cancel_scope.cancel()
    if words.found:
        return ""
    if process.returncode is not None:
        return f"it {_ending(process)} before it said where it can be reached"
    return f"it did not say within {timeout:g} s where it can be reached"


async def _cancel_after(wait: Callable[[], object], scope: trio.CancelScope) -> None:
    await wait()  # type: ignore[misc]
    scope.cancel()


async def _watch(process: AgentProcess, body: trio.CancelScope, scope: trio.CancelScope) -> None:
    """End the body with the program. Shielded: ended by its owner alone."""
    with scope:
        await process.wait()
        body.cancel()


def _ending(process: AgentProcess) -> str:
    code = process.returncode
    assert code is not None
    return f"was ended by signal {-code}" if code < 0 else f"ended with return code {code}"


@final
class Words:
    """What a program says, line by line; the last lines are kept."""

    def __init__(self, find: Callable[[str], str | None]) -> None:
        self.found = ""
        """What was looked for; empty until it is there."""
        self._find = find
        self._event = trio.Event()
        self._lines: deque[str] = deque(maxlen=LAST_WORDS)
        self._streams: list[_Stream] = []

    def open_stream(self) -> _Stream:
        """For one of its two streams: whose lines may be in pieces."""
        self._streams.append(_Stream(self))
        return self._streams[-1]

    async def wait_found(self) -> None:
        await self._event.wait()

    def hear(self, line: str) -> None:
        """Take in a line."""
        if line.strip():
            self._lines.append(line.rstrip())
        if not self.found and (found := self._find(line)):
            self.found = found
            self._event.set()

    def last(self, secrets: Sequence[str]) -> str:
        """For the end of an error's text, when it has ended."""
        for stream in self._streams:
            stream.end()
        if not self._lines:
            return "; it said nothing"
        return "; its last words:\n" + redact("\n".join(self._lines), secrets)


class _Stream:
    """One stream; written to in a worker thread, as the output of every agent is."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._rest = b""

    def write(self, data: bytes) -> None:
        trio.from_thread.run_sync(self._feed, data)

    def end(self) -> None:
        """What came last may be no whole line."""
        self._feed(b"\n")

    def _feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-LINE_LIMIT:]
        for line in lines:
            self._words.hear(line[-LINE_LIMIT:].decode(errors="replace"))
