"""Check that the caller runs under trio, and not under another event loop such as asyncio."""

from __future__ import annotations

import trio


def check_loop(what: str) -> None:
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            f"{what} needs trio, but trio is not running: start the program with `trio.run(main)`, not with "
            "`asyncio.run(main())`. If the program must use asyncio, or is not async, run the endpoint in another "
            "thread: `with triocept.testing.serve() as endpoint`"
        )
