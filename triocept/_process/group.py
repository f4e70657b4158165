"""Find the processes of an agent, and send signals to them. Run as a script, this module is the watcher.

The script uses only the standard library, because the watcher must start in milliseconds, and must not fail.

Rules:

1. A process belongs to an agent in three cases: it is in the agent's group or session, it has one of the agent's two
   marks, or its parent belongs to the agent. By the marks, processes are found even if they left the group (by
   `setsid`) and have lost their parent. The first mark is a variable in the environment. A process can drop its
   environment (`env -i`), or hide it (another user's process, a rewritten title). The second mark is a process limit,
   which the process cannot remove (see `launch`). This mark cannot be read if the process belongs to another user.
2. The kernel may give the id of an ended process to a new process. So a signal is sent only if the process with this id
   has the same start time as before.
3. Ended processes that were not reaped yet (zombies) count as dead.
4. A process that started before the agent does not belong to it. So only processes that started later are read.
5. Without a /proc (macOS), only the processes in the agent's group are found.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import time

MARK = "TRIOCEPT_AGENT"
"""Variable in every agent's environment. The variable contains the tokens of the agents that started the agent, then
the agent's own token, separated by `:`."""

LOCKS = 10
"""Number of the process limit RLIMIT_LOCKS, whose value is the second mark. (`launch` has the same constant, but this
script cannot import `launch`.)"""
TERM_GRACE = 1.0
"""Seconds between the watcher's SIGTERM and its SIGKILL. With this time, all agents end within 2 s of the program's
death."""
SEARCH = 3.0
"""Maximum seconds to search for the processes of agents. After the program's death, the watcher searches for all of
this time: an agent that was just forked has no mark until its exec, which may take long on a busy machine."""
KILLS = 5
"""Number of searches with SIGKILL that the watcher makes at least, also if it got no processor time meanwhile."""
QUIET = 5
"""Number of consecutive searches without a living process after which an agent counts as ended. This holds only while
the program lives."""
PAUSE = 0.05
"""Seconds between two searches."""
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that make a whole search fail, because they do not show that the process that was read has ended."""


class ProcessTree:
    """An agent whose processes are searched for. Before the agent runs, only its token and its mark are known."""

    def __init__(self, token: str, pid: int | None = None, born: int | None = None) -> None:
        self.token: bytes = token.encode()
        self.mark: int | None = limit_mark(token)
        self.pid = pid
        self.born = born


class ProcessInfo:
    """A process of the system, with the data from /proc."""

    __slots__ = ("alive", "born", "group", "mark", "parent", "pid", "session", "tokens")

    def __init__(self, pid: int, stat: bytes) -> None:
        # proc(5): the name, in parentheses, may contain any character; the fields after it are counted from 3.
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.born = int(fields[19])
        # A leader that has ended while its threads run is a zombie, too, but a living one.
        self.alive = fields[0] not in (b"Z", b"X", b"x") or int(fields[17]) > 1
        self.tokens: frozenset[bytes] = frozenset()
        self.mark: int | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Process id and start time, which together identify the process."""
        return self.pid, self.born


class Processes(dict[int, ProcessInfo]):
    """Processes of the system, by id."""

    def __init__(self) -> None:
        self.unclear: set[int] = set()
        """Ids of processes that had ended when they were read, or whose marks could not be read."""


def read_processes(since: int = 0, births: dict[tuple[str, int], int] | None = None) -> Processes | None:
    """Return the processes that started at `since` or later; None if the system has no readable /proc.

    To make repeated calls cheap, pass the same dict as `births`. The dict keeps the start time of each process that was
    read (-1 if the process had ended). A process that had ended, or had started before `since`, is not read again.
    """
    births = {} if births is None else births
    processes = Processes()
    try:
        with os.scandir("/proc") as entries:
            # The kernel gives the entry of each process its own inode number. So if an id in `births` now belongs to
            # another process, the inode number differs, and the process is read.
            listed = [(entry.name, entry.inode()) for entry in entries if entry.name.isdigit()]
        for ended in births.keys() - set(listed):
            del births[ended]
        for identity in listed:
            if births.get(identity, since) >= since:
                process = _look_at(int(identity[0]))
                if process is None:
                    processes.unclear.add(int(identity[0]))
                else:
                    births[identity] = process.born if process.alive else -1
                    if process.born >= since:
                        processes[process.pid] = process
        for process in processes.values():
            environ = _read(f"/proc/{process.pid}/environ") if process.alive else b""
            value = (b"\0" + environ).partition(b"\0" + MARK.encode() + b"=")[2].partition(b"\0")[0]
            process.tokens = frozenset(value.split(b":")) - {b""}
            process.mark = _read_mark(process.pid) if process.alive else None
            if not environ or process.mark is None:
                processes.unclear.add(process.pid)
    except (OSError, ValueError, IndexError):
        return None
    return processes if births else None


def read_process(pid: int) -> Processes | None:
    """Return one process, without a search; None if the process has ended, or if the system has no readable /proc."""
    processes = Processes()
    with contextlib.suppress(OSError, ValueError, IndexError):
        if (process := _look_at(pid)) is not None:
            processes[pid] = process
    return processes or None


def limit_mark(token: str) -> int | None:
    """Return the number with which `launch` marks an agent.

    The number is at least 2^56, and so larger than all usual values of the limit.
    """
    try:
        return (1 << 56) + int(token[:14], 16)
    except ValueError:
        return None


def birth(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since the boot.

    Return None if the process has ended, or if the system has no /proc.
    """
    with contextlib.suppress(OSError):
        process = _look_at(pid)
        return None if process is None else process.born
    return None


def open_handle(pid: int) -> int | None:
    """Return a pidfd of the process. Unlike a process id, a pidfd never refers to a later process.

    Return None on old kernels, and in some sandboxes.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            return os.pidfd_open(pid)
    return None


class Ending:
    """Ends all processes of some agents. The caller calls `send` repeatedly, until none of these processes lives."""

    def __init__(self, agents: list[ProcessTree]) -> None:
        self._agents = agents
        self._signalled: set[tuple[int, int]] = set()

    def send(self, signum: int, processes: dict[int, ProcessInfo] | None) -> int:
        """Send a signal to the agents' living processes, and return their number. With `signum` 0, only count them.

        Each process gets SIGTERM only once, because many programs exit without cleanup at a second SIGTERM. SIGKILL is
        sent at every call.
        """
        if processes is None:
            count = 0
            for agent in self._agents:
                identity = (agent.pid or 0, 0)
                repeat = signum == signal.SIGKILL or identity not in self._signalled
                # OSError: no process is left; on macOS, EPERM if only zombies are left
                with contextlib.suppress(OSError):
                    if agent.pid is not None:
                        os.killpg(agent.pid, signum if repeat else 0)
                        count += 1
                        if signum:
                            self._signalled.add(identity)
            return count
        living = self._members(processes)
        for process in living:
            if signum == signal.SIGKILL or (signum and process.identity not in self._signalled):
                self._signalled.add(process.identity)
                _send(process, signum)
        if signum == signal.SIGKILL:
            # Signal a whole group at once: otherwise a group that forks faster than this search would never end.
            for pid in {process.group for process in living} & self._groups(processes):
                with contextlib.suppress(OSError):
                    os.killpg(pid, signum)
        return len(living)

    def _members(self, processes: dict[int, ProcessInfo]) -> list[ProcessInfo]:
        tokens, groups = {agent.token for agent in self._agents}, self._groups(processes)
        marks = {agent.mark for agent in self._agents} - {None}
        children: dict[int, list[ProcessInfo]] = {}
        for process in processes.values():
            children.setdefault(process.parent, []).append(process)
        found: dict[int, ProcessInfo] = {}
        todo = [
            p
            for p in processes.values()
            if {p.pid, p.group, p.session} & groups or p.tokens & tokens or p.mark in marks
        ]
        while todo:
            process = todo.pop()
            if process.pid not in found and process.pid not in (1, os.getpid()):
                found[process.pid] = process
                todo += children.get(process.pid, ())
        return [process for process in found.values() if process.alive]

    def _groups(self, processes: dict[int, ProcessInfo]) -> set[int]:
        """Return the ids of the agents' process groups.

        A group is left out if its id now belongs to another process, which has another start time.
        """
        return {
            agent.pid
            for agent in self._agents
            if agent.pid is not None
            and (agent.pid not in processes or processes[agent.pid].born == agent.born)
        }


def _look_at(pid: int) -> ProcessInfo | None:
    content = _read(f"/proc/{pid}/stat")
    return ProcessInfo(pid, content) if content else None


def _read_mark(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        import resource  # Windows has no `resource`, and imports this module, too

        return resource.prlimit(pid, LOCKS)[1]
    except (ImportError, OSError, ValueError):
        # The process may belong to another user: all users can read this file. It is empty if the process has ended.
        content = _read(f"/proc/{pid}/limits").partition(b"Max file locks")[2].split(None, 2)
        return int(content[1]) if len(content) > 1 and content[1].isdigit() else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read() or b""
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise
        return b""  # the process has ended, or belongs to another user


def _send(process: ProcessInfo, signum: int) -> None:
    # A stopped process receives its SIGTERM only when it continues.
    signums = (signum, signal.SIGCONT) if signum == signal.SIGTERM else (signum,)
    handle = open_handle(process.pid)
    try:
        if birth(process.pid) == process.born:
            for number in signums:
                with contextlib.suppress(OSError):
                    if sys.platform == "linux" and handle is not None:
                        signal.pidfd_send_signal(handle, number)
                    else:
                        os.kill(process.pid, number)
    finally:
        if handle is not None:
            os.close(handle)


def watch(program: int, since: int) -> None:
    """Run the watcher.

    Read lines about agents from stdin, and end these agents when the process `program` has ended.

    The line `+ token` registers an agent. The line `= token pid born` adds the process of the agent. The line `- token`
    removes the agent. The line `! token` ends the agent now. After the line `quit`, the watcher exits without ending
    agents.
    """
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    os.set_blocking(0, False)
    listener = _Listener(program)
    os.write(1, b"ready\n")
    os.close(1)
    while not listener.over:
        listener.poll()
        if listener.doomed:
            _end(listener.take_doomed(), listener, since)
    listener.poll(0)
    if listener.agents or listener.doomed:
        _end([*listener.agents.values(), *listener.take_doomed()], listener, since, last=True)


class _Listener:
    """A reader of the lines that the program writes. The reader also checks that the program lives."""

    def __init__(self, program: int) -> None:
        self.agents: dict[str, ProcessTree] = {}
        self.doomed: list[ProcessTree] = []
        """Agents that must be ended now, because the program could not end them."""
        self.over = False
        """True if the program has written the line `quit`, or has ended."""
        self.closed = False
        """True if no more lines will be read."""
        self._rest = b""
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._program = program
        # Forked children of the program may hold the pipe open after its death, so the process is polled as well.
        self._handle = open_handle(program)
        if self._handle is not None:
            self._poll.register(self._handle, select.POLLIN)
        if self.is_orphan:
            self.over = True

    @property
    def is_orphan(self) -> bool:
        """True if the program is dead. A program that lives, but has closed the pipe, starts no more agents."""
        return os.getppid() != self._program

    def poll(self, timeout: float | None = None) -> None:
        """Wait for lines from the program, and carry out each line."""
        if self.closed:
            return
        ready = [fd for fd, _ in self._poll.poll(None if timeout is None else timeout * 1000)]
        while not self.closed:
            try:
                data = os.read(0, 65536)
            except BlockingIOError:
                break
            if not data:
                self.closed = self.over = True
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                words = line.decode().split(" ")
                if words[0] in ("+", "="):
                    self.agents[words[1]] = ProcessTree(words[1], *map(int, words[2:]))
                elif words[0] == "-":
                    self.agents.pop(words[1], None)
                elif words[0] == "!" and words[1] in self.agents:
                    self.doomed.append(self.agents.pop(words[1]))
                elif words[0] == "quit":
                    self.agents.clear()
                    self.closed = self.over = True
        self.over = self.over or self._handle in ready

    def take_doomed(self) -> list[ProcessTree]:
        doomed, self.doomed = self.doomed, []
        return doomed


def _end(agents: list[ProcessTree], listener: _Listener, since: int, *, last: bool = False) -> None:
    """End the agents: send SIGTERM, and after `TERM_GRACE` seconds SIGKILL, until no process of the agents lives.

    `last` is True if the watcher exits after this call. The search then continues for `SEARCH` seconds: one of the
    agents of the dead program may be between fork and exec, and so have no mark yet.
    """
    ending, start, quiet, kills = Ending(agents), time.monotonic(), 0, 0
    while quiet < QUIET or (last and listener.is_orphan):
        elapsed = time.monotonic() - start
        if elapsed > SEARCH and kills >= KILLS:
            return
        signum = signal.SIGTERM if elapsed < TERM_GRACE else signal.SIGKILL
        kills += signum == signal.SIGKILL
        quiet = 0 if ending.send(signum, read_processes(since)) else quiet + 1
        time.sleep(PAUSE)
        if not listener.closed:
            listener.poll(0)


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
