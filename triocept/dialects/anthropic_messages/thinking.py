"""Amount of reasoning: `thinking` (a budget, adaptive or disabled) and `output_config` (an effort, a format).

One canonical `ReasoningAsk` holds both; other fields stay in `extra["thinking"]`.
"""

from __future__ import annotations

from ..._canonical.content import Json, Reasoning, ToolCall
from ..._canonical.request import OutputFormat, ReasoningAsk, Request
from .._documents import Fields
from .._efforts import budget_for
from .reasoning import signature_of

_MODES = {"adaptive": "adaptive", "disabled": "none"}
_TYPES = {effort: kind for kind, effort in _MODES.items()}
_MIN_BUDGET = 1024  # Anthropic's minimum; the budget must be below max_tokens, too


def parse_ask(fields: Fields) -> tuple[ReasoningAsk | None, OutputFormat | None]:
    """Return the requested reasoning, and the requested format of the answer."""
    effort, output_format = _parse_output_config(fields)
    thinking = fields.object("thinking")
    budget = None
    if thinking is not None:
        kind, budget = thinking.text("type"), thinking.integer("budget_tokens")
        mode = _MODES.get(kind or "")
        rest = thinking.rest() or {}
        if (kind == "enabled" and budget is not None) or (mode and effort is None):
            effort = mode or effort
        elif kind is not None:
            rest = {"type": kind, **rest}
        fields.keep("thinking", rest)
    asked = effort is not None or budget is not None
    return (ReasoningAsk(effort=effort, budget_tokens=budget) if asked else None), output_format


def render_ask(request: Request, document: dict[str, Json], *, same_dialect: bool) -> dict[str, Json]:
    """Return the fields with the requested reasoning; `document` is the request rendered so far."""
    ask = request.reasoning
    if ask is None:
        return {}
    fields: dict[str, Json] = {}
    if not same_dialect:
        budget = _allowed_budget(request, document)
        return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget else {}
    if ask.budget_tokens is not None:
        fields["thinking"] = {"type": "enabled", "budget_tokens": ask.budget_tokens}
    elif ask.effort in _TYPES:
        fields["thinking"] = {"type": _TYPES[ask.effort]}
    if ask.effort is not None and ask.effort not in _TYPES:
        fields["output_config"] = {"effort": ask.effort}
    return fields


def _parse_output_config(fields: Fields) -> tuple[str | None, OutputFormat | None]:
    config = fields.object("output_config")
    if config is None:
        return None, None
    effort = config.text("effort")
    output_format = None
    form = config.peek("format")
    if isinstance(form, dict) and form.get("type") == "json_schema" and isinstance(form.get("schema"), dict):
        config.take("format")
        extra = {name: value for name, value in form.items() if name not in ("type", "schema")}
        output_format = OutputFormat(kind="json_schema", schema=form["schema"], extra=extra or None)
    fields.keep("output_config", config.rest())
    return effort, output_format


def _allowed_budget(request: Request, document: dict[str, Json]) -> int | None:
    budget = budget_for(request.reasoning)
    if budget is None or _is_forced(document) or {"temperature", "top_p", "top_k"} & document.keys():
        return None
    if any(_lacks_thinking(message.content) for message in request.messages):
        return None
    budget = min(budget, int(document["max_tokens"]) - 1)
    return budget if budget >= _MIN_BUDGET else None


def _is_forced(document: dict[str, Json]) -> bool:
    return document.get("tool_choice", {}).get("type") in ("any", "tool")


def _lacks_thinking(content: tuple[object, ...]) -> bool:
    calls = any(isinstance(part, ToolCall) for part in content)
    return calls and not any(isinstance(part, Reasoning) and signature_of(part.blobs) for part in content)
