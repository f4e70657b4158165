"""The environment of an agent: the parent's, without its model providers, and with what it is given in their place.

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

__all__ = ["agent_environment", "is_provider_variable", "keep_from_agents", "secret_values"]

PREFIXES = (
    *("OPENAI_", "ANTHROPIC_", "CLAUDE_CODE_", "CODEX_API_", "GEMINI_", "GOOGLE_GEMINI_", "GOOGLE_GENAI_"),
    *("AZURE_OPENAI_", "AZURE_API_", "AZURE_AI_", "LITELLM_", "OPENROUTER_", "COPILOT_", "OLLAMA_", "VLLM_"),
)
SUFFIXES = (
    *("_API_KEY", "_API_KEYS", "_API_TOKEN", "_AUTH_TOKEN"),
    *("_BASE_URL", "_API_BASE", "_API_HOST", "_API_ENDPOINT"),
)
NAMES = frozenset(
    {
        "CLAUDECODE",  # Claude Code, started where it is set, behaves as its own sub-process
        *("API_KEY", "BASE_URL", "AWS_BEARER_TOKEN_BEDROCK"),
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "REPLICATE_TOKEN"),
    }
)
SECRET_SUFFIXES = ("KEY", "KEYS", "TOKEN", "SECRET", "PASSWORD")


_kept: set[str] = set()


def keep_from_agents(names: Iterable[str]) -> None:
    """Say of variables of this program that they are its own: no agent of it inherits them from now on."""
    _kept.update(names)


def agent_environment(
    parent: Mapping[str, str], provider: Mapping[str, str], extra: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """An agent's environment: `parent` without its providers, then `provider`, then `extra`, which wins.

    The hosts of that provider's URLs are added to `NO_PROXY`, so that a proxy of the parent's does not swallow the
    agent's calls.

    Args:
        parent: usually `os.environ`.
        provider: the only one that the agent is to call.
        extra: the caller's own; None as a value takes the variable out.
    """
    if extra is not None:
        check_type("env", extra, Mapping, "a mapping of names to values")
    environment = {name: value for name, value in parent.items() if _is_passed_on(name)}
    environment |= _no_proxy(parent, provider.values())
    environment |= provider
    for name, value in (extra or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def _is_passed_on(name: str) -> bool:
    return name not in _kept and not is_provider_variable(name)


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
