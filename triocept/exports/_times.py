"""Times and durations in the units of the formats."""

from __future__ import annotations

from datetime import UTC, datetime

from .._trace.turn import Turn


def iso_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def ended_at(turn: Turn) -> float:
    """Return the time at which a turn settled, in seconds since the epoch."""
    return turn.started_at + turn.duration
