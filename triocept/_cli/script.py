"""`--script`: a scripted model behind the command line."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from .._rollout.workers import Handler
from ..handlers import ScriptedModel, read_script

__all__ = ["Script"]


@dataclass(frozen=True)
class Script:
    """A script, as the option says it."""

    path: Path
    variables: tuple[str, ...] = ()
    """As of `Forward`: a script hides none."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Handler]:
        """The handler that answers by it. What lies beside it can be imported, as if Python ran it.

        Raises:
            TrioceptError: it is no script.
            Exception: what the script's own code raised.
        """
        await trio.lowlevel.checkpoint()
        sys.path.insert(0, str(self.path.resolve().parent))
        yield ScriptedModel(read_script(self.path))
