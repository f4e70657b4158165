"""A mock of providers for tests, on Node (npm `@copilotkit/aimock`), where it is installed.

`TRIOCEPT_BENCH_AIMOCK` is its command (`llmock`); otherwise it is looked for where `nox -s upstreams` puts it, and on
PATH. It matches a fixture and records the request.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ._on_asyncio import run
from ._program import ProgramServer, open_program
from ._shape import ANSWER, Gate

_MODELS = ("bench", "triocept", "claude-opus-4-8")
"""Of generated bodies, and of recorded ones."""
_INSTALLED = (
    Path(__file__).parents[2] / ".nox" / "upstreams-cache" / "npm" / "node_modules" / ".bin" / "llmock"
)


def _command() -> str:
    found = os.environ.get("TRIOCEPT_BENCH_AIMOCK") or shutil.which(_INSTALLED) or shutil.which("llmock")
    if found is None:
        raise SystemExit("aimock is not installed")
    return found


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[ProgramServer]:
    """A server on a port of the kernel's choice."""
    with tempfile.TemporaryDirectory() as folder:
        fixtures = Path(folder) / "fixtures.json"
        found = [{"match": {"model": model}, "response": {"content": ANSWER}} for model in _MODELS]
        fixtures.write_text(json.dumps({"fixtures": found}))
        argv = [_command(), "-p", "0", "-f", str(fixtures)]
        async with open_program(argv, r"listening on http://[\d.]+:(\d+)") as server:
            yield server


if __name__ == "__main__":
    run(open_server, frozenset({"answer"}))
