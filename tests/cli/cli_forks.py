"""`triocept` with arguments, in a fork of a process that has imported it: the imports take most of a short command.

As a program, this file is that process. It is nobody's child and ends with the one that asked it last. What a fork does
is what `python -m triocept` does from its first line on; how the interpreter itself starts is in `test_signals`, whose
programs are started one by one.
"""

import atexit
import gc
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

MOST = 1 << 20
"""Bytes of a command and its environment."""


def triocept(
    *arguments: str | Path, timeout: float, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Its output goes to files; its input is that of the tests."""
    command = [sys.executable, "-m", "triocept", *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    read_at_start = [name for name in env or {} if name.startswith(("PYTHON", "LC_", "LANG"))]
    if (
        read_at_start or sys.platform != "linux"
    ):  # the interpreter reads those as it starts; others have no SEQPACKET
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env=environment
        )
    with TemporaryFile() as output, TemporaryFile() as errors:
        streams = [0, output.fileno(), errors.fileno()]
        asked = json.dumps([command[3:], str(cwd or Path.cwd()), environment]).encode()
        status = _ended(asked, streams, command, timeout)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, status, output.read().decode(), errors.read().decode())


def _ended(asked: bytes, streams: list[int], command: list[str], timeout: float) -> int:
    """The status of a command, as `subprocess` gives it."""
    forks = _forks()
    socket.send_fds(forks, [asked], streams)
    forks.settimeout(timeout)
    number = int(forks.recv(100))
    try:
        return int(forks.recv(100))
    except TimeoutError:
        os.kill(number, signal.SIGKILL)
        forks.settimeout(None)
        forks.recv(100)
        raise subprocess.TimeoutExpired(command, timeout) from None


@cache
def _forks() -> socket.socket:
    """The way to the process that forks. It sees the end of this one, however that comes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = theirs.fileno()
        subprocess.run(
            [sys.executable, __file__, str(number)],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    atexit.register(ours.close)
    return ours


def main() -> None:
    if os.fork():  # nobody's child: tests count those of their process
        os._exit(0)
    os.setsid()
    _import_all()
    asking = socket.socket(fileno=int(sys.argv[1]))
    while True:
        data, streams, _, _ = socket.recv_fds(asking, MOST, 3)
        if not data:
            return
        if not (number := os.fork()):
            asking.close()
            _become(streams, *json.loads(data))
            return
        for stream in streams:
            os.close(stream)
        asking.send(str(number).encode())
        _, status = os.waitpid(number, 0)
        asking.send(str(os.waitstatus_to_exitcode(status)).encode())


def _import_all() -> None:
    """What commands import when they need it, too."""
    for name in (
        "triocept._cli",
        "triocept.handlers",
        "triocept._server",
        "triocept._upstream",
        "triocept.fleets",
    ):
        package = import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            import_module(module.name)
    import_module("triocept._endpoint")
    gc.collect()
    gc.freeze()  # or the first look for garbage in each fork copies all of it


def _become(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["triocept", *arguments]
    runpy.run_module("triocept", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
