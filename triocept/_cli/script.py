"""`--script`: a scripted model behind the command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from .._rollout.workers import Handler
from ..handlers import ScriptedModel, ScriptWarning, read_script

__all__ = ["Script", "read_model"]


@dataclass(frozen=True)
class Script:
    """A script, as the option says it."""

    path: Path
    variables: tuple[str, ...] = ()
    """As of `Forward`: a script hides none."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Handler]:
        """The handler that answers by it. What lies beside it can be imported, as if Python ran it.

        Raises:
            TrioceptError: it is no script.
            Exception: what the script's own code raised.
        """
        await trio.lowlevel.checkpoint()
        self.prepare()
        yield read_model(self.path, say)

    def prepare(self) -> None:
        """Let what lies beside it be imported."""
        sys.path.insert(0, str(self.path.resolve().parent))


def read_model(path: Path, say: Callable[[str], None]) -> ScriptedModel:
    """A model that says what is in a file now; what may not be meant in it is said, and is no error."""
    with _warnings_said(say):
        return ScriptedModel(read_script(path))


@contextmanager
def _warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """Those of scripts in words, without a place in our own code; all others go their usual way."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ScriptWarning)
        yield
    for each in told:
        if issubclass(each.category, ScriptWarning):
            say(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
