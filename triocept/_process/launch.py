"""A script that marks its own process, and then replaces itself with an agent. The script runs for some milliseconds.

The mark is the value of the process limit RLIMIT_LOCKS, both the soft and the hard limit. This limit of file locks has
had no effect since Linux 2.4.25 (setrlimit(2)). Every child process inherits the limit, and raising the hard limit
needs CAP_SYS_RESOURCE. So a process keeps the mark even if it drops its environment (`env -i`), leaves its session
(`setsid`) and loses its parent (a daemon's double fork).

The mark must be set before the agent's first instruction. Therefore this script sets the mark in the process that
becomes the agent. A function between fork and exec could also set the mark, but then every start would fork the whole
program, which is slow for a large program.

Rules:

1. The agent gets the arguments, environment, signals and descriptors that it would get without this script, except that
   SIGINT is never blocked.
2. The script writes to the pipe: first `+`, as soon as it runs, and later the error number, if exec fails.
3. The script imports only built-in modules, because the import of any other module takes a millisecond.
"""

import _signal  # type: ignore[import-not-found]
import posix
import sys

LOCKS = 10
"""Number of the resource RLIMIT_LOCKS (not the value of its limit). The number is 10 on all architectures of Linux.

The module `resource` has no constant for this resource."""
NOT_HERE = {2, 20}
"""The error numbers ENOENT and ENOTDIR. After one of these errors, `launch` tries the next directory of the PATH."""


def launch(pipe: int, mark: int, argv: list[str]) -> int:
    """Mark this process with `mark`, and replace it with the command `argv`. Return the error number if exec fails."""
    posix.set_inheritable(pipe, False)
    posix.write(pipe, b"+")
    try:
        import resource

        # If the limit is finite, an agent has started this agent, which then has a mark.
        if resource.getrlimit(LOCKS)[1] == resource.RLIM_INFINITY:
            resource.setrlimit(LOCKS, (mark, mark))
    except (ImportError, OSError, ValueError):  # a sandbox: the other marks must suffice
        pass
    try:  # as given: the interpreter adds LC_CTYPE to its own if the locale is C (PEP 538)
        with open("/proc/self/environ", "rb") as file:
            environment = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    except OSError:
        environment = dict(posix.environ)
    # The interpreter ignores these signals, and an agent would inherit this setting.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    # Ray blocks SIGINT in the processes that it starts. An agent would inherit this, and could not be interrupted.
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGINT})
    error = last = 0
    name = argv[0].encode(sys.getfilesystemencoding(), "surrogateescape")
    folders = [b""] if b"/" in name else environment.get(b"PATH", b"/bin:/usr/bin").split(b":")
    for folder in folders:
        path = folder + b"/" + name if folder else name
        try:
            posix.execve(path, argv, environment)
        except OSError as exc:
            last = exc.errno or 2
            if last not in NOT_HERE:
                error = error or last
    return error or last


if __name__ == "__main__":
    PIPE = int(sys.argv[1])
    posix.write(PIPE, b"%d" % launch(PIPE, int(sys.argv[2]), sys.argv[3:]))
    posix._exit(127)
