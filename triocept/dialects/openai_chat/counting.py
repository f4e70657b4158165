"""How many tokens a prompt has, asked of a provider of chat completions.

The wire has no call for it. vLLM has `/tokenize` beside it, which takes messages, and llama.cpp `/apply-template` and
`/tokenize`, for the prompt that it makes of them.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..side import CountCalls, ProviderCall, counted, only

__all__ = ["count_tokens"]

_COUNTED = ("model", "messages", "tools", "tool_choice")


def count_tokens(model: str, document: Json) -> CountCalls:
    """The calls that count; see `Dialect.count_tokens`."""
    asked = only(document, _COUNTED)
    told = yield _beside("/tokenize", {**asked, "add_generation_prompt": True})
    if (count := counted(told, "count")) is not None:
        return count
    template = yield _beside("/apply-template", asked)
    prompt = template.get("prompt") if isinstance(template, dict) else None
    if not isinstance(prompt, str):
        return None
    told = yield _beside("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
    tokens = told.get("tokens") if isinstance(told, dict) else None
    return len(tokens) if isinstance(tokens, list) else None


def _beside(path: str, document: Json) -> ProviderCall:
    return ProviderCall(path=path, document=document, at_root=True)
