"""Which event loop runs us. It has to be trio's, and who calls us from another one is told so."""

from __future__ import annotations

import trio


def check_loop(what: str) -> None:
    """See that trio runs.

    Args:
        what: who wants to know, for the error's text.

    Raises:
        RuntimeError: it does not; asyncio does, say.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            f"{what} needs trio, and trio does not run here: start the program with `trio.run(main)`, not with "
            "`asyncio.run(main())`. A program that stays on asyncio, or is not async, has its endpoint in another "
            "thread: `with triocept.testing.serve() as endpoint`"
        )
