"""The result of the moderation of a text."""

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
"""The categories of OpenAI's moderation model `omni-moderation`."""
FLAGGED = 0.5
"""Minimum score at which a category is flagged."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the moderation of one text."""

    flagged: bool = False
    scores: Mapping[str, float] = {}
    """Scores from 0 to 1 by category; a missing category has the score 0."""
