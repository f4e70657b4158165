"""Usage: `prompt_eval_count` and `eval_count`; the wire says no more.

A server that had the whole prompt in its cache may leave the first out.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import Usage
from .._fields import Fields

__all__ = ["render_usage", "take_usage"]

_INPUT, _OUTPUT = "prompt_eval_count", "eval_count"


def take_usage(fields: Fields) -> Usage | None:
    """The usage in the last document of an answer; None where nothing was counted."""
    inputs, outputs = fields.count(_INPUT), fields.count(_OUTPUT)
    if inputs is None and outputs is None:
        return None
    return Usage(input_tokens=inputs or 0, output_tokens=outputs or 0)


def render_usage(usage: Usage) -> dict[str, Json]:
    """The fields that say it."""
    return {_INPUT: usage.input_tokens, _OUTPUT: usage.output_tokens}
