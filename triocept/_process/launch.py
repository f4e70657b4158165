"""Becomes an agent, and marks it first. Run as a script, by the interpreter, for some milliseconds.

The mark is a limit of the process that the kernel hands on to whatever it starts, and lets nobody but root raise: the
one on file locks, which means nothing since Linux 2.4.25 (setrlimit(2)). An environment can be dropped (`env -i`), a
session left (`setsid`) and a parent lost (a daemon's double fork), all at once; this stays.

It has to be there before the agent's first instruction, and so is set here, not from outside. Not in a function between
fork and exec: that would make every start a fork of the whole program, and a large one takes long to fork.

Rules:

1. The agent sees nothing of it: its arguments, environment, signals and descriptors are those that it was given; but
   SIGINT is never blocked.
2. What goes wrong is told on the pipe: `+` when this runs, then the number of the error that the exec gave.
3. Built-in modules alone: each other one costs a millisecond.
"""

import _signal  # type: ignore[import-not-found]
import posix
import sys

LOCKS = 10
"""RLIMIT_LOCKS of every machine that Python runs on; the module `resource` does not name it."""
NOT_HERE = {2, 20}
"""ENOENT, ENOTDIR: the next directory of the PATH may have it."""


def launch(pipe: int, mark: int, argv: list[str]) -> int:
    """Become `argv`; returns the error's number if that fails."""
    posix.set_inheritable(pipe, False)
    posix.write(pipe, b"+")
    _set_mark(mark)
    environment = _environment()
    # Ignored by the interpreter: an agent would inherit that.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    # Blocked in what Ray starts, and inherited: nobody could interrupt such an agent.
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGINT})
    error = last = 0
    for path in _paths(argv[0], environment):
        try:
            posix.execve(path, argv, environment)
        except OSError as exc:
            last = exc.errno or 2
            if last not in NOT_HERE:
                error = error or last
    return error or last


def _set_mark(mark: int) -> None:
    try:
        import resource

        # Else it is the agent of an agent, and has one.
        if resource.getrlimit(LOCKS)[1] == resource.RLIM_INFINITY:
            resource.setrlimit(LOCKS, (mark, mark))
    except (ImportError, OSError, ValueError):  # a sandbox: the other marks have to do
        pass


def _environment() -> dict[bytes, bytes]:
    """As it was given: the interpreter puts LC_CTYPE into its own where the locale is C (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(posix.environ)
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def _paths(name: str, environment: dict[bytes, bytes]) -> list[bytes]:
    command = name.encode(sys.getfilesystemencoding(), "surrogateescape")
    if b"/" in command:
        return [command]
    return [
        folder + b"/" + command if folder else command
        for folder in environment.get(b"PATH", b"/bin:/usr/bin").split(b":")
    ]


if __name__ == "__main__":
    PIPE = int(sys.argv[1])
    posix.write(PIPE, b"%d" % launch(PIPE, int(sys.argv[2]), sys.argv[3:]))
    posix._exit(127)
