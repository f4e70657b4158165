"""Report to a router that a rollout has ended. The router keeps a session for each rollout.

Rules:

1. The end of each rollout that made calls is reported once. If the report fails, the failure is logged.
2. A report takes at most `FINISH_SECONDS`, and is sent even after a cancellation.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, final

import trio

from .._rollout.rollout_state import RolloutState
from .._util.failures import keeping, keeping_each, raise_all
from ..errors import UpstreamError

if TYPE_CHECKING:
    from .pausing import Pauses

FINISH_SECONDS = 10.0
"""Maximum seconds for one report, as in SkyRL's own client."""

log = logging.getLogger("triocept.upstream")


@final
class Sessions:
    """The rollouts that have called one upstream, and so have a session at the upstream's router.

    Only `open_sessions` creates instances. The end of each added rollout is reported to the router.
    """

    def __init__(self, path: str, nursery: trio.Nursery) -> None:
        self.pauses: Pauses
        """The `Pauses` object of the upstream, by which the reports are sent. The upstream sets this attribute."""
        self._path = path
        self._nursery = nursery
        self._open: dict[RolloutState, None] = {}
        self.closed: bool = False

    def add(self, rollout: RolloutState) -> None:
        rollout = rollout.agents_own
        if rollout not in self._open:
            self._open[rollout] = None
            rollout.on_end.add(partial(self._end, rollout))

    def _end(self, rollout: RolloutState) -> None:
        if self._open.pop(rollout, rollout) is None and not self.closed:
            self._nursery.start_soon(self._report, rollout.id)

    async def _report(self, rollout: str) -> None:
        path = self._path.replace("{id}", rollout)
        with trio.CancelScope(shield=True):
            try:
                await self.pauses.send("POST", path, {}, FINISH_SECONDS)
            except (UpstreamError, trio.ClosedResourceError) as exc:
                log.warning("the end of rollout %s could not be reported to the upstream: %s", rollout, exc)


@asynccontextmanager
async def open_sessions(path: str) -> AsyncIterator[Sessions]:
    """Open the sessions of one upstream. At the end of the block, wait for the reports that are being sent."""
    errors: list[BaseException] = []
    with keeping_each(errors):
        async with trio.open_nursery() as nursery:
            sessions = Sessions(path, nursery)
            with keeping(errors):
                yield sessions
            sessions.closed = True
    raise_all(errors)
