"""The peers of `bench.replay`, each installed into an environment of its own in a cache.

The cache is `.nox/bench-cache`; `TRIOCEPT_BENCH_DIR` overrides it. A peer that cannot be installed is left out, with
the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.packages import InstallFailed, environment, npm_install

from .processes import ServerProcess, ServerUnavailable, open_server_process
from .targets import OURS

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Peer:
    """A server, and where it comes from."""

    module: str
    """Its module in `bench.servers`."""
    requirements: tuple[str, ...] = ()
    """Requirements of its environment; empty: it runs in ours."""
    npm: str | None = None
    """Package of the npm registry."""
    variable: str | None = None
    """Environment variable that gives its module the path of the program; None: the module runs in the peer's own
    environment."""
    program: str = ""


PEERS = {
    OURS: Peer("triocept"),
    "vf_legacy": Peer("vf_legacy", ("verifiers==0.3.1", "aiohttp>=3.14")),
    "vf_newest": Peer("vf_v1", ("verifiers==0.4.0",)),
    "aimock": Peer("aimock", npm="@copilotkit/aimock", variable="TRIOCEPT_BENCH_AIMOCK", program="llmock"),
    "mitmproxy": Peer(
        "mitmproxy_reverse",
        ("mitmproxy==12.3.1",),
        variable="TRIOCEPT_BENCH_MITMDUMP",
        program="mitmdump",
    ),
    "litellm": Peer(
        "litellm_proxy", ("litellm[proxy]",), variable="TRIOCEPT_BENCH_LITELLM", program="litellm"
    ),
}


def cache_folder() -> Path:
    """Return the directory of environments and recordings."""
    folder = Path(os.environ.get("TRIOCEPT_BENCH_DIR", ROOT / ".nox" / "bench-cache")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def open_peer(name: str, *, log: Path, dumps: Path | None = None) -> Iterator[ServerProcess]:
    """Install a peer if need be, and run it until the block ends; with `dumps`, callgrind counts its instructions.

    Raises:
        ServerUnavailable: it cannot be installed, or does not start; the text contains the reason.
    """
    peer = PEERS[name]
    if dumps is not None and peer.variable:
        raise ServerUnavailable("callgrind counts the instructions of servers in Python only")
    python, variables = Path(sys.executable), {}
    place = cache_folder() / name
    try:
        if peer.requirements:
            python = environment(place, *peer.requirements)
        elif peer.npm and not _npm_program(place, peer).exists():
            if shutil.which("npm") is None:
                raise ServerUnavailable(
                    f"{peer.npm} comes from the npm registry, and this machine has no npm"
                )
            npm_install(place, f"{peer.npm}@*")
    except (InstallFailed, subprocess.TimeoutExpired) as exc:
        raise ServerUnavailable(f"it cannot be installed: {exc}") from exc
    if peer.variable:
        program = _npm_program(place, peer) if peer.npm else python.parent / peer.program
        variables = {peer.variable: str(program)}
        python = Path(sys.executable)
    with open_server_process(peer.module, log=log, python=python, variables=variables, dumps=dumps) as server:
        yield server


def _npm_program(place: Path, peer: Peer) -> Path:
    return place / "node_modules" / ".bin" / peer.program
