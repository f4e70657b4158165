"""The variables in which agents look for a provider of OpenAI's wires."""

from __future__ import annotations

__all__ = ["environment"]


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    """Where each agent looks; see `Dialect.environment`. Several must be told a model, too."""
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": api_key,
        "OPENAI_MODEL": model,
        "COPILOT_PROVIDER_BASE_URL": base_url,
        "COPILOT_PROVIDER_API_KEY": api_key,
        "COPILOT_MODEL": model,
        "GROK_BASE_URL": base_url,
        "GROK_API_KEY": api_key,
        # OpenHands, in litellm's way: a provider, whose client is to be used, and its model.
        "LLM_BASE_URL": base_url,
        "LLM_API_KEY": api_key,
        "LLM_MODEL": f"openai/{model}",
    }
