"""A server that is somebody else's program: it takes one port, and knows nothing of rollouts."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ._shape import Route

_START = 280.0
"""Seconds that it has to start."""


@dataclass
class ProgramServer:
    """A program that listens."""

    port: int
    pid: int
    """Its process, which is not the one that obeys commands."""
    key: str

    async def renew(self, count: int) -> list[Route]:
        return [Route("/v1/chat/completions", self.key)] * count


@asynccontextmanager
async def open_program(
    argv: list[str], ready: str, *, port: int = 0, key: str = "none", environ: dict[str, str] | None = None
) -> AsyncIterator[ProgramServer]:
    """Start a program; it ends when the body does.

    Args:
        argv: the command. One that is not installed raises `FileNotFoundError`.
        ready: a pattern in its output, after which it serves; its group, if it has one, is the port.
        port: which it is, if the program does not say.
        key: what its callers show.
        environ: its environment; None: ours.
    """
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=both, env=environ)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START):
            found = await _find(process.stdout, re.compile(ready.encode()))
        reading = asyncio.create_task(_drain(process.stdout))
        yield ProgramServer(int(found[1]) if found.groups() else port, process.pid, key)
        reading.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _find(output: asyncio.StreamReader, ready: re.Pattern[bytes]) -> re.Match[bytes]:
    said = b""
    while line := await output.readline():
        said += line
        if found := ready.search(line):
            return found
    raise RuntimeError(f"the program ended: {said[-2000:].decode(errors='replace')}")


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.read(65536):
        pass


def unused_port() -> int:
    """A port for a program that cannot say which one it got."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
