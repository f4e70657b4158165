"""The watcher: a small process that ends the program's agents if the program is killed.

The watcher's process reads from a pipe, which closes when the program dies.

The watcher is started with the first agent, so a program without agents starts no watcher. The watcher's own code is in
the module `group`. PR_SET_PDEATHSIG is not used, because its signal is sent when the *thread* that forked ends: trio
forks in a worker thread, and such a thread ends after 10 idle seconds.

Rules:

1. An agent is registered before it is started, so that it never outlives the program.
2. If the watcher fails, the failure is logged, and the next agent starts a new watcher. No rollout fails because of the
   watcher.
3. All searches for processes of agents use the class `Watcher`, so that simultaneous searches read /proc only once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import final

import trio

from .._util.contexts import protected_context
from . import group
from .command import kill_nowait
from .group import Processes, ProcessTree, birth, read_processes

log = logging.getLogger("triocept.agent")

READY_TIMEOUT = 10.0
"""Maximum seconds to wait for the watcher's start. The start usually takes 0.02 s, but several seconds on a slow
network file system."""
QUIT_TIMEOUT = 2.0
"""Maximum seconds to wait for the end of a watcher that has no agents."""
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""Environment variables that the watcher's process inherits, because a Python interpreter may need them for its
start."""


@protected_context
async def open_watcher() -> AsyncIterator[Watcher]:
    """Open the watcher of a program's agents. The watcher's process starts when the first agent is registered.

    Cancellation: entering the context does not wait, so it cannot be cancelled. Closing: takes at most 2 s, even after
    a cancellation. The watcher's process ends the agents that are still registered.
    """
    watcher = Watcher()
    try:
        yield watcher
    finally:
        with trio.CancelScope(shield=True):
            await watcher._close()


@final
class Watcher:
    """The watcher of all agents of the program.

    If the program dies, the watcher's process continues until all agents have ended.

    Only `open_watcher` creates instances.
    """

    def __init__(self) -> None:
        self._agents: dict[str, bytes] = {}
        """For each agent, by token: the line that registers it. If the watcher's process is started again, it gets
        these lines."""
        self._process: trio.Process | None = None
        self._pipe: int | None = None
        """The only write end of the pipe to the watcher's process. No other process inherits this end. So the pipe
        closes when the program dies."""
        self._lock = trio.Lock()
        self._closed = False
        self._since = birth(os.getpid()) or 0
        self._starts: dict[str, int] = {}
        """For each agent that was started, by token: the start time of its first process."""
        self._handed_over = False
        """True if the watcher's process has to end agents that this program could not end."""
        self._births: dict[tuple[str, int], int] = {}
        """Start times of the system's processes; see `read_processes`."""
        self._processes: Processes | None = None
        self._looked = -1.0
        self._look = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def register(self, token: str) -> None:
        """Register an agent's token. From then on, no process with this token outlives the program.

        Cancellation: the token is not registered. If the watcher's process is being started at this moment, the process
        is ended.

        Raises:
            trio.ClosedResourceError: the watcher's endpoint has ended.
        """
        async with self._lock:
            self._check_open()
            if self._process is not None and self._process.poll() is not None:
                self._on_died()
            if self._process is None:
                await self._start()
            self._agents[token] = b"+ %s\n" % token.encode()
            self._tell(self._agents[token])

    def started_nowait(self, agent: ProcessTree) -> None:
        """Send the watcher's process the ids of the agent's process and process group.

        By its group, the watcher also finds processes whose environment it cannot read.
        """
        line = b"= %s %d %d\n" % (agent.token, agent.pid or 0, agent.born or 0)
        self._agents[agent.token.decode()] = line
        self._starts.setdefault(agent.token.decode(), agent.born or self._since)
        self._tell(line)

    def unregister_nowait(self, token: str) -> None:
        """Unregister an agent of which no process lives."""
        self._starts.pop(token, None)
        if self._agents.pop(token, None) is not None:
            self._tell(b"- %s\n" % token.encode())

    def hand_over_nowait(self, token: str) -> None:
        """Let the watcher's process end an agent that this program cannot end.

        The watcher sends SIGTERM and, 1 s later, SIGKILL.
        """
        self._starts.pop(token, None)
        if self._agents.pop(token, None) is not None:
            self._tell(b"! %s\n" % token.encode())
            self._handed_over = True

    @property
    def sees(self) -> bool:
        return self._since != 0

    async def processes(self) -> Processes | None:
        """Search for processes that an agent may have started, and return them by id.

        Return None if the system has no readable /proc. Processes that are older than all agents are left out. The
        search begins after the call of this method. Cancellation: immediate.
        """
        asked = time.monotonic()
        async with self._look:
            if self._looked < asked:
                looked = time.monotonic()
                self._processes = await trio.to_thread.run_sync(
                    read_processes,
                    min(self._starts.values(), default=self._since),
                    self._births,
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )
                self._looked = looked
            return self._processes

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the endpoint has ended, so no agent can be started")

    @trio.lowlevel.enable_ki_protection
    async def _start(self) -> None:
        reader, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._process = await trio.lowlevel.open_process(
                [sys.executable or "python3", "-I", "-S", group.__file__, str(os.getpid()), str(self._since)],
                stdin=reader,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
                start_new_session=True,
            )
            assert self._process.stdout is not None
            with trio.fail_after(READY_TIMEOUT):
                # Wait until the watcher handles its signals, so that no signal can stop it any more.
                async with self._process.stdout as ready:
                    if not await ready.receive_some(16):
                        raise OSError(f"{sys.executable} ended immediately after its start")
            self._check_open()
        except (OSError, trio.TooSlowError) as error:
            self._give_up_nowait()
            log.warning(
                "the watcher process did not start, so agents would outlive this program if it were killed: %s",
                error,
            )
        except BaseException:
            self._give_up_nowait()
            raise
        finally:
            os.close(reader)
        for line in self._agents.values():
            self._tell(line)

    def _tell(self, line: bytes) -> None:
        try:
            if self._pipe is not None:
                os.write(self._pipe, line)  # shorter than PIPE_BUF: all or nothing
        except OSError:  # the watcher is dead, or was stopped for so long that the pipe is full
            self._on_died()

    def _on_died(self) -> None:
        """Log that the watcher's process is dead, or does not react, and kill it.

        When the next agent is registered, a new process of the watcher is started.
        """
        log.warning(
            "the watcher (process %s) has died: until the next agent starts, agents would outlive this program "
            "if it were killed",
            self.pid,
        )
        self._close_pipe()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.poll()
        self._process = None

    async def _close(self) -> None:
        self._closed = True
        if not self._agents and self._process is not None:
            self._tell(b"quit\n")
        self._close_pipe()
        if self._process is not None:
            at_work = bool(self._agents) or self._handed_over
            try:
                with trio.move_on_after(group.SEARCH + 1 if at_work else QUIT_TIMEOUT):
                    await self._process.wait()
            except BaseException:  # Ctrl-C
                if at_work:  # the watcher ends the agents, and then itself
                    self._process = None
                raise
            finally:
                self._give_up_nowait()

    def _give_up_nowait(self) -> None:
        self._close_pipe()
        process, self._process = self._process, None
        if process is not None:
            kill_nowait(process)

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            os.close(pipe)
