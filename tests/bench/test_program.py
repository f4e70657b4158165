"""A peer that is a program of its own is started, found, and never left behind."""

import asyncio
import os
import sys

import pytest

from bench.servers._program import open_program

pytestmark = pytest.mark.once

SERVES = "import time; print('warming up'); print('listening on 127.0.0.1:4711', flush=True); time.sleep(60)"
READY = r"listening on [\d.]+:(\d+)"


def _ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_its_port_is_the_one_that_it_says_and_it_ends_with_the_body() -> None:
    async def main() -> int:
        async with open_program([sys.executable, "-c", SERVES], READY) as server:
            assert server.port == 4711
            assert not _ended(server.pid)
            assert [route.key for route in await server.renew(2)] == ["none", "none"]
            return server.pid

    assert _ended(asyncio.run(main()))


def test_one_that_ends_before_it_serves_has_the_last_word() -> None:
    async def main() -> None:
        async with open_program([sys.executable, "-c", "raise SystemExit('no such option')"], READY):
            pass

    with pytest.raises(RuntimeError, match="no such option"):
        asyncio.run(main())


def test_it_ends_if_the_body_fails() -> None:
    pids: list[int] = []

    async def main() -> None:
        async with open_program([sys.executable, "-c", SERVES], READY) as server:
            pids.append(server.pid)
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert _ended(pids[0])
