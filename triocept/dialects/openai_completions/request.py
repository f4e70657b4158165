"""Requests of completions.

Rules:

1. `echo`, `suffix`, `best_of`, `logprobs` (a number here) and all that is not known stay in `extra`. `echo` is
   honoured by whoever answers (see `response`).
2. `extra` mirrors the document: what is left of `stream_options` is in `extra["stream_options"]`.
3. One choice only: `n` above 1 is refused.
4. From another dialect, `max_tokens` is 4096 where nobody says, for the wire's own default is 16. Tools that the
   model may call cannot be said: that is an error. A `user` of more than 64 characters is left out: OpenAI refuses it.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.request import Request, Sampling
from ...errors import DialectError
from .._fields import Fields, merged
from .names import NAME
from .prompts import parse_prompt, render_prompt

__all__ = ["parse_request", "render_request"]

_MAX_TOKENS = 4096
_MAX_USER = 64  # characters


def parse_request(document: Json) -> Request:
    """The request that an agent sent.

    Raises:
        DialectError: with the path in the document.
    """
    fields = Fields(document)
    model = fields.need_text("model")
    message = parse_prompt(fields.take("prompt"), "prompt")
    if (fields.integer("n") or 1) > 1:
        raise DialectError("only one choice can be given", path="n")
    return Request(
        dialect=NAME,
        model=model,
        messages=(message,),
        stream=fields.flag("stream") or False,
        include_usage=_parse_include_usage(fields),
        sampling=_parse_sampling(fields),
        user=fields.text("user"),
        extra=fields.rest(),
    )


def render_request(request: Request) -> Json:
    """The document that asks a provider for `request`.

    Raises:
        DialectError: it has tools, media or the like, which a prompt cannot say.
    """
    own = request.dialect == NAME
    if request.tools and (request.tool_choice is None or request.tool_choice.mode != "none"):
        raise DialectError("tools cannot be offered in completions", path="tools")
    document: dict[str, Json] = {"model": request.model, "prompt": render_prompt(request.messages)}
    document |= _render_sampling(request.sampling, own=own)
    if request.stream:
        document["stream"] = True
        if request.include_usage:
            document["stream_options"] = {"include_usage": True}
    if request.user is not None and (own or len(request.user) <= _MAX_USER):
        document["user"] = request.user
    return merged(document, request.extra) if own and request.extra else document


def _parse_include_usage(fields: Fields) -> bool:
    options = fields.object("stream_options")
    if options is None:
        return False
    asked = options.flag("include_usage")
    fields.keep("stream_options", options.rest())
    return asked or False


def _parse_sampling(fields: Fields) -> Sampling:
    return Sampling(
        max_output_tokens=fields.integer("max_tokens"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        stop=_parse_stop(fields),
        seed=fields.integer("seed"),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
    )


def _parse_stop(fields: Fields) -> tuple[str, ...]:
    if isinstance(fields.peek("stop"), str):
        return (fields.need_text("stop"),)
    return fields.texts("stop")


def _render_sampling(sampling: Sampling, *, own: bool) -> dict[str, Json]:
    cap = sampling.max_output_tokens
    document: dict[str, Json] = {
        "max_tokens": _MAX_TOKENS if cap is None and not own else cap,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if own else None,  # OpenAI refuses it, vLLM knows it
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return {name: value for name, value in document.items() if value is not None}
