"""The end of an answer: `done_reason`, `prompt_eval_count` and `eval_count`; the wire has no further usage.

Tool turns and refusals have no reason of their own: both are `stop`. Servers before 0.1.40 write no reason. An unknown
reason is a failure: triocept never invents one. A server that had the whole prompt in its cache may leave the first
count out.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason, Usage, settled_stop
from ...errors import UpstreamError
from .._documents import Fields

_PARSED: dict[str, StopReason] = {"": "end", "stop": "end", "length": "max_tokens"}


def parse_finish(reason: Json, *, calls: bool) -> StopReason:
    """Return the stop reason.

    Raises:
        UpstreamError: the reason is unknown (`load`, for example: the prompt was empty).
    """
    stop = _PARSED.get(reason or "") if isinstance(reason, str | None) else None
    if stop is None:
        raise UpstreamError(f"the provider ended its answer for no reason known to Ollama: {reason!r}")
    return settled_stop(stop, calls=calls)


def render_finish(stop: StopReason | None) -> str:
    """Return the `done_reason`."""
    return "length" if stop in ("max_tokens", "context_full") else "stop"


_INPUT, _OUTPUT = "prompt_eval_count", "eval_count"


def take_usage(fields: Fields) -> Usage | None:
    """Return the usage in the last document of an answer; None if it contains no count."""
    inputs, outputs = fields.count(_INPUT), fields.count(_OUTPUT)
    if inputs is None and outputs is None:
        return None
    return Usage(input_tokens=inputs or 0, output_tokens=outputs or 0)


def render_usage(usage: Usage) -> dict[str, Json]:
    """Return the fields of the usage."""
    return {_INPUT: usage.input_tokens, _OUTPUT: usage.output_tokens}
