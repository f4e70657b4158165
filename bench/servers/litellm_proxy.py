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


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[ProgramServer]:
    """A proxy with one model, which always says the same."""
    command = os.environ.get("TRIOCEPT_BENCH_LITELLM") or shutil.which("litellm")
    if command is None:
        raise SystemExit("litellm is not installed")
    key = f"sk-{secrets.token_hex(16)}"  # it takes no weak one
    model = {
        "model_name": "bench",
        "litellm_params": {"model": "openai/bench", "api_key": "none", "mock_response": ANSWER},
    }
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"  # JSON is YAML
        config.write_text(json.dumps({"model_list": [model], "litellm_settings": {"telemetry": False}}))
        port = unused_port()
        argv = [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
        ready = "Application startup complete"
        async with open_program(argv, ready, port=port, key=key, environ=environ) as server:
            yield server


if __name__ == "__main__":
    run(open_server, frozenset({"answer"}))
