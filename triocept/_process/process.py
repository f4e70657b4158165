"""Start an agent's process, read and write its streams, and end all processes that it started.

Rules:

1. The agent leads its own session and group, without a terminal. So programs that would prompt on a terminal (ssh, git)
   fail immediately. With `output="terminal"`, the agent leads its own group in the program's session, and gets the
   program's terminal (`terminal`).
2. After the `async with` block, no process of the agent lives, even if the block raised an exception. The agent's
   group, and processes that left the group (see `group`), get SIGTERM, then some time to end, then SIGKILL. After that,
   the agent is reaped. The total time of these steps is limited.
3. The agent is reaped last, because after the reaping, the kernel may reuse the ids of its process and its group.
4. The output is read to its end. But if a process keeps a pipe open, the reading stops after a short time, so that the
   block can end.
5. No error and no `repr` of this module contains a value of the environment or an argument.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Literal, TypeAlias, final, get_args

import trio

from .._util.checks import check_count, check_number, described
from .._util.contexts import protected_context
from .._util.failures import keeping, keeping_each, raise_all
from ..errors import AgentFailed
from .command import check_argv, check_env, check_input, start_process
from .environment import secret_values
from .group import (
    MARK,
    Ending,
    Processes,
    ProcessTree,
    birth,
    limit_mark,
    open_handle,
    read_process,
    read_processes,
)
from .output import AgentResult, BinaryWriter, OutputReader, Tee, redact
from .terminal import Terminal
from .watcher import Watcher

log = logging.getLogger("triocept.agent")

OutputFile: TypeAlias = str | os.PathLike[str] | BinaryWriter
"""The path of a file, which is created or emptied, or an object to which bytes are written."""
OutputMode: TypeAlias = Literal["capture", "echo", "inherit", "terminal"]
"""Destination of the agent's output. `capture`: the output is kept in memory. `echo`: the output is kept in memory, and
also written to this program's stdout and stderr. `inherit`: the agent uses this program's stdout and stderr, and the
output is not kept. `terminal`: the agent uses the terminal of this program, with its keyboard, and the output is not
kept."""

OUTPUT_LIMIT = 1024 * 1024
"""Maximum bytes of each output stream that are kept in memory."""
TERMINATE_GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL, as in trio's own `run_process`."""
SEARCH_TIMEOUT = 1.0
"""Additional seconds for the first search, which finds the processes that the agent has started. A search takes some
milliseconds, but longer on a busy machine, and that time must not shorten the grace period of these processes."""
LEFTOVER_PATIENCE = 0.2
"""Seconds that the remaining processes of an ended agent get to end by themselves (for example tee in
`agent > >(tee log)`).
"""
LEFTOVER_GRACE = 1.0
"""Seconds from SIGTERM to SIGKILL for the remaining processes of an ended agent."""
KILL_TIMEOUT = 5.0
"""Maximum seconds to wait for the kernel to end processes that got SIGKILL. (A process that takes longer is waiting for
a device.)"""
DRAIN_TIMEOUT = 1.0
"""Maximum seconds to read the rest of the output when all processes are dead."""
LOOK_PAUSE = 0.02
"""Seconds between two searches for living processes."""
QUIET = 2
"""Number of consecutive searches that must find no living process, unless a search is complete.

A search is not complete if a process had ended when its entry was read: this process could have forked another process
after the search had listed /proc. If each listed process lives, no process of the agent was missed: the kernel gives
ids, and lists them, in ascending order, so a process that is forked during the listing is listed, too."""


@protected_context
async def open_process(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str],
    watcher: Watcher,
    cwd: str | os.PathLike[str] | None = None,
    input: bytes | str | None = None,  # noqa: A002 - as subprocess.run names it
    output: OutputMode = "capture",
    output_limit: int = OUTPUT_LIMIT,
    stdout_file: OutputFile | None = None,
    stderr_file: OutputFile | None = None,
    terminate_grace: float = TERMINATE_GRACE,
) -> AsyncIterator[AgentProcess]:
    """Run an agent during an `async with` block. After the block, its `result` is available.

    Args:
        argv: the command and its arguments. A name without a slash is looked up in the `PATH` of `env`.
        env: the whole environment, as `environment.agent_environment` returns it. The agent's mark is added.
        watcher: the watcher, which ends the agent if the program is killed.
        cwd: the agent's working directory. None means the working directory of the program.
        input: bytes for the agent's stdin; a str is encoded as UTF-8. If None, stdin is empty.
        output: see `OutputMode`.
        output_limit: maximum bytes of each stream that are kept, half from its start and half from its end.
        stdout_file: file that receives all of stdout as it arrives.
        stderr_file: file that receives all of stderr as it arrives; may be the same as `stdout_file`.
        terminate_grace: seconds between SIGTERM and SIGKILL.

    Cancellation: the agent is ended, even if it is just being started. Closing: all living processes of the agent are
    ended. This takes at most `terminate_grace` plus 9 s, usually some milliseconds, even after a cancellation. A second
    Ctrl-C sends SIGKILL immediately.

    Raises:
        TypeError, ValueError: `argv`, `env` or an option is invalid.
        AgentFailed: the agent cannot be started, or a file for its output cannot be written.
        NotImplementedError: on Windows.
        Exception: an error while the agent's stdin was written or its output was read. The agent was then ended.
    """
    command, environment, token = check_argv(argv), check_env(env), secrets.token_hex(16)
    data = check_input(input)
    check_output(output, output_limit, stdout_file, stderr_file, terminate_grace, input)
    terminal = Terminal() if output == "terminal" else None
    # An agent may itself run agents: their processes belong to it, too.
    outer = environment.get(MARK) or os.environ.get(MARK)
    environment[MARK] = f"{outer}:{token}" if outer else token
    errors: list[BaseException] = []  # raised outside the nursery, which would wrap them
    agent: AgentProcess | None = None
    with keeping_each(errors):
        async with AsyncExitStack() as stack:
            if terminal is not None:
                stack.push(lambda *_: terminal.close(None if agent is None else agent.returncode))
            stdout_tees, stderr_tees = _open_tees(stack, output, stdout_file, stderr_file)
            await watcher.register(token)
            stack.push(lambda kind, *_: _leave(agent, kind, watcher, token))
            started = trio.current_time()
            process = await start_process(
                command,
                env=environment,
                cwd=cwd,
                feed=data is not None,
                capture=output in ("capture", "echo"),
                terminal=terminal is not None,
                mark=limit_mark(token),
            )
            agent = AgentProcess(
                process=process,
                argv=command,
                started=started,
                agent=ProcessTree(token, process.pid, birth(process.pid)),
                watcher=watcher,
                grace=terminate_grace,
                stdout=OutputReader(process.stdout, output_limit, stdout_tees),
                stderr=OutputReader(process.stderr, output_limit, stderr_tees),
                secrets=secret_values(environment),
                terminal=terminal,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent._run, data)
                with keeping(errors), agent._body:
                    yield agent
                try:
                    await agent._end(natural=not errors and agent.returncode is not None)
                except BaseException as exc:  # a second Ctrl-C
                    errors[:] = [exc]
    if agent is not None:
        failures: list[BaseException] = [agent._failure] if agent._failure is not None else []
        for name, stream in (("stdout", agent._stdout), ("stderr", agent._stderr)):
            if stream.error is not None:
                text = (
                    f"the {name} of agent {agent.argv[0]!r} cannot be written to {name}_file: {stream.error}"
                )
                failures.append(AgentFailed(text, argv=agent.argv, returncode=agent.returncode))
                failures[-1].__cause__ = stream.error
        errors += failures[:1]
    raise_all(errors)


@final
class AgentProcess:
    """An agent's process, created by `open_process`."""

    def __init__(
        self,
        *,
        process: trio.Process,
        argv: tuple[str, ...],
        started: float,
        agent: ProcessTree,
        watcher: Watcher,
        grace: float,
        stdout: OutputReader,
        stderr: OutputReader,
        secrets: tuple[str, ...],
        terminal: Terminal | None,
    ) -> None:
        self.argv = argv
        self.pid: int = process.pid
        """Id of the process, which is also the id of its process group and (unless `output` is `terminal`) of its
        session."""
        self.returncode: int | None = None
        """Return code of the process; None while it runs."""
        self.duration: float | None = None
        """Seconds from the start of the process to its end; None while it runs."""
        self._process = process
        self._started = started
        self._agent = agent
        self._watcher = watcher
        self._grace = grace
        self._stdout, self._stderr = stdout, stderr
        self._secrets = secrets
        self._terminal = terminal
        # Without /proc, the group itself is probed for life, and an unreaped process would count as alive.
        self._handle = None if agent.born is None else open_handle(process.pid)
        self._reaped = False
        self._blind = False
        """True if the last search for the agent's processes failed."""
        self._quiet = 0
        """Number of the latest consecutive searches that began after the agent's exit and found no living process."""
        self._exited, self._drained = trio.Event(), trio.Event()
        self._failure: Exception | None = None
        """First exception in the tasks of `_run`, which run concurrently with the caller's `async with` block."""
        self._body = trio.CancelScope()
        self._tasks = trio.CancelScope(shield=True)
        watcher.started_nowait(agent)

    def __repr__(self) -> str:
        state = "runs" if self.returncode is None else f"returned {self.returncode}"
        return f"<AgentProcess {self.argv[0]!r} (process {self.pid}): {state}>"

    async def wait(self) -> int:
        """Wait until the process has ended. Processes that this process has started may still run after that.

        Returns:
            The return code; as in `subprocess`, a negative number is the signal that ended the process.

        Cancellation: immediate; the process continues until its `async with` block ends.
        """
        await self._exited.wait()
        assert self.returncode is not None
        return self.returncode

    async def wait_drained(self) -> None:
        """Wait until the process has ended and all of its output was read. Cancellation: as for `wait`."""
        await self._drained.wait()

    @property
    def result(self) -> AgentResult:
        """The result of the process, which is available after its `async with` block.

        Raises:
            RuntimeError: the block has not ended yet.
        """
        if not self._drained.is_set() or self.returncode is None or self.duration is None:
            raise RuntimeError(f"agent {self.argv[0]!r} has no result before its `async with` block ends")
        out, err = self._stdout.buffer, self._stderr.buffer
        return AgentResult(
            argv=self.argv,
            returncode=self.returncode,
            duration=self.duration,
            stdout=out.content(),
            stderr=err.content(),
            stdout_dropped=out.dropped,
            stderr_dropped=err.dropped,
            stderr_tail=redact(err.tail(), self._secrets),
        )

    @trio.lowlevel.enable_ki_protection
    async def _run(self, data: bytes | None) -> None:
        """Run the tasks that feed stdin, read the output and wait for the exit, until `_end` cancels them.

        Nothing but `_end` can cancel these tasks.
        """
        stdin = self._process.stdin

        @trio.lowlevel.enable_ki_protection
        async def feed() -> None:
            if stdin is not None:
                async with stdin:
                    with contextlib.suppress(trio.BrokenResourceError):  # it has ended, or closed its stdin
                        await stdin.send_all(data or b"")

        try:
            with self._tasks:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._attempt, self._await_exit)
                    nursery.start_soon(self._attempt, feed)
                    if self._terminal is not None:
                        nursery.start_soon(self._attempt, partial(self._terminal.follow, self.pid))
                    for stream in (self._stdout, self._stderr):
                        nursery.start_soon(self._attempt, partial(stream.read, self._body.cancel))
        finally:  # `_end` waits for this event
            self._drained.set()

    @trio.lowlevel.enable_ki_protection
    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task of `_run`.

        If the task raises an exception, cancel the body of the caller's `async with` block. The other tasks of `_run`
        continue until `_end`.
        """
        try:
            await work()
        except Exception as exc:  # raised to the caller when the agent has been ended
            self._failure = self._failure or exc
            self._body.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _await_exit(self) -> None:
        if self._handle is None:  # macOS, sandboxes: the wait reaps the agent, and its group is ended at once
            self._set_exit(await self._reap())
            return
        await trio.lowlevel.wait_readable(self._handle)
        returncode = _read_returncode(self.pid)
        self._set_exit(await self._reap() if returncode is None else returncode)

    async def _reap(self) -> int:
        returncode = await self._process.wait()
        self._reaped = True
        return returncode

    def _set_exit(self, returncode: int) -> None:
        self.returncode = returncode
        self.duration = trio.current_time() - self._started
        self._exited.set()

    @trio.lowlevel.enable_ki_protection
    async def _end(self, *, natural: bool) -> None:
        """End the agent's living processes, read the output that is left, and reap the agent.

        `natural` is True if triocept did not end the process.
        """
        try:
            with trio.CancelScope(shield=True):
                ending = Ending([self._agent])
                grace = min(self._grace, LEFTOVER_GRACE) if natural else self._grace
                if not (
                    (natural and await self._signal(ending, 0, LEFTOVER_PATIENCE))
                    or await self._signal(ending, signal.SIGTERM, grace)
                    or await self._signal(ending, signal.SIGKILL, KILL_TIMEOUT)
                ):
                    log.warning("agent %r (process %s) still runs after SIGKILL", self.argv[0], self.pid)
                with trio.move_on_after(DRAIN_TIMEOUT):
                    await self._drained.wait()
                self._tasks.cancel()
                await self._drained.wait()
                with trio.move_on_after(DRAIN_TIMEOUT):
                    await self._reap()
        except BaseException:  # a second Ctrl-C
            self._kill_nowait()
            raise
        finally:
            self._tasks.cancel()
            self._close()

    async def _signal(self, ending: Ending, signum: int, seconds: float) -> bool:
        """Send the signal `signum` to the agent's processes, and then wait at most `seconds` until they have ended.

        Return True if they have ended, and False if a process still lives.
        """
        if signum == signal.SIGKILL:  # first, and without a search in /proc, which can hang
            self._kill_group()
        if signum == signal.SIGTERM and (alone := read_process(self.pid)) is not None:
            ending.send(signum, alone)  # immediately, because a search can take long on a busy machine
        sent = False
        with trio.move_on_after(seconds + SEARCH_TIMEOUT) as limit:
            while True:
                exited = self._exited.is_set()
                processes = await self._watcher.processes()
                self._count(exited, processes, ending.send(signum, processes))
                if not sent:
                    sent, limit.deadline = True, trio.current_time() + seconds
                self._blind = processes is None and self._watcher.sees
                if self._is_over or (self._blind and self._exited.is_set()):
                    return True
                if self._exited.is_set():
                    await trio.sleep(LOOK_PAUSE)
                else:
                    with trio.move_on_after(LOOK_PAUSE):
                        await self._exited.wait()
                if self._failure is not None and not self._exited.is_set():
                    # After a failure of `_await_exit`: otherwise an ended process would count as alive for ever.
                    returncode = _read_returncode(self.pid)
                    if returncode is not None:
                        self._set_exit(returncode)
        return False

    def _count(self, exited: bool, processes: Processes | None, living: int) -> None:
        """Count the latest consecutive searches that began after the agent's exit and found no living process.

        `processes` is the result of a search, and `living` is the number of the agent's living processes in it.
        `exited` is True if this search began after the agent's exit. A complete search counts as `QUIET` searches.
        """
        complete = processes is not None and processes.unclear <= {self.pid}
        self._quiet = self._quiet + (QUIET if complete else 1) if exited and not living else 0

    @property
    def _is_over(self) -> bool:
        return self._quiet >= QUIET

    def _kill_group(self) -> None:
        if not self._reaped:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def _kill_nowait(self) -> None:
        """Kill the agent's processes and wait up to a second for their end, without a checkpoint."""
        deadline, ending = time.monotonic() + 1.0, Ending([self._agent])
        self._kill_group()
        while time.monotonic() < deadline and not self._is_over:
            exited = self._exited.is_set() or _read_returncode(self.pid) is not None
            processes = read_processes(self._agent.born or 0)
            self._count(exited, processes, ending.send(signal.SIGKILL, processes))
            time.sleep(0.01)
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def _leave(self) -> None:
        if self._blind:
            log.warning(
                "this program has no file descriptor left to list the processes that agent %r started; the watcher "
                "process ends them",
                self.argv[0],
            )
        if self._is_over:
            self._watcher.unregister_nowait(self._agent.token.decode())
        else:
            self._watcher.hand_over_nowait(self._agent.token.decode())

    def _close(self) -> None:
        if self.returncode is None:  # the process hangs in the kernel, or there was no time to check
            self._set_exit(self._process.returncode or -signal.SIGKILL)
        handle, self._handle = self._handle, None
        if handle is not None:
            trio.lowlevel.notify_closing(handle)
            os.close(handle)


def _leave(
    agent: AgentProcess | None, raised: type[BaseException] | None, watcher: Watcher, token: str
) -> None:
    """Report to the watcher that the agent's `async with` block has ended, or that the agent could not be started."""
    if agent is not None:
        agent._leave()
    elif raised is None or issubclass(raised, Exception | trio.Cancelled):
        watcher.unregister_nowait(token)
    else:  # Ctrl-C: its group was killed, but processes that had left the group may live
        watcher.hand_over_nowait(token)


def check_output(
    output: str,
    output_limit: object,
    stdout_file: OutputFile | None,
    stderr_file: OutputFile | None,
    terminate_grace: object,
    data: object = None,
) -> None:
    """Check the options of the output, so that a wrong option is reported before an agent runs."""
    if output not in get_args(OutputMode):
        raise ValueError(f"output must be one of {', '.join(get_args(OutputMode))}, not {output!r}")
    check_count("output_limit", output_limit)
    check_number("terminate_grace", terminate_grace)
    if output in ("inherit", "terminal") and (stdout_file is not None or stderr_file is not None):
        text = (
            f'output="{output}" lets the agent write to the stdout and stderr of this program: omit stdout_file and '
            "stderr_file"
        )
        raise ValueError(text)
    if output == "terminal" and data is not None:
        raise ValueError('output="terminal" gives the agent the stdin of this program: omit input=')
    _check_file("stdout_file", stdout_file)
    _check_file("stderr_file", stderr_file)


def _check_file(name: str, file: object) -> None:
    if file is None or isinstance(file, str | os.PathLike):
        return
    if isinstance(file, io.TextIOBase) or not callable(getattr(file, "write", None)):
        raise TypeError(f"{name} must be a path or a file opened in binary mode, not {described(file)}")


def _read_returncode(pid: int) -> int | None:
    """Return the return code of a process without reaping it.

    Return None if the process still runs, or was already reaped.
    """
    try:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return None
    if status is None:
        return None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def _open_tees(
    stack: AsyncExitStack, output: OutputMode, stdout: OutputFile | None, stderr: OutputFile | None
) -> tuple[list[Tee], list[Tee]]:
    """Return two lists: the targets to which stdout is written, and the targets to which stderr is written.

    If both streams are written to the same file, the file is opened only once.
    """
    tees: list[list[Tee]] = [[], []]
    if output == "echo":
        tees = [[Tee(sys.stdout.buffer)], [Tee(sys.stderr.buffer)]]
    opened: dict[OutputFile, Tee] = {}
    for place, file in enumerate((stdout, stderr)):
        if file is not None:
            key = os.path.abspath(file) if isinstance(file, str | os.PathLike) else file
            if key not in opened:
                if isinstance(file, str | os.PathLike):
                    file = stack.enter_context(open(file, "wb", buffering=0))  # noqa: SIM115 - the stack closes it
                opened[key] = Tee(file)
            tees[place].append(opened[key])
    return tees[0], tees[1]
