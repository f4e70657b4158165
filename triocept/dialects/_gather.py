"""What the chunks of a stream have beside, gathered into the form of a whole answer's."""

from __future__ import annotations

from .._canonical.content import Json

__all__ = ["gather"]


def gather(into: dict[str, Json], more: dict[str, Json]) -> None:
    """Add a chunk's unknown fields: lists go on, objects are merged, of anything else the last one counts."""
    for name, value in more.items():
        known = into.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known += value
        elif isinstance(known, dict) and isinstance(value, dict):
            gather(known, value)
        elif value is not None or known is None:
            into[name] = value
