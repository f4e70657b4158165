"""The dialect's name, and who must be spoken to with care."""

from __future__ import annotations

from ..._canonical.request import Request

NAME = "openai_responses"


def asks_as_codex(request: Request) -> bool:
    """Whether Codex asks, to whom `response.incomplete` is fatal: it exits with 1, and its work is lost.

    It is known by `client_metadata`: Codex puts it into every body (0.169: `x-codex-installation-id` and the
    like), and OpenAI's public API has no such field.
    """
    return isinstance((request.extra or {}).get("client_metadata"), dict)
