"""Check and start the command of an agent. Errors name the cause.

No error of this module contains an argument of the command or a value of the environment, because such a text may be a
key.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import trio

from .._util.checks import check_type, described
from ..errors import AgentFailed
from . import launch

KILL_TIMEOUT = 1.0
"""Maximum seconds to wait for the kernel to end a process that got SIGKILL."""


def check_argv(
    argv: Sequence[str | os.PathLike[str]], example: str = '"claude", "-p", "fix the bug"'
) -> tuple[str, ...]:
    """Return the command as a tuple of str. Errors contain `example` as an example of a command.

    Raises:
        TypeError: `argv` is not a sequence of str or paths.
        ValueError: `argv` is empty, or contains a text that the system cannot pass to a process.
    """
    if isinstance(argv, str | bytes | os.PathLike):
        raise TypeError(f"argv must be a list, [{example}], not one str, because no shell would split it")
    given: object = argv
    if not isinstance(given, Iterable):
        kind = type(argv).__name__
        hint = (
            f"; for a {kind}, write run_agent(launch.argv, env=launch.env)" if hasattr(argv, "argv") else ""
        )
        raise TypeError(f"argv must be a list, [{example}], not {described(argv)}{hint}")
    command = []
    for place, argument in enumerate(argv):
        text: object = os.fspath(argument) if isinstance(argument, os.PathLike) else argument
        if not isinstance(text, str):
            raise TypeError(f"argv[{place}] must be a str, not {type(text).__name__}")
        if not _can_be_passed(text):
            raise ValueError(
                f"argv[{place}] cannot be passed to a process: it contains a NUL character or a lone surrogate"
            )
        command.append(text)
    if not command or not command[0]:
        raise ValueError("argv is empty: its first entry must name the program to run")
    return tuple(command)


def check_env(env: Mapping[str, object]) -> dict[str, str]:
    """Check the environment `env`, and return a copy.

    Raises:
        TypeError: a name or a value is not a str.
        ValueError: the system cannot pass a variable to a process. The error contains the variable's name, but not its
            value.
    """
    environment: dict[str, str] = {}
    for name, value in env.items():
        check_type("env: a name", name, str, "a str")
        if not isinstance(value, str):
            raise TypeError(
                f"the values of env must be str, but the value of {name!r} is {type(value).__name__}"
            )
        if not name or "=" in name or not _can_be_passed(name) or not _can_be_passed(value):
            text = (
                f"env: {name!r} cannot be passed to a process: the name is empty or contains `=`, or the name or its "
                "value contains a NUL character or a lone surrogate"
            )
            raise ValueError(text)
        environment[name] = value
    return environment


def check_cwd(cwd: object) -> None:
    if cwd is not None:
        check_type("cwd", cwd, (str, os.PathLike), "a str or a path")


def check_input(data: object) -> bytes | None:
    """Return the agent's stdin as bytes; None means an empty stdin.

    Raises:
        TypeError: `data` is neither bytes nor str.
        ValueError: `data` is a str that UTF-8 cannot encode.
    """
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    if not isinstance(data, str):
        raise TypeError(
            f"input must be bytes or str, not {type(data).__name__}; for a file, pass file.read()"
        )
    try:
        return data.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("input contains a lone surrogate, which UTF-8 cannot encode") from exc


async def start_process(
    argv: tuple[str, ...],
    *,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None,
    feed: bool,
    capture: bool,
    terminal: bool = False,
    mark: int | None = None,
) -> trio.Process:
    """Start the process in a new process group and a new session.

    If `terminal` is True, start no new session: the new process group belongs to the program's session.

    Args:
        argv: the command that `check_argv` returned.
        env: the environment that `check_env` returned.
        cwd: working directory of the process. None means the working directory of the program.
        feed: True for a pipe to the process's stdin, False for an empty stdin.
        capture: True for pipes from stdout and stderr, False to inherit the program's stdout and stderr.
        terminal: True if the process inherits the program's stdin as well, and stays in the program's session.
        mark: number by which `launch` marks the process and all processes that it starts. None means no mark.

    Cancellation: no process is started. If the process has already started, the cancellation has no effect, and the
    process is returned.

    Raises:
        AgentFailed: the process cannot be started.
        NotImplementedError: on Windows.
    """
    if os.name != "posix":
        raise NotImplementedError(
            "agents need POSIX process groups: run this program on Linux, on macOS or in WSL"
        )
    pipe = subprocess.PIPE if capture else None
    options: dict[str, Any] = {
        "env": env,
        "cwd": cwd,
        "stdin": None if terminal else subprocess.PIPE if feed else subprocess.DEVNULL,
        "stdout": pipe,
        "stderr": pipe,
        **({"process_group": 0} if terminal else {"start_new_session": True}),
    }
    try:
        process = await _start_marked(argv, mark, options) if mark is not None else None
        return process or await trio.lowlevel.open_process(argv, **options)
    except OSError as exc:
        what = f"agent {argv[0]!r} cannot be started: {_what_to_do(argv[0], cwd, exc)}"
        failed = AgentFailed(what, argv=argv)
        raise failed from exc.with_traceback(None)  # the inner traceback is of no use to the caller


async def _start_marked(argv: tuple[str, ...], mark: int, options: dict[str, Any]) -> trio.Process | None:
    """Start the process through the script `launch`, which marks the process. Return None if the script cannot run.

    Raises:
        OSError: the command cannot be run.
    """
    if sys.platform != "linux" or not sys.executable or getattr(sys, "frozen", False):
        return None
    reader, writer = os.pipe()
    reports = trio.lowlevel.FdStream(reader)
    command = [sys.executable, "-I", "-S", launch.__file__, str(writer), str(mark), *argv]
    try:
        try:
            process = await trio.lowlevel.open_process(command, pass_fds=[writer], **options)
        except OSError as exc:
            if exc.filename == sys.executable:
                return None
            raise
        finally:
            os.close(writer)
        try:
            with trio.CancelScope(shield=True):  # the process exists: the caller gets it, or it has ended
                report = b"".join([bytes(data) async for data in reports])
                if report == b"+":
                    return process
                await process.wait()
        except BaseException:  # Ctrl-C, which a shield does not stop
            kill_nowait(process)
            raise
        _close_pipes(process)
    finally:
        reports.close()  # not `aclose`, which is a checkpoint
    if not report:  # the interpreter did not start in the agent's environment
        return None
    number = int(report.removeprefix(b"+"))
    raise OSError(number, os.strerror(number), argv[0])


def kill_nowait(process: trio.Process) -> None:
    """Kill a process and its group, and reap the process.

    The function has no checkpoint, so a Ctrl-C cannot interrupt it.
    """
    deadline = time.monotonic() + KILL_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.001)
    _close_pipes(process)


def _close_pipes(process: trio.Process) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if isinstance(stream, trio.lowlevel.FdStream):
            stream.close()  # not `aclose`, which is a checkpoint


def _can_be_passed(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _what_to_do(name: str, cwd: str | os.PathLike[str] | None, error: OSError) -> str:
    if cwd is not None and error.filename == cwd:
        return f"its working directory {os.fspath(cwd)!r} cannot be used ({error.strerror}): pass another one as cwd"
    if error.errno == errno.ENOENT and "/" in name:
        if (interpreter := _interpreter(os.path.join(cwd or "", name))) is not None:
            return (
                f"its first line names the interpreter {interpreter!r}, which does not exist: correct this line, or "
                "pass the interpreter and the file as a command"
            )
        return "this file does not exist: check the path"
    if error.errno == errno.ENOENT and " " in name:
        words = ", ".join(map(repr, name.split()))
        return (
            f"there is no command with this name: write each argument as an item of its own, as in [{words}]"
        )
    if error.errno == errno.ENOENT:
        return "there is no such command on the PATH in its environment: install the command, or pass its full path"
    if error.errno == errno.EACCES and os.path.isdir(name):
        return "this is a directory: pass the path of the program in it"
    if error.errno == errno.EACCES:
        return f"this file is not executable: run `chmod +x {name}`, or start the file with its interpreter"
    if error.errno == errno.ENOEXEC and name.endswith(".py"):
        return f"its first line does not name an interpreter (`#!`): run it as python {shlex.quote(name)}"
    if error.errno == errno.ENOEXEC:
        return "this is not a program for this machine: a script must begin with `#!` and its interpreter"
    if error.errno == errno.E2BIG:
        return "its arguments and environment are too long for the system: pass the prompt as input"
    return error.strerror or str(error)


def _interpreter(path: str) -> str | None:
    """Return the interpreter that the first line of a script names; None if the file is not such a script."""
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    words = os.fsdecode(first.removeprefix(b"#!")).split()
    return words[0] if first.startswith(b"#!") and words else None
