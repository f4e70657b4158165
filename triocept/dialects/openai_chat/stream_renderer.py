"""Renderers of streamed answers of chat completions, and of chunks as completions have them, too.

Rules:

1. A stream is a role chunk, deltas, exactly one finish chunk, the usage chunk on request, and `[DONE]`.
2. Tool calls are numbered from 0, apart from all other parts.
3. All chunks have the same id, `created` and model.
4. Parts that the wire cannot hold are left out.
5. A call that must change its kind (see `FittedCall`) is held back until it is whole.
"""

from __future__ import annotations

from collections.abc import Callable

from ..._canonical.content import Blob, Json, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart, Usage
from ..._canonical.tokens import estimate_streamed
from .._calls import FittedCall, custom_names, fresh_id, with_id
from .._clock import answer_time
from .._documents import decode_json, encode_json, encode_text, is_same_dialect, merged
from .._failures import Failure
from ..streams import StreamRenderer
from .parts import DETAILS, NAME, field_of, render_call, render_detail
from .response import MATCHED, render_error, render_finish, render_usage
from .stream_parser import DONE


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


_NO_FINISH = b',"logprobs":null,"finish_reason":null}]}\n\n'


class _OpenCall(FittedCall):
    """A tool call that is being written."""

    def __init__(self, number: int, call: ToolCall, customs: frozenset[str]) -> None:
        super().__init__(call, customs)
        self.number = number
        self.written = False


class Renderer(ChunkRenderer):
    """A renderer of one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, NAME, "chat.completion.chunk", "chatcmpl-", render_error)
        self._frames: dict[int, tuple[bytes, bytes]] = {}  # bytes before and after a delta of this part
        self._open_calls: dict[int, _OpenCall] = {}
        self._calls = 0
        self._refusal = False

    def render(self, event: Event) -> bytes:
        match event:
            case PartDelta(index=index, text=text):
                return self._delta(index, text)
            case PartStart(index=index, part=part):
                return self._part(index, part)
            case PartEnd(index=index):
                return self._part_end(index)
            case PartBlob(blob=blob):
                return self._blob(blob)
            case ResponseStart():
                self._begin(event)
                return self._chunk({"role": "assistant", "content": ""}, event.extra if self._own else None)
            case ResponseEnd():
                return self._end(event)

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head(response_id, "")
        return self._chunk({})

    def _part(self, index: int, part: ResponsePart) -> bytes:
        match part:
            case Text(text=text):
                self._frame(index, b'"content":')
                extra = self._chunk(part.extra) if self._own and part.extra else b""
                return extra + self._delta(index, text)
            case Reasoning(text=text, blobs=blobs):
                name = field_of(part, same_dialect=self._own)
                if name != DETAILS:
                    self._frame(index, b'"' + name.encode() + b'":')
                return self._delta(index, text) + b"".join(map(self._blob, blobs))
            case RefusalText(text=text):
                self._refusal = True
                self._frame(index, b'"refusal":')
                return self._delta(index, text)
            case ToolCall():
                return self._call(index, part)
            case _:
                return b""

    def _call(self, index: int, call: ToolCall) -> bytes:
        self._open_calls[index] = opened = _OpenCall(self._calls, call, custom_names(self._request))
        self._calls += 1
        self._characters += len(call.name)
        if opened.held:
            return b""
        return self._call_head(opened, call, index) + self._delta(index, call.arguments)

    def _call_head(self, opened: _OpenCall, call: ToolCall, index: int) -> bytes:
        inner = b'"custom":{"input":' if call.kind == "text" else b'"function":{"arguments":'
        self._frame(index, b'"tool_calls":[{"index":%d,' % opened.number + inner, b"}}]")
        document = render_call(with_id(call), same_dialect=self._own)
        field = "input" if call.kind == "text" else "arguments"
        document["custom" if call.kind == "text" else "function"][field] = ""
        return self._chunk({"tool_calls": [{"index": opened.number, **document}]})

    def _delta(self, index: int, text: str) -> bytes:
        frame = self._frames.get(index)
        if frame is not None and text:
            self._characters += len(text)
            if index in self._open_calls:
                self._open_calls[index].written = True
            return frame[0] + encode_text(text) + frame[1]
        if index in self._open_calls:
            self._open_calls[index].hold(text)
        return b""

    def _blob(self, blob: Blob) -> bytes:
        detail = render_detail(blob)
        if detail is not None:
            return self._chunk({DETAILS: [detail]})
        if self._own and blob.dialect == NAME and blob.kind != DETAILS:
            return self._chunk({blob.kind: [decode_json(blob.data)]})
        return b""

    def _part_end(self, index: int) -> bytes:
        data = b""
        opened = self._open_calls.get(index)
        if opened is not None and opened.held:
            fitted = opened.release()
            data = self._call_head(opened, fitted, index) + self._delta(index, fitted.arguments)
        if opened is not None and not opened.written and opened.call.kind == "json":
            data += self._delta(index, "{}")
        self._frames.pop(index, None)
        self._open_calls.pop(index, None)
        return data

    def _end(self, event: ResponseEnd) -> bytes:
        finish = render_finish(event.stop_reason, calls=self._calls > 0, refusal=self._refusal)
        choice: dict[str, Json] = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
        if event.stop_sequence is not None:
            choice[MATCHED[0]] = event.stop_sequence
        extra = dict(event.extra or {}) if self._own else {}
        if "choices" in extra:
            choice = _with_choice_extra(choice, extra.pop("choices"))
        data = self._line({**extra, "choices": [choice]})
        return data + self._tail(event.usage)

    def _frame(self, index: int, before: bytes, behind: bytes = b"") -> None:
        head = self._head + b'"choices":[{"index":0,"delta":{' + before
        self._frames[index] = (head, behind + b"}" + _NO_FINISH)

    def _chunk(self, delta: Json, extra: dict[str, Json] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._line({**(extra or {}), "choices": [choice]})


def _with_choice_extra(choice: dict[str, Json], extras: Json) -> dict[str, Json]:
    """Return the last choice with the unknown fields of a whole answer's choice.

    The unknown fields of the answer's message go into the delta.
    """
    extra = extras[0] if isinstance(extras, list) and extras and isinstance(extras[0], dict) else {}
    extra = {"delta" if name == "message" else name: value for name, value in extra.items()}
    return merged(choice, extra)
