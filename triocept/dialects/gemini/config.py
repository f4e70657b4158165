"""`generationConfig`: sampling, thinking, the format of the answer.

Rules:

1. A budget of 0 disables thinking, a budget of -1 leaves it to the model. Further fields of `thinkingConfig` stay in
   `extra`.
2. `responseSchema` is read as JSON Schema; the original object is kept, and written again as long as both are
   equivalent.
3. From another dialect, an effort becomes a budget of at most 24,576 tokens, which the smallest models allow (or -1),
   and thoughts are requested. An effort of none is left out, for most models refuse it; so are penalties of 0.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling
from ...errors import DialectError
from .._documents import known_of
from .._efforts import budget_for
from .fields import ProtoFields
from .tools import json_schema_of

CONFIG = "generationConfig"
_THINKING, _BUDGET, _LEVEL = "thinkingConfig", "thinkingBudget", "thinkingLevel"
_MIME, _OPENAPI, _JSON_SCHEMA = "responseMimeType", "responseSchema", "responseJsonSchema"
_JSON = "application/json"
_BUDGETS = {0: "none", -1: "adaptive"}
_EFFORTS = {effort: budget for budget, effort in _BUDGETS.items()}
_MAX_BUDGET = 24_576


def parse_config(fields: ProtoFields) -> tuple[Sampling, ReasoningAsk | None, OutputFormat | None]:
    """Return sampling, reasoning and format from the config; its other fields stay among the unknown fields."""
    config = fields.object(CONFIG)
    if config is None:
        return Sampling(), None, None
    if (config.integer("candidateCount") or 1) > 1:
        raise DialectError("only one candidate can be given", path=config.at("candidateCount"))
    sampling = Sampling(
        max_output_tokens=config.integer("maxOutputTokens"),
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        top_k=config.integer("topK"),
        stop=config.texts("stopSequences"),
        seed=config.integer("seed"),
        presence_penalty=config.number("presencePenalty"),
        frequency_penalty=config.number("frequencyPenalty"),
    )
    ask, shape = _parse_thinking(config), _parse_format(config)
    fields.keep(CONFIG, config.rest())
    return sampling, ask, shape


def render_config(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    """Return the config without its unknown fields."""
    sampling = request.sampling
    document: dict[str, Json] = {
        "maxOutputTokens": sampling.max_output_tokens,
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "stopSequences": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presencePenalty": sampling.presence_penalty if same_dialect else sampling.presence_penalty or None,
        "frequencyPenalty": sampling.frequency_penalty
        if same_dialect
        else sampling.frequency_penalty or None,
        _THINKING: _render_thinking(request.reasoning, same_dialect=same_dialect),
    }
    if request.output_format is not None:
        document |= _render_format(request.output_format, same_dialect=same_dialect)
    return known_of(document)


def _parse_thinking(config: ProtoFields) -> ReasoningAsk | None:
    thinking = config.object(_THINKING)
    if thinking is None:
        return None
    budget, level = thinking.integer(_BUDGET), thinking.text(_LEVEL)
    config.keep(_THINKING, thinking.rest())
    effort = level.lower() if level else None
    if budget in _BUDGETS:
        return ReasoningAsk(effort=effort or _BUDGETS[budget])
    return None if budget is None and effort is None else ReasoningAsk(effort=effort, budget_tokens=budget)


def _render_thinking(ask: ReasoningAsk | None, *, same_dialect: bool) -> Json | None:
    if ask is None:
        return None
    if not same_dialect:
        budget = budget_for(ask)
        if budget is None:
            adaptive = {_BUDGET: _EFFORTS["adaptive"], "includeThoughts": True}
            return adaptive if ask.effort == "adaptive" else None
        return {_BUDGET: min(budget, _MAX_BUDGET), "includeThoughts": True}
    document: dict[str, Json] = {}
    budget = ask.budget_tokens if ask.budget_tokens is not None else _EFFORTS.get(ask.effort or "")
    if budget is not None:
        document[_BUDGET] = budget
    if ask.effort is not None and ask.effort not in _EFFORTS:
        document[_LEVEL] = ask.effort.upper()
    return document


def _parse_format(config: ProtoFields) -> OutputFormat | None:
    media_type = config.text(_MIME)
    if media_type not in (None, _JSON):
        config.keep(_MIME, media_type)  # text/plain, text/x.enum
        return None
    schema, raw = config.mapping(_JSON_SCHEMA), config.mapping(_OPENAPI)
    if schema is None and raw is None:
        return OutputFormat(kind="json_object") if media_type else None
    if schema is not None:
        return OutputFormat(kind="json_schema", schema=schema, extra={_OPENAPI: raw} if raw else None)
    return OutputFormat(kind="json_schema", schema=json_schema_of(raw), extra={_OPENAPI: raw})


def _render_format(output: OutputFormat, *, same_dialect: bool) -> dict[str, Json]:
    raw = (output.extra or {}).get(_OPENAPI) if same_dialect else None
    if raw is not None and json_schema_of(raw) == output.schema:
        return {_MIME: _JSON, _OPENAPI: raw}
    return {_MIME: _JSON, _JSON_SCHEMA: output.schema}
