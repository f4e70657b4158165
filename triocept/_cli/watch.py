"""`--watch`: a script that is read anew whenever its file changes, while agents ask.

Rules:

1. A file with an error leaves the script as it was, and the error is said; so does one that cannot be read, or is gone.
   An editor that puts another file in its place takes no time for that.
2. A script that is read anew begins anew. What is being answered by the old one is answered by that.
3. What the script has no reply for is refused, with the reason, and said: nobody starts the endpoint again for a slip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import trio

from .._canonical.vectors import vector_of
from .._rollout.embedding import Embed
from .._rollout.exchange import Exchange
from ..errors import ScriptExhausted, TrioceptError
from .ending import describe_error
from .script import read_answers

EVERY = 0.25
"""Seconds between two looks. An editor that writes a file in pieces has had as long to end."""
_AS_BEFORE = "the script as it was before goes on answering"


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
        self._is_good = True
        """Whether the file, as it was last looked at, is the script that answers."""
        self._answers = read_answers(path, say)
        self._embeds = self._answers.embeddings is not None

    @property
    def embed(self) -> Embed | None:
        """Gives texts the vectors that are in the file now; None: there were none when it was first read."""
        return self._embed if self._embeds else None

    def _embed(self, texts: Sequence[str]) -> Any:
        embeddings = self._answers.embeddings
        return [vector_of(text) for text in texts] if embeddings is None else embeddings(texts)

    def reset(self) -> None:
        """Read the file again and begin anew."""
        self._stamp = _stamp(self._path)
        self._read()

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._answers.model(exchange)
        except Exception as exc:  # of the script: said, and the agent's answer
            ours = isinstance(exc, TrioceptError) and not isinstance(exc, ScriptExhausted)
            if ours or exchange.settled:
                raise
            self._tell(exc)
            status = 404 if isinstance(exc, ScriptExhausted) else 500
            await exchange.refuse(status, str(exc) or type(exc).__name__)

    async def watch(self) -> NoReturn:
        """Look at the file until this is cancelled."""
        seen = self._stamp
        while True:
            await trio.sleep(EVERY)
            before, seen = seen, _stamp(self._path)
            if seen != before or not self._is_news(seen):
                continue
            self._stamp = seen
            if seen is None:
                self._is_good = False
                self._say(f"{self._path} is gone")
                self._say(_AS_BEFORE)
            else:
                self._read()

    def _is_news(self, stamp: _Stamp | None) -> bool:
        """Whether the file is another one than that which was read. One that could not be read may have got nothing but
        other rights."""
        if stamp is None or self._stamp is None or not self._is_good:
            return stamp != self._stamp
        return msgspec.structs.replace(stamp, changed=0) != msgspec.structs.replace(self._stamp, changed=0)

    def _read(self) -> None:
        try:
            self._answers = read_answers(self._path, self._say)
        except (Exception, SystemExit) as exc:  # noqa: BLE001  # a script's own code may raise anything
            self._is_good = False
            self._tell(exc)
            self._say(_AS_BEFORE)
        else:
            self._is_good = True
            self._note(f"script   {self._path} was read anew: {self._answers.model!r}")
            if self._answers.embeddings is not None and not self._embeds:
                self._say(f"{self._path} has embeddings now: they are given when it is served again")

    def _tell(self, error: BaseException) -> None:
        for line in describe_error(error, self._path).splitlines():
            self._say(line)


class _Stamp(msgspec.Struct, frozen=True):
    """What changes when a file does."""

    written: int
    size: int
    number: int
    changed: int
    """Nanoseconds, as `written`; of its rights and names, too."""


def _stamp(path: Path) -> _Stamp | None:
    """That of a file; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns)
