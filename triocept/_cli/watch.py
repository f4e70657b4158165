"""`--watch`: reloads a script whenever its file changes, while agents are served.

Rules:

1. If the file contains an error, is unreadable or does not exist, the error is printed. The script that was loaded
   before continues to answer. The loaded script also answers while an editor replaces the file.
2. A reloaded script starts from its beginning. The old script completes the answers that it has begun.
3. If the script has no reply for a request, the request is refused with this reason, and the reason is printed. The
   endpoint stays open, so that the user can correct the script.
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
from ..handlers import ScriptedModel
from .ending import describe_error
from .script import read_answers

EVERY = 0.25
"""Seconds between two checks of the file. A file is reloaded only if it has not changed for this time."""
_AS_BEFORE = "the previous version of the script continues to answer"


class WatchedScript:
    """A handler that answers from the last valid version of a script file. The file must be valid at the start.

    `say` is called to print errors, and `note` to print that the file was reloaded.
    """

    def __init__(self, path: Path, say: Callable[[str], None], note: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._note = note
        self._stamp = _stamp(path)
        self._is_good = True
        """True if the last check of the file found no error, so that the current script is the file's last version."""
        self._answers = read_answers(path, say)
        self._embeds = self._answers.embeddings is not None

    @property
    def embed(self) -> Embed | None:
        """Function that returns vectors of texts, as the current version of the script defines them.

        None if the first version of the file had no vectors.
        """

        def embed(texts: Sequence[str]) -> Any:
            embeddings = self._answers.embeddings
            return [vector_of(text) for text in texts] if embeddings is None else embeddings(texts)

        return embed if self._embeds else None

    def reset(self) -> None:
        """Reload the file, and start the script from its beginning.

        If the file is invalid, start the last valid version from its beginning.
        """
        self._stamp = _stamp(self._path)
        self._read()
        if not self._is_good and isinstance(self._answers.model, ScriptedModel):
            self._answers.model.reset()

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._answers.model(exchange)
        except Exception as exc:  # an error of the script: reported, and sent to the agent
            ours = isinstance(exc, TrioceptError) and not isinstance(exc, ScriptExhausted)
            if ours or exchange.settled:
                raise
            self._tell(exc)
            status = 404 if isinstance(exc, ScriptExhausted) else 500
            await exchange.refuse(status, str(exc) or type(exc).__name__)

    async def watch(self) -> NoReturn:
        seen = self._stamp
        while True:
            await trio.sleep(EVERY)
            before, seen = seen, _stamp(self._path)
            if seen != before:
                continue
            old = self._stamp
            if seen is not None and old is not None and self._is_good:
                # the file can be read: a change of its permissions or names alone is no change
                if msgspec.structs.replace(seen, changed=0) == msgspec.structs.replace(old, changed=0):
                    continue
            elif seen == old:
                continue
            self._stamp = seen
            if seen is None:
                self._is_good = False
                self._say(f"the script {self._path} does not exist any more")
                self._say(_AS_BEFORE)
            else:
                self._read()

    def _read(self) -> None:
        try:
            self._answers = read_answers(self._path, self._say)
        except (Exception, SystemExit) as exc:  # noqa: BLE001  # a script's own code may raise anything
            self._is_good = False
            self._tell(exc)
            self._say(_AS_BEFORE)
        else:
            self._is_good = True
            self._note(f"script   {self._path} was reloaded: {self._answers.model!r}")
            if self._answers.embeddings is not None and not self._embeds:
                self._say(
                    f"{self._path} now contains embeddings, which are served only after you restart the command"
                )

    def _tell(self, error: BaseException) -> None:
        for line in describe_error(error, self._path).splitlines():
            self._say(line)


class _Stamp(msgspec.Struct, frozen=True):
    """Attributes of a file, at least one of which changes when the file changes."""

    written: int
    size: int
    number: int
    changed: int
    """Time of the last change of the file's content, permissions or name, in nanoseconds."""


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns)
