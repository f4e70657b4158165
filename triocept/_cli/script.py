"""`--script`: a scripted model behind the command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from .._rollout.embedding import Embed
from .._rollout.workers import Handler
from ..handlers import ScriptedModel, ScriptWarning, read_script
from ..handlers.script.file import embeddings_in
from ..handlers.script.fixtures import VectorsLeft


@dataclass(frozen=True)
class Answers:
    """What answers, and is open: that which an option names opens as one."""

    model: Handler
    embeddings: Embed | None = None
    """Gives texts the vectors in a file of fixtures; None: it has none."""
    variables: tuple[str, ...] = ()
    """As of `Forward`."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """It is open already."""
        await trio.lowlevel.checkpoint()
        yield self


@dataclass(frozen=True)
class Script:
    """A script, as the option says it."""

    path: Path
    variables: tuple[str, ...] = ()
    """As of `Forward`: a script hides none."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """What it answers with. What lies beside it can be imported, as if Python ran it.

        Raises:
            TrioceptError: it is no script.
            Exception: what the script's own code raised.
        """
        await trio.lowlevel.checkpoint()
        self.prepare()
        yield read_answers(self.path, say)

    def prepare(self) -> None:
        """Let what lies beside it be imported."""
        sys.path.insert(0, str(self.path.resolve().parent))


def read_answers(path: Path, say: Callable[[str], None]) -> Answers:
    """What is in a file now; what may not be meant in it is said, and is no error."""
    with _warnings_said(say):
        model = ScriptedModel(read_script(path))
    return Answers(model, embeddings_in(path))


@contextmanager
def _warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """Those of scripts in words, without a place in our own code; all others go their usual way."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ScriptWarning)
        warnings.simplefilter("ignore", VectorsLeft)  # they are given
        yield
    for each in told:
        if issubclass(each.category, ScriptWarning):
            say(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
