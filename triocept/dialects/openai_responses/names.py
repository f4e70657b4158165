"""The name of the dialect, and the recognition of Codex."""

from __future__ import annotations

from ..._canonical.request import Request

NAME = "openai_responses"


def asks_as_codex(request: Request) -> bool:
    """Return True if Codex sent the request.

    `response.incomplete` is fatal for Codex: it exits with 1, and its work is lost. `client_metadata` identifies
    Codex: every body of Codex contains it (0.169: `x-codex-installation-id` and similar), and OpenAI's public API has
    no such field.
    """
    return isinstance((request.extra or {}).get("client_metadata"), dict)
