"""`--script`: reads a script from a file, and answers the agent's calls with it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click
import trio

from .._rollout.embedding import Embed
from .._rollout.workers import Handler
from ..handlers import ScriptedModel, ScriptWarning, read_script
from ..handlers.script.file import embeddings_in
from ..handlers.script.fixtures import VectorsLeft
from .options import is_trace_file


@dataclass(frozen=True)
class Answers:
    """An open handler that answers the calls of a rollout, and the function that answers requests for embeddings."""

    model: Handler
    embeddings: Embed | None = None
    """Function that returns the vectors of texts from a file of fixtures. None if the file contains no vectors."""
    variables: tuple[str, ...] = ()
    """Environment variables to hide from the agent; see `Forward`."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        await trio.lowlevel.checkpoint()
        yield self


class Model(Protocol):
    """A handler that the command's options describe. The handler is not open before `open` is called."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables to hide from the agent; see `Forward`."""

    def open(self, say: Callable[[str], None]) -> AbstractAsyncContextManager[Answers]:
        """Open the handler. Print its warnings with `say`."""


@dataclass(frozen=True)
class Script:
    path: Path
    variables: tuple[str, ...] = ()
    """Names of environment variables to hide from the agent (see `Forward`). A script hides none."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """Open the script's handler. The script can import modules from its directory.

        Raise TrioceptError if the file is not a script. Exceptions in the script's own code are raised unchanged.
        """
        await trio.lowlevel.checkpoint()
        if self.path.suffix != ".py" and is_trace_file(self.path):
            raise click.UsageError(
                f"--script: {self.path} is a trace file, and not a script: to replay it, write --replay {self.path}"
            )
        yield read_answers(self.path, say)


@contextmanager
def imports_beside(path: Path) -> Iterator[None]:
    """Make the modules in a file's directory importable. Run the file in the `with` block.

    In the block, the directory is in `sys.path` after the standard library, and before installed packages: as for a
    file that python itself runs, `import utils` imports the file `utils.py` beside the file. After the block, the
    directory is the last of `sys.path`, so that no file in it hides a package that triocept imports later.
    """
    folder = str(path.resolve().parent)
    installed = (at for at, each in enumerate(sys.path) if each.endswith(("site-packages", "dist-packages")))
    first = next(installed, len(sys.path))
    if folder in sys.path[:first]:
        yield
        return
    sys.path[first:] = [folder, *(each for each in sys.path[first:] if each != folder)]
    try:
        yield
    finally:
        sys.path[:] = [*(each for each in sys.path if each != folder), folder]


def read_answers(path: Path, say: Callable[[str], None]) -> Answers:
    """Read a script from a file. Print the text of its warnings with `say`."""
    with imports_beside(path), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScriptWarning)
        warnings.simplefilter("ignore", VectorsLeft)  # the vectors are served
        model = ScriptedModel(read_script(path))
    for each in caught:
        if issubclass(each.category, ScriptWarning):
            say(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return Answers(model, embeddings_in(path))
