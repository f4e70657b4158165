"""Waiting in trio for a future that another thread completes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, final

import trio


@final
class Waited:
    """A future, for the trio loop in which this object is made."""

    def __init__(self, future: Future[Any]) -> None:
        self.over: trio.Event = trio.Event()
        """Set when the future is done; also set by code that detects that it never will be."""
        self._token = trio.lowlevel.current_trio_token()
        self._future = future
        future.add_done_callback(self._tell)

    def _tell(self, _: object) -> None:
        try:
            self._token.run_sync_soon(self.over.set)
        except trio.RunFinishedError:
            pass  # no task waits any more

    async def get(self) -> Any:
        """Wait for the result, and return it or raise the exception."""
        await self.over.wait()
        return self._future.result()

    @property
    def done(self) -> bool:
        """True if the future has a result or an exception."""
        return self._future.done()

    def result(self) -> Any:
        """Return the result of a done future, or raise its exception."""
        return self._future.result(0)
