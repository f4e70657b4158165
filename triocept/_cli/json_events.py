"""`--json`: prints the events of a run on standard output, one JSON object on each line.

Rules:

1. Standard output contains only events. Other output of the agent, a handler or triocept goes to standard error.
2. If the process that reads the events is slow, events wait in memory, and the agent is not delayed. If this process
   has ended, events are dropped, and the run continues.
3. All events are written before the command ends. After an error or a signal, this may take at most `PATIENCE` seconds.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import click
import msgspec
import trio

from ..traces import OnEvent, RolloutEvent

PATIENCE = 2.0
"""Maximum seconds to write the last events of a run that was ended by an error or a signal."""

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print each event (a start, a call, an end) on standard output, as one JSON object on one line. All other "
    "output goes to standard error.",
)


@asynccontextmanager
async def json_events(wanted: bool) -> AsyncIterator[OnEvent | None]:
    """Reserve standard output for events while the block runs, and yield the function that prints an event.

    If `wanted` is False, change nothing, and yield None.
    """
    if not wanted:
        await trio.lowlevel.checkpoint()
        yield None
        return
    send, receive = trio.open_memory_channel[RolloutEvent](math.inf)
    written, scope = trio.Event(), trio.CancelScope(shield=True)
    output = os.dup(1)
    os.dup2(2, 1)

    def on_event(event: RolloutEvent) -> None:
        with suppress(trio.BrokenResourceError):  # the reader has gone
            send.send_nowait(event)

    async def write() -> None:
        with scope:
            await _write(receive, output)
        written.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            yield on_event
            send.close()
            await written.wait()
        except BaseException:
            send.close()
            scope.deadline = trio.current_time() + PATIENCE
            raise
    sys.stdout.flush()
    os.dup2(output, 1)
    os.close(output)


async def _write(events: trio.MemoryReceiveChannel[RolloutEvent], output: int) -> None:
    def write(event: RolloutEvent) -> None:
        line = msgspec.json.encode(event.brief()) + b"\n"
        while line:
            line = line[os.write(output, line) :]

    with events, suppress(OSError):  # the reader has gone
        async for event in events:
            await trio.to_thread.run_sync(write, event, abandon_on_cancel=True)
