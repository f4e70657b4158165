"""Answer requests that are not model calls: the list of models, and other routes that dialects define."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

import msgspec
from quart import Response, request

from .._canonical.content import Json
from .._rollout.rollout_state import RolloutState
from ..dialects import Dialect, SideRoute
from ..dialects.kit import Earlier, Embeddings, Moderations, SideBody, SideCall, TokenCount
from ..errors import Refusal

View: TypeAlias = Callable[..., Awaitable[Response]]
"""Function that answers the requests of one route."""

USUAL = "openai_chat"
"""Dialect that is used if a client's request does not indicate a dialect."""


def add_model_views(
    view: Callable[[View], View], rollout_of: Callable[[], RolloutState], dialects: Mapping[str, Dialect]
) -> None:
    """Register the functions that list the models, by calling `view` with each function."""

    def asking() -> Dialect:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return client_dialect(dialects, request.path, headers)

    @view
    async def models(version: str = "") -> Response:
        rollout = rollout_of()
        rollout.other_requests["GET /models"] = None
        return json_response(asking().render_models([rollout.model]))

    @view
    async def model(name: str, version: str = "") -> Response:
        rollout_of().other_requests["GET /models/…"] = None
        listed = asking().render_models([name])  # agents may request any model
        return json_response(next(value for value in listed.values() if isinstance(value, list))[0])


@lru_cache(maxsize=64)
def side_views(dialect: Dialect) -> tuple[tuple[str, SideRoute], ...]:
    """Return the name and the route of each route of `dialect` that is not for model calls. The result is cached."""
    return tuple([(f"{dialect.name} {number}", route) for number, route in enumerate(dialect.side_routes)])


def add_side_views(
    add: Callable[[str, View], None],
    rollout_of: Callable[[], RolloutState],
    read_document: Callable[[bool], Awaitable[Json]],
    dialects: Mapping[str, Dialect],
) -> None:
    """Call `add` with the name and the view function of each route in `side_views`, for all `dialects`.

    For the other arguments, see `add_service_views`.
    """
    for dialect in dialects.values():
        for name, route in side_views(dialect):
            add(name, _side_view(route, rollout_of, read_document))


def _side_view(
    route: SideRoute, rollout_of: Callable[[], RolloutState], read_document: Callable[[bool], Awaitable[Json]]
) -> View:
    async def answer(**names: str) -> Response:
        rollout = rollout_of()
        rollout.other_requests[f"{route.method} {route.paths[0]}"] = None
        services = rollout.services

        def earlier(response_id: str) -> Earlier:
            turn = rollout.trace.answer(response_id)
            if turn is None or turn.response is None:
                message = f"this rollout has no response with the id {response_id!r}"
                raise Refusal(404, message, should_retry=False)
            turn = rollout.records.as_given(turn)
            assert turn.response is not None
            return Earlier(request=turn.request, response=turn.response, started_at=turn.started_at)

        document = await read_document(False) if route.method == "POST" else None
        call = SideCall(
            names=names, query=request.args, document=document, model=rollout.model, earlier=earlier
        )
        match found := route.answer(call):
            case TokenCount():
                found = found.render(await rollout.count_input_tokens(found.request))
            case Embeddings(model=model, inputs=inputs, dimensions=size):
                found = found.render(*await services.embed(rollout, model, document, inputs, size))
            case Moderations(model=model, texts=texts):
                found = found.render(await services.moderate(rollout, model, document, texts))
            case SideBody():
                headers = {"content-type": found.content_type, "cache-control": "no-cache"}
                return Response(found.body, headers=headers)
        return json_response(found)

    return answer


def client_dialect(dialects: Mapping[str, Dialect], path: str, headers: Mapping[str, str]) -> Dialect:
    """Return the dialect that the path and the headers of a request indicate.

    If several dialects match, return the newest of these dialects.

    `path` must not contain the prefix of a rollout, and the names of headers must be in lower case.
    """
    found = (each for each in reversed(tuple(dialects.values())) if each.speaks(path, headers))
    return next(found, dialects[USUAL])


def json_response(document: Json) -> Response:
    return Response(msgspec.json.encode(document), headers={"content-type": "application/json"})
