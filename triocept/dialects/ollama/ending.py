"""How an answer ended: `done_reason`, and `prompt_eval_count` and `eval_count`; the wire says no more of its usage.

There is no reason for a tool turn and none for a refusal: both are `stop`. Servers before 0.1.40 write none. One that
is not known is a failure, never an end that it did not say. A server that had the whole prompt in its cache may leave
the first count out.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason, Usage, settled_stop
from ...errors import UpstreamError
from .._documents import Fields

_PARSED: dict[str, StopReason] = {"": "end", "stop": "end", "length": "max_tokens"}


def parse_finish(reason: Json, *, calls: bool) -> StopReason:
    """The stop reason.

    Raises:
        UpstreamError: it is not known (`load`, say: there was nothing to answer).
    """
    stop = _PARSED.get(reason or "") if isinstance(reason, str | None) else None
    if stop is None:
        raise UpstreamError(f"the provider ended its answer for no reason known to Ollama: {reason!r}")
    return settled_stop(stop, calls=calls)


def render_finish(stop: StopReason | None) -> str:
    """The `done_reason`."""
    return "length" if stop in ("max_tokens", "context_full") else "stop"


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
