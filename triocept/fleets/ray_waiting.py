"""trio waits for a future that another thread fulfils."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, final

import trio


@final
class Waited:
    """A future, for the trio loop in which this is made."""

    def __init__(self, future: Future[Any]) -> None:
        self.over: trio.Event = trio.Event()
        """Set when it is done; also by who knows that it never will be."""
        self._token = trio.lowlevel.current_trio_token()
        self._future = future
        future.add_done_callback(self._tell)

    def _tell(self, _: object) -> None:
        try:
            self._token.run_sync_soon(self.over.set)
        except trio.RunFinishedError:
            pass  # nobody waits any more

    async def get(self) -> Any:
        """Wait for its result, or for the exception."""
        await self.over.wait()
        return self._future.result()

    @property
    def done(self) -> bool:
        """Whether it has one of them."""
        return self._future.done()

    def result(self) -> Any:
        """The result, or the exception: of one that is done."""
        return self._future.result(0)
