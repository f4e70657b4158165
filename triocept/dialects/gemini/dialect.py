"""generateContent as a `Dialect`: every method is one function of this package."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.memory import Memory
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..base import Dialect, Failure, StreamParser, StreamRenderer, Target
from .error import parse_error, render_error
from .names import NAME
from .paths import match, render_path
from .request import parse_request, render_request
from .response import parse_response, render_response
from .stream import Parser, Renderer

__all__ = ["Gemini"]


class Gemini(Dialect):
    """`POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`."""

    name = NAME
    route = "/v1beta/models/{model}:generateContent"
    request_id_header = ""
    base_path = ""

    def match(self, path: str, query: str) -> Target | None:
        return match(path, query)

    def path(self, request: Request) -> str:
        return render_path(request)

    def stream_type(self, request: Request) -> str:
        return "application/json" if request.framing == "json_array" else "text/event-stream"

    def parse_request(
        self,
        document: Json,
        target: Target = Target(),  # noqa: B008 - it is frozen
        memory: Memory | None = None,
    ) -> Request:
        return parse_request(document, target, memory)

    def render_request(self, request: Request) -> Json:
        return render_request(request)

    def parse_response(self, document: Json) -> Response:
        return parse_response(document)

    def render_response(self, response: Response, request: Request) -> Json:
        return render_response(response, request)

    def stream_parser(self) -> StreamParser:
        return Parser()

    def stream_renderer(self, request: Request) -> StreamRenderer:
        return Renderer(request)

    def render_error(self, failure: Failure) -> Json:
        return render_error(failure)

    def parse_error(self, status: int, document: Json) -> Failure:
        return parse_error(status, document)
