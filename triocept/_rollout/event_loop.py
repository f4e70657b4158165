"""The check that trio runs. It raises an error for callers on another event loop."""

from __future__ import annotations

import trio


def check_loop(what: str) -> None:
    """Raise an error unless trio runs.

    Args:
        what: name of the caller, for the error's text.

    Raises:
        RuntimeError: trio does not run (asyncio does, for example).
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            f"{what} needs trio, but trio is not running: start the program with `trio.run(main)`, not with "
            "`asyncio.run(main())`. If the program must use asyncio, or is not async, run the endpoint in another "
            "thread: `with triocept.testing.serve() as endpoint`"
        )
