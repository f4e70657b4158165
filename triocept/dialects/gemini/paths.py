"""Paths: they contain the model, the choice of a stream, and the stream's framing.

Rules:

1. The version at the start (`v1beta`, `v1`, `v1alpha`) is optional, and so is Vertex AI's
   `projects/…/locations/…/publishers/google`.
2. A model is named without `models/`; a tuned one with `tunedModels/`. Names may be percent-encoded, slashes too.
3. Only `alt=sse` makes a stream one of server-sent events: without it, the stream is one JSON array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, quote, unquote

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..base import Target

STREAM_TYPES = ("text/event-stream", "application/json")
_MODELS, _TUNED = "models/", "tunedModels/"
_PATH = re.compile(
    r"(?:/v1(?:alpha|beta)?\d*)?(?:/projects/[^/]+/locations/[^/]+)?(?:/publishers/[^/]+)?"
    r"/(?P<model>(?:models|tunedModels|endpoints)/.+):(?P<verb>\w+)"
)


def match(path: str, query: str) -> Target | None:
    """Return the facts in the path and the query of a call; None if the call is no model call."""
    model = model_at(path, "generateContent")
    if model is not None:
        return Target(model=model)
    model = model_at(path, "streamGenerateContent")
    if model is None:
        return None
    asked = parse_qs(query)
    return Target(model=model, stream=True, array="sse" not in asked.get("alt", asked.get("$alt", ())))


def model_at(path: str, verb: str) -> str | None:
    """Return the model in a path with this verb; None for another path."""
    found = _PATH.fullmatch(unquote(path))
    return bare_model(found["model"]) if found and found["verb"] == verb else None


def bare_model(name: str) -> str:
    """Return the name without `models/`."""
    while name.startswith(_MODELS):
        name = name.removeprefix(_MODELS)
    return name


def full_model(name: str) -> str:
    """Return the name with its collection."""
    return name if name.startswith((_MODELS, _TUNED, "endpoints/")) else _MODELS + name


def render_path(request: Request) -> str:
    """Return the path and the query that send `request` to a provider; a stream is always one of server-sent events."""
    verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return f"/v1beta/{quote(full_model(request.model))}:{verb}"


def answer_type(request: Request) -> str:
    """Return the content type of a streamed answer."""
    return STREAM_TYPES[request.framing == "json_array"]


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True: the path requests the stream, so every document fits."""
    return True
