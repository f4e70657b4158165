"""`--watch`: a script that is read anew whenever its file changes, while agents ask.

Rules:

1. A file with an error leaves the script as it was, and the error is said. So does one that is gone for a moment.
2. A script that is read anew begins anew. What is being answered by the old one is answered by that.
3. What the script has no reply for is refused, with the reason, and said: nobody starts the endpoint again for a slip.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import trio

from .._rollout.exchange import Exchange
from ..errors import ScriptExhausted, TrioceptError
from .ending import describe_error
from .script import read_model

__all__ = ["WatchedScript"]

EVERY = 0.25
"""Seconds between two looks. An editor that writes a file in pieces has had as long to end."""


class WatchedScript:
    """A handler that answers by a file as it was when it was last right.

    Args:
        path: the file.
        say: where what goes wrong is told.
        note: where what goes well is.

    Raises:
        Exception: what is wrong with it at the beginning.
    """

    def __init__(self, path: Path, say: Callable[[str], None], note: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._note = note
        self._stamp = _stamp(path)
        self._model = read_model(path, say)

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._model(exchange)
        except Exception as exc:  # of the script: said, and the agent's answer
            ours = isinstance(exc, TrioceptError) and not isinstance(exc, ScriptExhausted)
            if ours or exchange.settled:
                raise
            self._tell(exc)
            await exchange.refuse(
                404 if isinstance(exc, ScriptExhausted) else 500, str(exc) or type(exc).__name__
            )

    async def watch(self) -> NoReturn:
        """Look at the file until this is cancelled."""
        seen = self._stamp
        while True:
            await trio.sleep(EVERY)
            before, seen = seen, _stamp(self._path)
            if seen == before and seen not in (self._stamp, None):
                self._stamp = seen
                self._read()

    def _read(self) -> None:
        try:
            self._model = read_model(self._path, self._say)
        except (Exception, SystemExit) as exc:  # noqa: BLE001  # a script's own code may raise anything
            self._tell(exc)
            self._say("the script as it was before goes on answering")
        else:
            self._note(f"script   {self._path} was read anew: {self._model!r}")

    def _tell(self, error: BaseException) -> None:
        for line in describe_error(error, self._path).splitlines():
            self._say(line)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
