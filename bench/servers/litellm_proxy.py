"""The litellm proxy, answering by itself, where it is installed.

`TRIOCEPT_BENCH_LITELLM` is its command; otherwise it is looked for on PATH.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ._on_asyncio import run
from ._program import ProgramServer, open_program, unused_port
from ._shape import ANSWER, Gate


def litellm_proxy(
    command: str, model: str, parameters: dict[str, str], folder: Path, *, port: int, key: str
) -> tuple[list[str], dict[str, str]]:
    """What starts a proxy with one model: its argv and its environment. It takes no weak key."""
    entry = {"model_name": model, "litellm_params": {"model": f"openai/{model}", **parameters}}
    settings = {"telemetry": False, "num_retries": 0}
    config = folder / "litellm.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": [entry], "litellm_settings": settings}))
    argv = [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return argv, {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[ProgramServer]:
    """A proxy whose model always says the same."""
    command = os.environ.get("TRIOCEPT_BENCH_LITELLM") or shutil.which("litellm")
    if command is None:
        raise SystemExit("litellm is not installed")
    port, key = unused_port(), f"sk-{secrets.token_hex(16)}"
    parameters = {"api_key": "none", "mock_response": ANSWER}
    with tempfile.TemporaryDirectory() as folder:
        argv, environ = litellm_proxy(command, "*", parameters, Path(folder), port=port, key=key)
        ready = "Application startup complete"
        async with open_program(argv, ready, port=port, key=key, environ=environ) as server:
            yield server


if __name__ == "__main__":
    run(open_server, frozenset({"answer"}))
