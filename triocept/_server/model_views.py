"""What agents ask beside a model call: which models there are, how many tokens something has, and of OpenAI's Responses
what was answered before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

import msgspec
from quart import Response, request

from .._canonical.content import Json
from .._canonical.response import Response as Answer
from .._rollout.rollout import Rollout
from .._trace.turn import Turn
from ..dialects import dialect as dialect_named
from ..dialects import gemini
from ..dialects import openai_responses as responses
from ..dialects.anthropic_messages import extras as anthropic_extras
from ..dialects.base import Dialect, Target
from ..dialects.openai_chat import extras as openai_extras
from ..errors import Refusal

__all__ = ["add_model_views", "add_responses_views", "asking_dialect"]

View: TypeAlias = Callable[..., Awaitable[Response]]


def add_model_views(
    view: Callable[[View], View],
    rollout_of: Callable[[], Rollout],
    read_document: Callable[[bool], Awaitable[Json]],
) -> None:
    """Give `view` the functions of models and token counts; its arguments are those of `add_service_views`."""

    @view
    async def models(version: str = "") -> Response:
        return _json(_models([rollout_of().model]))

    @view
    async def model(name: str, version: str = "") -> Response:
        rollout_of()
        listed = _models([name])  # agents may ask for any
        return _json(next(value for value in listed.values() if isinstance(value, list))[0])

    @view
    async def gemini_count_tokens(model: str, version: str) -> Response:
        rollout = rollout_of()
        counted = gemini.parse_count_request(await read_document(False), Target(model=model))
        return _json(gemini.render_token_count(await rollout._count_input_tokens(counted)))

    @view
    async def count_tokens() -> Response:
        rollout = rollout_of()
        asked = await read_document(False)
        if isinstance(asked, dict):
            asked.setdefault("max_tokens", 1)  # not asked for here, where nothing is written
        counted = dialect_named("anthropic_messages").parse_request(asked)
        return _json(anthropic_extras.render_token_count(await rollout._count_input_tokens(counted)))


def add_responses_views(
    view: Callable[[View], View],
    rollout_of: Callable[[], Rollout],
    read_document: Callable[[bool], Awaitable[Json]],
) -> None:
    """The same of those that only Responses has."""

    @view
    async def stored(response_id: str) -> Response:
        turn, response = _answered(response_id)
        if request.args.get("stream") == "true":
            after = request.args.get("starting_after", -1, type=int)
            body = responses.render_stored_events(response, turn.request, after=after)
            return Response(body, headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        return _json(responses.render_stored(response, turn.request, created=int(turn.started_at)))

    @view
    async def input_items(response_id: str) -> Response:
        turn, _ = _answered(response_id)
        order: Literal["asc", "desc"] = "asc" if request.args.get("order") == "asc" else "desc"
        return _json(responses.render_input_items(turn.request, order=order))

    def _answered(response_id: str) -> tuple[Turn, Answer]:
        turn = rollout_of().trace.answer(response_id)
        if turn is None or turn.response is None:
            raise Refusal(
                404, f"this rollout has answered with no response {response_id!r}", should_retry=False
            )
        return turn, turn.response

    @view
    async def input_tokens() -> Response:
        rollout_of()
        counted = dialect_named("openai_responses").parse_request(await read_document(False))
        return _json(responses.render_token_count(counted))

    @view
    async def compact() -> Response:
        rollout_of()
        raise Refusal(
            404,
            "there is no compaction here, for it is opaque state of a provider's own model: have the conversation "
            "summarised by a model call",
            should_retry=False,
            code="unknown_url",
        )


def asking_dialect() -> Dialect:
    if _asks_in_gemini():
        return dialect_named("gemini")
    return dialect_named("anthropic_messages" if _asks_in_anthropic() else "openai_chat")


def _models(names: list[str]) -> Json:
    if _asks_in_gemini():
        return gemini.render_models(names)
    if _asks_in_anthropic():
        return anthropic_extras.render_models(names)
    return openai_extras.render_models(names)


def _asks_in_gemini() -> bool:
    """Whether the client speaks to Google: its key has a header of its own, and so have its versions."""
    return "x-goog-api-key" in request.headers or request.path.startswith(("/v1beta/", "/v1alpha/"))


def _asks_in_anthropic() -> bool:
    """Whether the client speaks to Anthropic: its SDKs say so in a header, and only it has /messages."""
    return "anthropic-version" in request.headers or "/messages" in request.path


def _json(document: Json) -> Response:
    return Response(msgspec.json.encode(document), headers={"content-type": "application/json"})
