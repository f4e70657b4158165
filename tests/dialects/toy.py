"""A dialect from outside: written by the docstring of `triocept.dialects`, with nothing but what that exports.

`POST /talk` has `{"to": the model, "lines": [{"by": "user", "text": …}], "piecewise": …}`, and is answered with
`{"text": …, "over": true}`, or with a line `{"more": …}` for each increment and `{"over": true}` at the end.
"""

from typing import Any

from triocept import Message, Request, Response, Text
from triocept.dialects import Dialect, Failure, StreamParser, StreamRenderer, Target
from triocept.dialects.kit import (
    HERE,
    LINE_FRAMES,
    EventBuilder,
    Fields,
    LineDecoder,
    Memory,
    decode_json,
    encode_line,
    error_of,
    error_text,
    status_of,
)
from triocept.errors import UpstreamTruncated
from triocept.types import PartDelta, ResponseEnd, ResponseStart

BY = {"user": "user", "model": "assistant", "host": "system"}
NAMES = {role: by for by, role in BY.items()}


def parse_request(document: Any, target: Target = HERE, memory: Memory | None = None) -> Request:
    fields = Fields(document)
    lines = [Fields(item, path) for path, item in fields.items("lines")]
    messages = tuple(
        Message(BY.get(line.need_text("by"), "user"), (Text(line.need_text("text")),))  # type: ignore[arg-type]
        for line in lines
    )
    return Request(
        dialect="toy",
        model=fields.need_text("to"),
        messages=messages,
        stream=fields.flag("piecewise") or False,
        extra=fields.rest(),
    )


def render_request(request: Request) -> Any:
    lines = [{"by": NAMES.get(each.role, "user"), "text": each.text} for each in request.messages]
    return {"to": request.model, "lines": lines, "piecewise": request.stream}


def parse_response(document: Any) -> Response:
    if isinstance(document, dict) and document.get("problem"):
        raise error_of(parse_error(0, document))
    return Response((Text(Fields(document).need_text("text")),), stop_reason="end", dialect="toy")


def render_response(response: Response, request: Request) -> Any:
    return {"text": response.text, "over": True}


def parse_error(status: int, document: Any) -> Failure:
    problem = document.get("problem") if isinstance(document, dict) else None
    return Failure(status=status_of(status), message=error_text(problem, document, status))


def render_error(failure: Failure) -> Any:
    return {"problem": failure.message}


class Parser(StreamParser):
    frame_end = LINE_FRAMES

    def __init__(self) -> None:
        self._lines, self._parts = LineDecoder(), EventBuilder()
        self._begun = self._over = False

    def feed(self, data: bytes) -> list[Any]:
        events: list[Any] = []
        for line in self._lines.feed(data):
            document = decode_json(line)
            if document.get("problem"):
                raise error_of(parse_error(0, document))
            if not self._begun:
                self._begun = True
                events.append(ResponseStart(dialect="toy"))
            self._parts.text(Text(""), document.get("more", ""), events)
            if document.get("over") and not self._over:
                self._over = True
                self._parts.close(events)
                events.append(ResponseEnd(stop_reason="end"))
        return events

    @property
    def ending(self) -> bool:
        return self._over

    def close(self) -> list[Any]:
        if not self._over:
            raise UpstreamTruncated("the other end has not said that it is over")
        return []


class Renderer(StreamRenderer):
    def __init__(self, request: Request) -> None:
        pass

    def render(self, event: Any) -> bytes:
        match event:
            case PartDelta(text=text):
                return encode_line({"more": text})
            case ResponseEnd():
                return encode_line({"over": True})
        return b""

    def fail(self, failure: Failure) -> bytes:
        return encode_line(render_error(failure))

    def keepalive(self, response_id: str = "") -> bytes:
        return encode_line({"more": ""})


def key_headers(api_key: str) -> dict[str, str]:
    return {"x-toy-key": api_key}


TOY = Dialect(
    name="toy",
    route="/talk",
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    parse_error=parse_error,
    render_error=render_error,
    stream_types=("application/x-ndjson",),
    transcript="lines",
    key_headers=key_headers,
    environment=lambda base_url, api_key, model: {"TOY_URL": base_url, "TOY_KEY": api_key},
)
