"""The environment of an agent: the parent's, without its model providers, and with the rollout as the only one.

What is taken out, by name, in upper or lower case::

    begins with    OPENAI_  ANTHROPIC_  CLAUDE_CODE_  CODEX_API_  GEMINI_  GOOGLE_GEMINI_  GOOGLE_GENAI_
                   AZURE_OPENAI_  AZURE_API_  AZURE_AI_  LITELLM_  OPENROUTER_  COPILOT_  OLLAMA_  VLLM_
    ends with      _API_KEY  _API_KEYS  _API_TOKEN  _AUTH_TOKEN  _BASE_URL  _API_BASE  _API_HOST  _API_ENDPOINT
    is             CLAUDECODE  API_KEY  BASE_URL  AWS_BEARER_TOKEN_BEDROCK  HF_TOKEN  HUGGING_FACE_HUB_TOKEN
                   REPLICATE_TOKEN

That is wider than the providers that exist: a key too many is given back by `env=`, a key too few is a leak. What
an agent needs for its work and what is no provider's (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`) stays.
So do `GH_TOKEN` and `GITHUB_TOKEN`: git and gh want them. The one agent that takes them for its model's key, GitHub's
Copilot, is given a provider of its own and told to ask nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from .._checks import check_type

__all__ = ["agent_environment", "is_provider_variable", "provider_environment", "secret_values"]

PREFIXES = (
    "OPENAI_",
    "ANTHROPIC_",
    "CLAUDE_CODE_",
    "CODEX_API_",
    "GEMINI_",
    "GOOGLE_GEMINI_",
    "GOOGLE_GENAI_",
    "AZURE_OPENAI_",
    "AZURE_API_",
    "AZURE_AI_",
    "LITELLM_",
    "OPENROUTER_",
    "COPILOT_",
    "OLLAMA_",
    "VLLM_",
)
SUFFIXES = (
    "_API_KEY",
    "_API_KEYS",
    "_API_TOKEN",
    "_AUTH_TOKEN",
    "_BASE_URL",
    "_API_BASE",
    "_API_HOST",
    "_API_ENDPOINT",
)
NAMES = frozenset(
    {
        # Claude Code, started where this is set, behaves as its own sub-process.
        "CLAUDECODE",
        "API_KEY",
        "BASE_URL",
        "AWS_BEARER_TOKEN_BEDROCK",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "REPLICATE_TOKEN",
    }
)
SECRET_SUFFIXES = ("KEY", "KEYS", "TOKEN", "SECRET", "PASSWORD")

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


def agent_environment(
    parent: Mapping[str, str], rollout: Mapping[str, str], extra: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """An agent's environment: `parent` without its providers, then `rollout`, then `extra`, which wins.

    The hosts of the rollout's URLs are added to `NO_PROXY`, so that a proxy of the parent's does not swallow the
    agent's calls.

    Args:
        parent: usually `os.environ`.
        rollout: as of `provider_environment`.
        extra: the caller's own; None as a value takes the variable out.
    """
    if extra is not None:
        check_type("env", extra, Mapping, "a mapping of names to values")
    environment = {name: value for name, value in parent.items() if not is_provider_variable(name)}
    environment |= _no_proxy(parent, rollout.values())
    environment |= rollout
    for name, value in (extra or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def is_provider_variable(name: str) -> bool:
    """Whether a variable of the parent must not reach an agent."""
    name = name.upper()
    return name in NAMES or name.startswith(PREFIXES) or name.endswith(SUFFIXES)


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values that must not be in any message, by their variables' names; the longest first."""
    # Shorter ones ("1", "none", "dummy") are words, and would star out the text.
    values = {v for k, v in environment.items() if k.upper().endswith(SECRET_SUFFIXES) and len(v) >= 8}
    return tuple(sorted(values, key=len, reverse=True))


def _no_proxy(parent: Mapping[str, str], values: Iterable[str]) -> dict[str, str]:
    """Both spellings: curl reads only the lower one for http, others prefer the upper."""
    listed = [host.strip() for name in ("NO_PROXY", "no_proxy") for host in parent.get(name, "").split(",")]
    called = [urlsplit(value).hostname for value in values if value.startswith(("http://", "https://"))]
    hosts = dict.fromkeys(host for host in [*listed, *called, "127.0.0.1", "localhost", "::1"] if host)
    value = ",".join(hosts)
    return {"NO_PROXY": value, "no_proxy": value}
