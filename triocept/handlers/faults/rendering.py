"""Render an answer in an agent's dialect, as the bytes of one JSON document or of the pieces of a stream.

A piece of a stream is one increment: a word of a text, or some characters of the arguments of a tool call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast, final

import msgspec

from ..._canonical.content import ToolCall
from ..._canonical.events import Event, Fold, PartDelta, PartStart, events_of
from ..._canonical.given import given_response
from ..._canonical.request import Request
from ..._canonical.response import Response, Usage
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.outcome import Raw
from ..._trace.raw import RawEnd, given_raw
from ..._util.checks import check_count, described
from ...dialects import Dialect, StreamRenderer
from ...dialects import dialect as dialect_named
from ...dialects.kit import encode_json

DEFAULT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."
"""Default answer of faults that cut an answer. A stream with this text has at least twelve events."""
JSON_TYPE = {"content-type": "application/json"}
_WORD = re.compile(r"\s*\S+|\s+\Z")
_SOME = re.compile(r".{1,8}", re.DOTALL)


def response_of(answer: object) -> Response:
    """Return `answer`, an argument of a fault's constructor, as a `Response`.

    Raises:
        TypeError, ValueError: `answer` is not an answer. The error's text begins with `answer:`.
    """
    try:
        return given_response(answer)
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"answer: {exc}") from None


def check_after(after: object, answer: Response) -> None:
    """Raise an error if a stream of `answer` has fewer than `after` pieces."""
    check_not_answer("after", after)
    check_count("after", after)
    count = sum(isinstance(event, PartDelta) for event in _events(answer))
    if not isinstance(after, int) or after > count:
        raise ValueError(f"after must be at most {count}, the number of pieces of the answer, not {after}")


def check_not_answer(name: str, value: object) -> None:
    """Raise TypeError if `value`, passed as the argument `name`, is an answer and not a number."""
    if isinstance(value, str | ToolCall | Response):
        raise TypeError(f"{name} must be a number, not {described(value)}: pass the answer as answer=…")


@final
class Begun(msgspec.Struct, frozen=True):
    """The first pieces of a streamed answer as bytes, and the renderer that can render the following pieces."""

    renderer: StreamRenderer
    """The renderer that rendered these pieces; it can also render the frames that follow."""
    body: tuple[bytes, ...]
    response: Response | None
    """A response with the content of these pieces. None if the pieces contain no content."""


@final
class Rendering:
    """Renderer of one answer to one exchange. It returns the bytes of the answer, or sends them.

    Args:
        exchange: the exchange whose agent would receive the answer.
        answer: the answer. Fields of the answer that are not set get default values.
    """

    def __init__(self, exchange: Exchange, answer: Response) -> None:
        core = core_of(exchange)
        self._exchange = exchange
        self.request: Request = core.request
        known = core.rollout.addresses.dialects.get(exchange.dialect)
        self.dialect: Dialect = cast(Dialect, known) if known is not None else dialect_named(exchange.dialect)
        self.response: Response = core.complete(answer)
        usage = Usage(input_tokens=core.estimate_input(), output_tokens=0, estimated=True)
        self._usage = answer.usage or usage
        name = self.dialect.request_id_header
        self._id = {name: core.answer.request_id} if name else {}

    @property
    def streamed(self) -> bool:
        return self.request.stream

    @property
    def document_headers(self) -> dict[str, str]:
        return JSON_TYPE | self._id

    @property
    def stream_headers(self) -> dict[str, str]:
        kind = self.dialect.stream_type(self.request)
        return {"content-type": kind, "cache-control": "no-cache"} | self._id

    @property
    def headers(self) -> dict[str, str]:
        return self.stream_headers if self.streamed else self.document_headers

    def document(self) -> bytes:
        return encode_json(self.dialect.render_response(self.response, self.request))

    def begin(self, after: int) -> Begun:
        """Return the start of the stream, up to and including its first `after` pieces."""
        renderer, fold = self.dialect.stream_renderer(self.request), Fold()
        body, left = [], after
        for event in self._events():
            if isinstance(event, PartDelta):
                if not left:
                    break
                left -= 1
            fold.add(event)
            body.append(renderer.render(event))
            if after and not left:
                break
        return Begun(renderer, tuple(body), fold.response() if after else None)

    def whole_stream(self) -> list[bytes]:
        """Return the complete answer as the frames of a stream, for example server-sent events."""
        renderer = self.dialect.stream_renderer(self.request)
        return [frame for event in self._events() for frame in self.frames(renderer.render(event))]

    def body(self) -> list[bytes]:
        """Return the complete answer as the agent requested it: the frames of a stream, or a list with one document."""
        return self.whole_stream() if self.streamed else [self.document()]

    def half(self) -> bytes:
        document = self.document()
        return document[: len(document) // 2]

    async def send(
        self,
        body: bytes | Sequence[bytes | float],
        more: Mapping[str, str] | None = None,
        *,
        end: RawEnd = "whole",
        response: Response | None = None,
        complete: bool = False,
    ) -> None:
        """Send `body` with status 200, the headers of the form that the agent requested, and the headers in `more`.

        `response` is the answer that the bytes contain. `complete` is False if the bytes are only the beginning of this
        answer.
        """
        sent = given_raw(200, {**self.headers, **(more or {})}, body, end)
        await core_of(self._exchange).respond_raw(Raw(sent, response, complete=complete))

    def frames(self, data: bytes) -> Iterator[bytes]:
        """Split the rendered bytes of one event into frames, and yield them."""
        at = 0
        for end in self.dialect.stream_parser().frame_end.pattern.finditer(data):
            yield data[at : end.end()]
            at = end.end()
        if at < len(data):
            yield data[at:]

    def _events(self) -> Iterator[Event]:
        events = _events(self.dialect.streamed(self.response))
        yield msgspec.structs.replace(next(events), usage=self._usage)  # the start
        yield from events


def _events(response: Response) -> Iterator[Event]:
    """Yield the events of an answer. Texts are cut into words, and the arguments of tool calls into short pieces."""
    pattern = _WORD
    for event in events_of(response):
        if isinstance(event, PartStart):
            pattern = _SOME if isinstance(event.part, ToolCall) else _WORD
        if isinstance(event, PartDelta):
            yield from (PartDelta(event.index, piece) for piece in pattern.findall(event.text))
        else:
            yield event
