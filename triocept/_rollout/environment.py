"""What tells agents of every dialect where their model is: a rollout, in the variables that each of them reads.

What is taken out of the environment of the program before that is said in `_process.environment`.
"""

from __future__ import annotations

__all__ = ["provider_environment"]

LONG = "1800000"
"""Milliseconds, half an hour: Claude Code ends a silent call after 300 s (2.1.197, 2.1.331), all four set together."""
PATIENCE = {
    "API_TIMEOUT_MS": LONG,
    "CLAUDE_STREAM_IDLE_TIMEOUT_MS": LONG,
    "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS": LONG,
    "API_FORCE_IDLE_TIMEOUT": "0",
}
QUIET = {
    # Claude Code: no calls but the model's, and no other version half-way through an evaluation.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    # OpenAI's agents SDK (Python, JavaScript) sends each run to its maker, with the key that it finds: the rollout's.
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    # Copilot, which otherwise takes GH_TOKEN for its key, and GitHub for its model.
    "COPILOT_OFFLINE": "true",
    # litellm fetches a table of prices at each start.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def provider_environment(
    *, openai_base_url: str, anthropic_base_url: str, gemini_base_url: str, api_key: str, model: str
) -> dict[str, str]:
    """What makes agents of every dialect call a rollout, and wait for its answer.

    Args:
        openai_base_url: as OpenAI's SDKs take it, up to and with `/v1`.
        anthropic_base_url: as Anthropic's take it, without `/v1`.
        gemini_base_url: as Google's take it, without `/v1beta`.
        api_key: the rollout's.
        model: the rollout's, for those that must be told a name.
    """
    providers = _keys(openai_base_url, anthropic_base_url, gemini_base_url, api_key)
    return providers | _models(model) | PATIENCE | QUIET


def _keys(openai: str, anthropic: str, gemini: str, api_key: str) -> dict[str, str]:
    """Where each agent looks for its provider; `ANTHROPIC_AUTH_TOKEN` is not among them.

    Anthropic's clients take either of two keys. With both, agno makes no call and ends as if all were well, and the
    SDKs (anthropic 2.14, in JavaScript 1.14) warn. Everything reads this one. Claude Code in a terminal asks whether it
    may use it, and does so with both as well; with `-p` it does not ask.
    """
    return {
        "OPENAI_BASE_URL": openai,
        "OPENAI_API_BASE": openai,
        "OPENAI_API_KEY": api_key,
        "ANTHROPIC_BASE_URL": anthropic,
        "ANTHROPIC_API_KEY": api_key,
        "GOOGLE_GEMINI_BASE_URL": gemini,
        "GEMINI_API_KEY": api_key,
        "GOOGLE_API_KEY": api_key,
        "COPILOT_PROVIDER_BASE_URL": openai,
        "COPILOT_PROVIDER_API_KEY": api_key,
        "GROK_BASE_URL": openai,
        "GROK_API_KEY": api_key,
        # OpenHands
        "LLM_BASE_URL": openai,
        "LLM_API_KEY": api_key,
    }


def _models(model: str) -> dict[str, str]:
    """For OpenHands in litellm's way: a provider, whose client is to be used, and its model."""
    return {"OPENAI_MODEL": model, "COPILOT_MODEL": model, "LLM_MODEL": f"openai/{model}"}
