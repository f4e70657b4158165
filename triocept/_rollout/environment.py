"""Make the environment variables by which agents of every dialect send their model calls to a rollout.

Before these variables are added, other variables are removed from the environment: `_process.environment` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LONG = "1800000"
"""Time limit for agents that need one: half an hour, in milliseconds. Without this setting, Claude Code ends a call
after 300 s without data (2.1.197, 2.1.331)."""
PATIENCE = {
    "API_TIMEOUT_MS": LONG,
    "CLAUDE_STREAM_IDLE_TIMEOUT_MS": LONG,
    "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS": LONG,
    "API_FORCE_IDLE_TIMEOUT": "0",
}
QUIET = {
    # Claude Code: only model calls, and no update during an evaluation.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    # OpenAI's agents SDK (Python, JavaScript) would send each run to OpenAI, with the rollout's key.
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    # Copilot would otherwise take GH_TOKEN as its key, and GitHub as its provider.
    "COPILOT_OFFLINE": "true",
    # litellm fetches a table of prices at each start.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def provider_environment(providers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return one set of environment variables that directs agents of every dialect to a rollout.

    Args:
        providers: for each dialect, a mapping with the variables that agents of this dialect read to find their
            provider.
    """
    environment: dict[str, str] = {}
    for variables in providers:
        environment |= variables
    return environment | PATIENCE | QUIET
