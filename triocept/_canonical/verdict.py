"""What a moderation says of a text."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Those of OpenAI's omni-moderation."""
FLAGGED = 0.5
"""The score from which on a category is flagged."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one text."""

    flagged: bool = False
    scores: Mapping[str, float] = {}
    """From 0 to 1, by category; 0 where none stands."""
