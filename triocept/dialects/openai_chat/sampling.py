"""Fields that OpenAI's three dialects share: sampling, the options of a stream, the user."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.request import Request, Sampling
from .._documents import Fields, known_of

_MAX_USER = 64  # characters: OpenAI refuses a longer `user`


def parse_sampling(fields: Fields, cap: int | None) -> Sampling:
    """Return the sampling; `cap` is the output limit, whose field name differs between the dialects."""
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
    """Return the sampling fields without the output limit."""
    document: dict[str, Json] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if same_dialect else None,  # OpenAI refuses it, vLLM accepts it
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return known_of(document)


def parse_include_usage(fields: Fields) -> bool:
    """Return True if a stream must end with the usage; other options stay among the unknown fields."""
    options = fields.object("stream_options")
    if options is None:
        return False
    asked = options.flag("include_usage")
    fields.keep("stream_options", options.rest())
    return asked or False


def render_stream(request: Request) -> dict[str, Json]:
    """Return the fields that request a stream, and the usage in it."""
    if not request.stream:
        return {}
    return {"stream": True, **({"stream_options": {"include_usage": True}} if request.include_usage else {})}


def render_user(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    """Return the field `user`, or no field if OpenAI would refuse the value."""
    fits = request.user is not None and (same_dialect or len(request.user) <= _MAX_USER)
    return {"user": request.user} if fits else {}


def _parse_stop(fields: Fields) -> tuple[str, ...]:
    if isinstance(fields.peek("stop"), str):
        return (fields.need_text("stop"),)
    return fields.texts("stop")
