"""Whether a server gives its tokens: asked once, before an agent is let in."""

from __future__ import annotations

from ..._trace.tokens import Tokens
from ...errors import UpstreamError

__all__ = ["HINTS", "check_probe"]

_EXPECTED = frozenset({"prompt_ids_missing"})
HINTS = {
    "vllm": "it must know `return_token_ids` (0.11 and later)",
    "sglang": "it must know the header x-sglext-return-output-ids (0.5.23 does)",
    "llama_cpp": "its log probabilities must name their ids (a build of 2025 or later)",
}


def check_probe(tokens: Tokens, *, prompt: bool) -> None:
    """Accept what a server gave for one token.

    Args:
        tokens: what was collected.
        prompt: whether the ids of the prompt are to be expected.

    Raises:
        UpstreamError: something is missing; the text says what, and what to do.
    """
    wrong = [gap for gap in tokens.gaps if prompt or gap not in _EXPECTED]
    if wrong:
        raise UpstreamError(
            f"the server does not give its tokens as {tokens.engine} does: {', '.join(wrong)}; "
            f"{HINTS[tokens.engine]}"
        )
