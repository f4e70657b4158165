"""What an agent in memory asks, as its dialect has it on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._rollout.asking import request_of
from ..._server.transport import Head
from ...dialects import Dialect

__all__ = ["head_of", "written"]


def written(
    given: object, dialect: Dialect, model: str, *, stream: bool | None
) -> tuple[Request, dict[str, Json]]:
    """What stands in the path of a call, and the document that is sent.

    Args:
        given: a text, messages, a `Request`, or the document itself, which goes as it is.
        dialect: spoken by the agent.
        model: asked for where what was given names none.
        stream: whether the answer is to be a stream; None: as was given.

    Raises:
        TypeError, ValueError: nothing that can be asked.
        DialectError: the dialect has no words for it.
    """
    if isinstance(given, Mapping):
        document: dict[str, Json] = dict(given)
        said = document.get("stream")
        if stream is not None and "stream" in document:
            document["stream"] = stream
        request = Request(
            dialect=dialect.name,
            model=str(document.get("model") or model),
            messages=(),
            stream=stream if stream is not None else said is True,
        )
        return request, document
    request = request_of(given, model)
    if not isinstance(given, Request):
        request = msgspec.structs.replace(request, dialect=dialect.name)
    if stream is not None:
        request = msgspec.structs.replace(request, stream=stream)
    rendered: Any = dialect.render_request(request)
    return request, rendered


def head_of(
    request: Request, dialect: Dialect, rollout_id: str, api_key: str, headers: Mapping[str, str]
) -> Head:
    """The head of a call.

    Args:
        request: what its path says.
        dialect: spoken by the agent.
        rollout_id, api_key: of whom it asks.
        headers: of the agent's own, which win.
    """
    path, _, query = dialect.path(request).partition("?")
    usual = {"content-type": "application/json", **dialect.default_headers, **dialect.key_headers(api_key)}
    own = {name.lower(): value for name, value in headers.items()}
    return Head(
        method="POST",
        path=f"/rollout/{rollout_id}{dialect.base_path}{unquote(path)}",
        query=query,
        headers={name.lower(): value for name, value in usual.items()} | own,
    )
