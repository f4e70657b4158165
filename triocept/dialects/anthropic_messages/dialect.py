"""Messages as a `Dialect`: every method is one function of this package."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.memory import Memory
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..base import Dialect, Failure, StreamParser, StreamRenderer, Target
from .error import parse_error, render_error
from .names import NAME
from .request import parse_request, render_request
from .response import parse_response, render_response
from .stream import Parser, Renderer
from .threads import continued
from .tools import with_whole_arguments

__all__ = ["AnthropicMessages"]


class AnthropicMessages(Dialect):
    """`POST /v1/messages`."""

    name = NAME
    route = "/messages"
    base_path = ""
    request_id_header = "request-id"
    lost_status = 404

    def parse_request(
        self,
        document: Json,
        target: Target = Target(),  # noqa: B008 - it is frozen
        memory: Memory | None = None,
    ) -> Request:
        return parse_request(document, memory)

    def continued(self, request: Request, earlier: Request, answer: Response) -> Request:
        return continued(request, earlier, answer)

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

    def streamed(self, response: Response) -> Response:
        return with_whole_arguments(response)

    def render_error(self, failure: Failure) -> Json:
        return render_error(failure)

    def parse_error(self, status: int, document: Json) -> Failure:
        return parse_error(status, document)
