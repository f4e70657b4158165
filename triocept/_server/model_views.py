"""The requests of agents beside model calls: the list of models, and the side routes of the dialects."""

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
"""Function that answers a route."""

USUAL = "openai_chat"
"""Dialect of a client whose requests do not indicate one."""


def add_model_views(
    view: Callable[[View], View],
    rollout_of: Callable[[], RolloutState],
    dialects: Mapping[str, Dialect],
) -> None:
    """Register the functions of the list of models with `view`."""

    def asking() -> Dialect:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return client_dialect(dialects, request.path, headers)

    @view
    async def models(version: str = "") -> Response:
        return json_response(asking().render_models([rollout_of().model]))

    @view
    async def model(name: str, version: str = "") -> Response:
        rollout_of()
        listed = asking().render_models([name])  # agents may request any model
        return json_response(next(value for value in listed.values() if isinstance(value, list))[0])


@lru_cache(maxsize=64)
def side_views(dialect: Dialect) -> tuple[tuple[str, SideRoute], ...]:
    """Return the side routes of a dialect, each with a name; called by every endpoint."""
    return tuple([(f"{dialect.name} {number}", route) for number, route in enumerate(dialect.side_routes)])


def add_side_views(
    add: Callable[[str, View], None],
    rollout_of: Callable[[], RolloutState],
    read_document: Callable[[bool], Awaitable[Json]],
    dialects: Mapping[str, Dialect],
) -> None:
    """Register a function for each of `side_views` with `add`, under its name.

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
        asked = SideCall(
            names=names,
            query=request.args,
            document=await read_document(False) if route.method == "POST" else None,
            model=rollout.model,
            earlier=lambda response_id: _earlier(rollout, response_id),
        )
        told = await _told(route, asked, rollout)
        if isinstance(told, SideBody):
            headers = {"content-type": told.content_type, "cache-control": "no-cache"}
            return Response(told.body, headers=headers)
        return json_response(told)

    return answer


async def _told(route: SideRoute, asked: SideCall, rollout: RolloutState) -> Json | SideBody:
    """Return the answer to a side call."""
    match told := route.answer(asked):
        case TokenCount():
            return told.render(await rollout.count_input_tokens(told.request))
        case Embeddings(model=model, inputs=inputs, dimensions=size):
            vectors, tokens = await rollout.services.embed(rollout, model, asked.document, inputs, size)
            return told.render(vectors, tokens)
        case Moderations(model=model, texts=texts):
            return told.render(await rollout.services.moderate(rollout, model, asked.document, texts))
        case _:
            return told


def _earlier(rollout: RolloutState, response_id: str) -> Earlier:
    turn = rollout.trace.answer(response_id)
    if turn is None or turn.response is None:
        raise Refusal(404, f"this rollout has answered with no response {response_id!r}", should_retry=False)
    turn = rollout.records.as_given(turn)
    assert turn.response is not None
    return Earlier(request=turn.request, response=turn.response, started_at=turn.started_at)


def client_dialect(dialects: Mapping[str, Dialect], path: str, headers: Mapping[str, str]) -> Dialect:
    """Return the dialect of a client; if several match, the last registered.

    Args:
        dialects: all dialects of the endpoint.
        path: of its request, without the prefix of a rollout.
        headers: of its request, with names in lower case.
    """
    found = (each for each in reversed(tuple(dialects.values())) if each.speaks(path, headers))
    return next(found, dialects[USUAL])


def json_response(document: Json) -> Response:
    """Return a response with this document."""
    return Response(msgspec.json.encode(document), headers={"content-type": "application/json"})
