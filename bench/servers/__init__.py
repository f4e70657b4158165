"""What is measured: each module is a server, started with `python -m bench.servers.<name>`.

A new peer is one file here: an async context manager that yields a `Server` (see `_shape.py`), and a last line that
gives it to `run` of `_on_trio.py` or `_on_asyncio.py`. One whose packages are not installed is skipped. Rows about
it go into `bench/targets.py`.

The process prints one JSON line when it serves (port, abilities), obeys one command per line of its stdin with one
JSON line each (see `_commands.py`), and ends when its stdin does.
"""

from __future__ import annotations

import pkgutil


def names() -> list[str]:
    """Every server there is, ours first."""
    found = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted(found, key=lambda name: (name != "triocept", name))
