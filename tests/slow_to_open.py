"""A recorder whose opening takes as long as a test wants: what begins is not there yet, and may end meanwhile."""

import trio

from triocept import Trace, Turn


class SlowToOpen:
    """A recorder that is opened when it is told to."""

    def __init__(self, *, shielded: bool = False) -> None:
        self.opening, self.go = trio.Event(), trio.Event()
        self.sealed: list[Trace] = []
        self._shielded = shielded

    async def aopen(self) -> None:
        self.opening.set()
        with trio.CancelScope(shield=self._shielded):
            await self.go.wait()

    async def record(self, turn: Turn) -> None:
        pass

    async def seal(self, trace: Trace) -> None:
        self.sealed.append(trace)

    async def aclose(self) -> None:
        pass
