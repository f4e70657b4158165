"""What tells agents of every dialect where their model is: a rollout, in the variables that each of them reads.

What is taken out of the environment of the program before that is said in `_process.environment`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def provider_environment(providers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What makes agents of every dialect call a rollout, and wait for its answer.

    Args:
        providers: for each dialect, where its agents look for their provider.
    """
    environment: dict[str, str] = {}
    for variables in providers:
        environment |= variables
    return environment | PATIENCE | QUIET
