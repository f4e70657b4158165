"""The configuration of kimi-cli, and of kimi-code, which came after it: a provider that is the rollout."""

from __future__ import annotations

import json

from .._rollout.rollout import Rollout

__all__ = ["configuration"]


def configuration(rollout: Rollout, dialect: str, kind: str) -> str:
    """What their `config.toml` says; `kind` is their own name for the dialect."""
    return f"""default_model = "triocept"
telemetry = false

[models.triocept]
provider = "triocept"
model = {json.dumps(rollout.model)}
max_context_size = 128000

[providers.triocept]
type = "{kind}"
base_url = "{rollout.base_url(dialect)}"
api_key = "{rollout.api_key}"
"""
