"""mitmproxy as a reverse proxy, where it is installed. It keeps each flow, and passes its bytes on.

`TRIOCEPT_BENCH_MITMDUMP` is its command; otherwise it is looked for on PATH. The server behind it, which answers all
requests alike, runs in this process, whose time is not counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ._on_asyncio import run
from ._program import ProgramServer, open_program
from ._shape import REPLY, Gate

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            await reader.readexactly(int(found[1]) if found else 0)
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[ProgramServer]:
    """A proxy on a port of the kernel's choice, in front of a server that always says the same."""
    command = os.environ.get("TRIOCEPT_BENCH_MITMDUMP") or shutil.which("mitmdump")
    if command is None:
        raise SystemExit("mitmproxy is not installed")
    async with await asyncio.start_server(_answer_all, "127.0.0.1", 0) as behind:
        mode = f"reverse:http://127.0.0.1:{behind.sockets[0].getsockname()[1]}"
        argv = [command, "--mode", mode, "--listen-host", "127.0.0.1", "-p", "0", "--flow-detail", "0"]
        async with open_program(argv, r"listening at 127\.0\.0\.1:(\d+)") as server:
            yield server


if __name__ == "__main__":
    run(open_server, frozenset({"answer", "dialects"}))
