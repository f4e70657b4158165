"""Chunks of streams of chat completions and of completions, parsed and rendered.

Grammar (of the streams that servers send, which differ from the reference)::

    stream := chunk* finish-chunk chunk* ("[DONE]" | end of bytes)

Rules:

1. A chunk may have no choice, at the start (Azure) or at the end (usage; SGLang's extensions), and a choice may have
   no content.
2. Usage may come in any chunk; the last one counts. So `ResponseEnd` waits for `[DONE]` or the end of the bytes.
3. Unknown fields of chunks are gathered into the `extra` of `ResponseEnd`, in the form that a whole answer has.
4. An error object in place of a chunk is the provider's failure; an end without a finish reason is a truncation.
5. All rendered chunks have the same id, `created` and model.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable

from ..._canonical.content import Json
from ..._canonical.events import Event, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import StopReason, Usage
from ..._canonical.tokens import estimate_streamed
from ..._util.sse import SSE, SSEDecoder, events_pattern
from ...errors import UpstreamTruncated
from .._clock import answer_time
from .._documents import Fields, decode_json, encode_json, gather, hides_letters, is_same_dialect, known_of
from .._failures import Failure, error_of
from .._ids import fresh_id
from ..streams import StreamParser, StreamRenderer
from .ending import parse_usage, render_usage
from .error import find_error, parse_error
from .response import MATCHED

DONE = b"data: [DONE]\n\n"

_CHUNKS = events_pattern(rb"\{")
_DOUBT = re.compile(
    rb'"(?:error"|(?:finish_reason|tool_calls|function_call)"\s*+:\s*+(?!null|\[\s*+\]))'
)  # SGLang writes null if there is no call


class ChunkParser(StreamParser):
    """A parser of one streamed answer; subclasses parse the content.

    Args:
        name: the dialect's name.
    """

    left_out = DONE

    def __init__(self, name: str) -> None:
        self._name = name
        self._sse = SSEDecoder()
        self._started = False
        self._done = False
        self._finish: str | None = None
        self._matched: str | None = None
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for sse in self._sse.feed(data):
            if not self._done:
                self._take(sse, events)
        return events

    def is_plain_content(self, data: bytes) -> bool:
        whole = _CHUNKS.fullmatch(data) is not None
        return whole and _DOUBT.search(data) is None and not hides_letters(data)

    @property
    def ending(self) -> bool:
        """True if the finish reason has come."""
        return self._finish is not None

    def close(self) -> list[Event]:
        if self._done:
            return []
        if self._finish is None:
            raise UpstreamTruncated("the provider's stream ended without a finish reason")
        self._done = True
        events: list[Event] = []
        self._close_parts(events)
        stop, sequence = self._ending(self._finish, self._matched)
        if self._matched is not None and sequence is None:
            self._beside({MATCHED[0]: self._matched})
        extra = self._extra or None
        events.append(ResponseEnd(stop_reason=stop, stop_sequence=sequence, usage=self._usage, extra=extra))
        return events

    @abstractmethod
    def _content(self, choice: Fields, events: list[Event]) -> None:
        """Append the events of a choice's content."""

    @abstractmethod
    def _close_parts(self, events: list[Event]) -> None:
        """Append the ends of the parts: the answer is complete."""

    @abstractmethod
    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        """Return stop reason and stop sequence."""

    def _take(self, sse: SSE, events: list[Event]) -> None:
        if sse.event.startswith("sglext"):  # a second copy of a chunk, for clients of the extension
            return
        if sse.data.strip() == b"[DONE]":
            events += self.close()
            return
        chunk = decode_json(sse.data)
        if find_error(chunk) is not None:
            raise error_of(parse_error(0, chunk), body=sse.data.decode("utf-8", "replace"))
        fields = Fields(chunk)
        self._start(fields, events)
        self._usage = parse_usage(fields.take("usage"), "usage") or self._usage
        for path, item in fields.items("choices"):
            self._choice(Fields(item, path), events)
        gather(self._extra, fields.rest() or {})

    def _start(self, fields: Fields, events: list[Event]) -> None:
        identity, model = fields.text("id"), fields.text("model")
        fields.take("object")
        fields.take("created")
        # Azure's first chunk, about the prompt, has neither id nor model: the next chunk has both.
        if not self._started and (identity or model or fields.peek("choices")):
            self._started = True
            events.append(ResponseStart(id=identity or "", model=model or "", dialect=self._name))

    def _choice(self, choice: Fields, events: list[Event]) -> None:
        if choice.integer("index"):
            return  # only one choice was requested
        self._content(choice, events)
        reason = choice.take("finish_reason")
        for name in MATCHED:
            if isinstance(choice.peek(name), str):
                self._matched = choice.need_text(name)
        if reason:  # old Ollama writes "" for null
            self._finish = str(reason)
            self._close_parts(events)
        left = known_of(choice.rest())
        if left:
            self._beside(left)

    def _beside(self, fields: dict[str, Json]) -> None:
        gather(self._extra.setdefault("choices", [{}])[0], fields)


class ChunkRenderer(StreamRenderer):
    """A renderer of one streamed answer to `request`; subclasses render the content.

    Args:
        request: the request to answer.
        name: the dialect's name.
        kind: the `object` of a chunk.
        prefix: the prefix of a generated id.
        render_error: returns the document of a failure.
    """

    def __init__(
        self, request: Request, name: str, kind: str, prefix: str, render_error: Callable[[Failure], Json]
    ) -> None:
        self._request = request
        self._name = name
        self._render_error = render_error
        self._kind = kind
        self._prefix = prefix
        self._own = True
        self._head = b""
        self._start_usage: Usage | None = None
        self._characters = 0

    def fail(self, failure: Failure) -> bytes:
        return b"data: " + encode_json(self._render_error(failure)) + b"\n\n"

    def _begin(self, event: ResponseStart) -> None:
        """Store the start of the answer, and open the head."""
        self._own = is_same_dialect(event.dialect, self._name)
        self._start_usage = event.usage
        self._open_head(event.id, event.model)

    def _open_head(self, identity: str, model: str) -> None:
        """Build the fields that all chunks share; if a keepalive came first, its id stays."""
        if self._head:
            return
        fields = {
            "id": identity or fresh_id(self._prefix),
            "object": self._kind,
            "created": int(answer_time()),
            "model": model or self._request.model,
        }
        self._head = b"data: " + encode_json(fields)[:-1] + b","

    def _line(self, fields: dict[str, Json]) -> bytes:
        return self._head + encode_json(fields)[1:] + b"\n\n"

    def _tail(self, counted: Usage | None) -> bytes:
        """Return the usage chunk, if it was requested, and the end of the stream."""
        if not self._request.include_usage:
            return DONE
        usage = counted or self._start_usage or estimate_streamed(self._request, self._characters)
        return self._line({"choices": [], "usage": render_usage(usage, same_dialect=self._own)}) + DONE
