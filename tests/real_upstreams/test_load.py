"""Ten thousand calls that are cancelled in mid-stream."""

from __future__ import annotations

import gc
from pathlib import Path

import trio

from tests.upstream.test_load import check_cancelled_many


def resident() -> int:
    """KiB of this process that are in memory."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1])


async def test_ten_thousand_cancelled_calls_leave_memory_where_it_was() -> None:
    with trio.fail_after(600):
        await check_cancelled_many(rounds=10)  # what is loaded and kept once is loaded now
        gc.collect()
        before = resident()
        await check_cancelled_many(rounds=100)
        gc.collect()
        assert resident() - before < 4096
