"""The increments of a response, and the way from them to a response and back."""

from ._canonical.events import (
    Event,
    PartBlob,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)

__all__ = [
    "Event",
    "PartBlob",
    "PartDelta",
    "PartEnd",
    "PartStart",
    "ResponseEnd",
    "ResponseStart",
    "assemble",
    "events_of",
]
