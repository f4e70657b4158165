"""Requests of completions.

Rules:

1. `echo`, `suffix`, `best_of`, `logprobs` (a number here) and all unknown fields stay in `extra`. The code that
   answers implements `echo` (see `response`).
2. `extra` mirrors the document: unknown fields of `stream_options` are in `extra["stream_options"]`.
3. Only one choice is supported: `n` above 1 is refused.
4. From another dialect, `max_tokens` is 4096 by default, for the wire's own default is 16. Tools that the model may
   call cannot be expressed, and raise an error. A `user` of more than 64 characters is left out: OpenAI refuses it.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.memory import Memory
from ..._canonical.request import Request
from ...errors import DialectError
from .._documents import Fields, merged
from ..base import HERE, Target
from ..openai_chat.sampling import (
    parse_include_usage,
    parse_sampling,
    render_sampling,
    render_stream,
    render_user,
)
from .names import NAME
from .prompts import parse_prompt, render_prompt

_MAX_TOKENS = 4096


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Return the request that an agent sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    fields = Fields(document)
    model = fields.need_text("model")
    message = parse_prompt(fields.take("prompt"), "prompt")
    if (fields.integer("n") or 1) > 1:
        raise DialectError("only one choice can be given", path="n")
    for name, read in (("suffix", Fields.text), ("echo", Fields.flag), ("logprobs", Fields.integer)):
        read(
            Fields({name: fields.peek(name)}), name
        )  # raise an error for another type; keep the field as it came
    return Request(
        dialect=NAME,
        model=model,
        messages=(message,),
        stream=fields.flag("stream") or False,
        include_usage=parse_include_usage(fields),
        sampling=parse_sampling(fields, fields.integer("max_tokens")),
        user=fields.text("user"),
        extra=fields.rest(),
    )


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the request has tools, media or other parts that a prompt cannot express.
    """
    same_dialect = request.dialect == NAME
    if request.tools and (request.tool_choice is None or request.tool_choice.mode != "none"):
        raise DialectError("tools cannot be offered in completions", path="tools")
    document: dict[str, Json] = {"model": request.model, "prompt": render_prompt(request.messages)}
    cap = request.sampling.max_output_tokens
    if cap is not None or not same_dialect:
        document["max_tokens"] = _MAX_TOKENS if cap is None else cap
    document |= render_sampling(request.sampling, same_dialect=same_dialect)
    document |= render_stream(request) | render_user(request, same_dialect=same_dialect)
    return merged(document, request.extra) if same_dialect and request.extra else document
