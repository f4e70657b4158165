"""The fields that OpenAI's three dialects have under the same names: sampling, the options of a stream, the user."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.request import Request, Sampling
from .._documents import Fields, known_of

_MAX_USER = 64  # characters: OpenAI refuses a longer `user`


def parse_sampling(fields: Fields, cap: int | None) -> Sampling:
    """How to sample; `cap` is that on the output, whose name is another in each."""
    return Sampling(
        max_output_tokens=cap,
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        stop=_parse_stop(fields),
        seed=fields.integer("seed"),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
    )


def render_sampling(sampling: Sampling, *, same_dialect: bool) -> dict[str, Json]:
    """The fields of it, but for the cap on the output."""
    document: dict[str, Json] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if same_dialect else None,  # OpenAI refuses it, vLLM knows it
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return known_of(document)


def parse_include_usage(fields: Fields) -> bool:
    """Whether the usage is told at the end of a stream; what else is asked of it stays among the unknown fields."""
    options = fields.object("stream_options")
    if options is None:
        return False
    asked = options.flag("include_usage")
    fields.keep("stream_options", options.rest())
    return asked or False


def render_stream(request: Request) -> dict[str, Json]:
    """The fields that ask for a stream, and for the usage in it."""
    if not request.stream:
        return {}
    return {"stream": True, **({"stream_options": {"include_usage": True}} if request.include_usage else {})}


def render_user(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    """The `user`; one that OpenAI refuses is left out."""
    fits = request.user is not None and (same_dialect or len(request.user) <= _MAX_USER)
    return {"user": request.user} if fits else {}


def _parse_stop(fields: Fields) -> tuple[str, ...]:
    if isinstance(fields.peek("stop"), str):
        return (fields.need_text("stop"),)
    return fields.texts("stop")
