"""Real programs for these tests: found, started on ports of their own, and ended with all that they started."""

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.ports import free_port

START = 15.0
"""Seconds for a program to listen."""


def program(name: str) -> str:
    """Its path; the test is skipped where there is none."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"this machine has no {name}")
    return path


async def listens(port: int, host: str = "127.0.0.1") -> bool:
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError:
        return False
    await stream.aclose()
    return True


def descendants(pid: int) -> list[int]:
    """All processes below one, without itself."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            found.append(child)
            todo.append(child)
    return found


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """A program and all below it, at once."""
    for pid in [process.pid, *descendants(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


class SSHD:
    """A server with keys of its own; it lets in whoever runs the test, with `identity`."""

    def __init__(self, folder: Path, *config: str) -> None:
        self.sshd, keygen = program("sshd"), program("ssh-keygen")
        program("ssh")
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.identity = folder / "user"
        self.known_hosts = folder / "known_hosts"
        self.destination = f"{getpass.getuser()}@127.0.0.1"
        for key in (folder / "host", self.identity):
            if not key.exists():
                subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        self.config = config
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # where it takes its privileges off

    @property
    def options(self) -> tuple[str, ...]:
        """What makes `ssh` know its host key."""
        return (
            "-F",
            "none",
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            "StrictHostKeyChecking=yes",
        )

    async def start(self) -> None:
        """Start it, on the port that it had if it had one."""
        for _ in range(5):
            port = self.port or free_port()
            self._process = self._start(port)
            with trio.move_on_after(START):
                while self._process.poll() is None:
                    if await listens(port):
                        self.port = port
                        host_key = (self.folder / "host.pub").read_text().split()[:2]
                        self.known_hosts.write_text(f"[127.0.0.1]:{port} {' '.join(host_key)}\n")
                        return
                    await trio.sleep(0.01)
        raise AssertionError((self.folder / "log").read_text())

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        config = self.folder / "config"
        config.write_text(
            "\n".join(
                [
                    *self.config,
                    f"Port {port}",
                    "ListenAddress 127.0.0.1",
                    f"HostKey {self.folder / 'host'}",
                    f"AuthorizedKeysFile {self.folder / 'authorized'}",
                    "PidFile none",
                    "UsePAM no",
                    "StrictModes no",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "",
                ]
            )
        )
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
            )

    def kill(self) -> None:
        """It, and every connection of it."""
        if self._process is not None:
            kill_tree(self._process)
            self._process = None


@asynccontextmanager
async def open_sshd(folder: Path, *config: str) -> AsyncIterator[SSHD]:
    server = SSHD(folder, *config)
    try:
        await server.start()
        yield server
    finally:
        server.kill()


def network_namespaces() -> str:
    """The path of `ip`, where network namespaces may be made; the test is skipped where not."""
    ip = program("ip")
    name = f"triocept-probe-{os.getpid()}"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
    subprocess.run([ip, "netns", "delete", name], check=True)
    return ip


def each_process(tag: str) -> Iterator[tuple[int, str]]:
    """The living processes with this in their command line, and their names."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if tag.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    yield int(name), Path(f"/proc/{name}/comm").read_text().strip()
            except OSError:
                continue
