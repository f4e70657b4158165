"""The Responses dialect over a websocket, with many model calls on one connection.

Codex (seen with 0.169.0) and OpenAI's SDKs (`responses.connect()`) use this protocol. The agent sends `response.create`
frames; each event of the answer's stream is sent in a separate text frame.

Rules:

1. If a frame from the agent cannot be read, an error frame is sent, and the socket stays open. Codex ignores an error
   frame without a `status`.
2. Calls without a `stream_id` are answered one at a time: if a second `response.create` arrives while the first is
   being answered, the second is refused with an error. Each `stream_id` is a separate lane (a queue of calls). The
   calls of a lane are answered one after the other, and do not wait for the calls of other lanes. The events of an
   answer contain the `stream_id` of the call.
3. A warm-up (a frame in which `generate` is false) is not a model call. This module answers the warm-up, and stores the
   answer while the socket is open, so that a later call can continue the warm-up. Every other response from which an
   agent can continue is a turn of the rollout.
4. Frames of unknown types are ignored, because later versions of the protocol may add types. A `response.steer` is
   answered with a failure.
5. When the rollout ends, waiting calls are refused, then the socket is closed with 1001. If the agent connects again,
   its upgrade request is refused with 404. Codex gives up after this refusal, but not after a close of the socket.
6. Raw bytes (`respond_raw`) with an SSE body are sent as one frame for each event; any other body is sent as one frame.
   After these frames, the connection ends as the raw response specifies.
7. The bytes of waiting frames are counted. While more than `EndpointLimits.websocket_backlog` bytes wait, no further
   frame is read. A frame is parsed only when its call is to be answered, because a parsed frame may take many times as
   much memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import NamedTuple

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.events import Event, ResponseEnd, ResponseStart, events_of
from .._canonical.request import Request
from .._canonical.response import Response, Usage
from .._canonical.tokens import estimate_input_tokens
from .._rollout.answer import ClientGone, Condition, Entry, RawPiece, Relayed, Subscription
from .._rollout.calls import RETRY_COUNT
from .._rollout.outcome import Answered, Outcome, Raw
from .._rollout.rollout_state import RolloutState
from .._trace.raw import RawEnd, RawResponse
from .._trace.wire import WireLog
from .._util.limits import EndpointLimits
from .._util.secrets import MARK
from .._util.sse import SSEDecoder
from ..dialects import Failure, Target
from ..dialects import dialect as dialect_named
from ..dialects.kit import decode_json
from ..dialects.openai_responses.response import render_steer_failed, render_ws_error
from ..dialects.openai_responses.side import is_warm_up
from ..dialects.openai_responses.stream_renderer import Documents
from ..errors import DialectError, Refusal
from . import delivery
from .admission import Admission, Share, over_capacity
from .documents import LARGE, read_body, read_large
from .failure import failure_of, failure_of_fault, failure_of_outcome
from .intake import OVER_LIMITS, REFUSALS_OF_A_ROLLOUT, whole_request
from .keys import Keys
from .notices import shown
from .tapped import shown_url
from .transport import GONE, Head
from .websocket_connection import Kind, Received, WebSocket

CREATE = "response.create"
STEER = "response.steer"
MAX_WAITING = 64
"""Maximum calls of one socket that wait or are being answered. Each call takes the memory of a whole request."""
MAX_WARM = 16
"""Maximum warm-ups that are kept for one socket. Codex sends only one."""
MAX_LANE = 256
"""Maximum characters of a `stream_id`, which every event of its lane contains."""
GOING_AWAY = 1001
SWITCHED = 101
"""HTTP status with which a server accepts the upgrade to a websocket."""
RESPONSES = dialect_named("openai_responses")


async def serve_websocket(
    head: Head,
    rollout: RolloutState,
    socket: WebSocket,
    *,
    keys: Keys,
    max_body: int,
    limits: EndpointLimits,
    admission: Admission,
) -> None:
    """Answer the model calls on a websocket, until the agent disconnects or the rollout ends.

    Cancellation: the running exchanges are abandoned.
    """
    try:
        await socket.accept()
    except ClientGone:
        return
    if not await _Socket(head, rollout, socket, keys, max_body, limits, admission).run():
        await socket.close(GOING_AWAY, "the rollout has ended")


class _Envelope(msgspec.Struct, gc=False):
    """The fields of a frame that are decoded when the frame arrives; other fields are decoded later."""

    type: Json = CREATE
    stream_id: Json = None


_read_envelope = msgspec.json.Decoder(_Envelope).decode


class _Frame(NamedTuple):
    """A frame with a model call, which is not decoded yet."""

    data: bytes
    share: Share


class _Socket:
    """Answers the model calls on one websocket."""

    def __init__(
        self,
        head: Head,
        rollout: RolloutState,
        socket: WebSocket,
        keys: Keys,
        max_body: int,
        limits: EndpointLimits,
        admission: Admission,
    ) -> None:
        self._received = admission.waiting
        self._unfinished = Share(admission.waiting, rollout)
        """The counted bytes of the message that is still incomplete."""
        self._notices = admission.notices
        self._head = head
        self._keys = keys
        self._rollout = rollout
        self._socket = socket
        self._max_body = max_body
        self._max_backlog = limits.websocket_backlog
        self._max_items = limits.document_items
        self._lanes: dict[str | None, deque[_Frame]] = {}
        self._warm: dict[str, Request] = {}
        self._capacity = Condition()
        self._gone = False

    async def run(self) -> bool:
        """Receive frames and answer their calls.

        Return True if the agent has disconnected, False if the rollout has ended.
        """
        try:
            async with trio.open_nursery() as self._answers, trio.open_nursery() as nursery:

                @trio.lowlevel.enable_ki_protection
                async def end_with_rollout() -> None:
                    await self._rollout.ended.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(end_with_rollout)
                while (message := await self._socket.receive(self._unfinished)) is not None:
                    await self._take(message)
                    # Count the bytes of the waiting frames without the first: a single call is not limited.
                    while self._max_backlog < sum(
                        [len(frame.data) for waiting in self._lanes.values() for frame in waiting][1:]
                    ):
                        await self._capacity.wait()
                self._hang_up()
        finally:
            self._unfinished.release()
        return self._gone

    async def _take(self, message: Received) -> None:
        """Put a frame with a model call into the queue of its lane. Answer or ignore a frame of another type."""
        lane, share = None, Share(self._received, self._rollout)
        try:
            envelope = self._envelope(message)
            if envelope.type == STEER:
                failed = render_steer_failed(_read_frame(message.data))
                await self.send(msgspec.json.encode(failed), None)
            if envelope.type != CREATE:
                return
            name = envelope.stream_id
            if name is not None and not isinstance(name, str):
                raise DialectError("must be a string", path="stream_id")
            if name is not None and len(name) > MAX_LANE:
                raise DialectError(
                    f"must have at most {MAX_LANE} characters, not {len(name)}", path="stream_id"
                )
            lane = name
            self._check_capacity(lane)
            share.add(len(message.data))
        except (Refusal, DialectError) as exc:
            with suppress(ClientGone):  # the next `receive` ends, too
                await self.fail(failure_of(exc, self._max_body), lane)
            return
        waiting = self._lanes.setdefault(lane, deque())
        waiting.append(_Frame(message.data, share))
        if len(waiting) == 1:
            self._answers.start_soon(self._work, lane, waiting)

    def _envelope(self, message: Received) -> _Envelope:
        match message.kind:
            case Kind.BINARY:
                raise Refusal(400, "a frame must contain JSON text, not binary data", should_retry=False)
            case Kind.CROWDED:
                raise over_capacity()
            case Kind.TOO_LARGE:
                raise Refusal(413, f"the frame is larger than {self._max_body} bytes", should_retry=False)
        try:
            try:
                return _read_envelope(message.data)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
                if isinstance(exc, msgspec.ValidationError):
                    raise
                # `_read_frame` raises an error that names the fault, or replaces a lone surrogate by U+FFFD
                return msgspec.convert(_read_frame(message.data), _Envelope)
        except msgspec.ValidationError as exc:
            raise DialectError("the frame must be a JSON object, such as a `response.create`") from exc

    def _check_capacity(self, lane: str | None) -> None:
        if lane is None and lane in self._lanes:
            text = (
                "a response is in progress on this websocket: wait until it ends, or use another `stream_id`"
            )
            raise Refusal(400, text, should_retry=False, code="response_in_progress")
        if sum(map(len, self._lanes.values())) >= MAX_WAITING:
            text = f"{MAX_WAITING} calls already wait on this websocket: wait for one of their answers"
            raise Refusal(429, text, retry_after=1)

    @trio.lowlevel.enable_ki_protection
    async def _work(self, lane: str | None, waiting: deque[_Frame]) -> None:
        """Answer the calls of one lane one after the other, until no call of the lane waits."""
        try:
            while waiting:
                await self._answer(waiting[0], lane)
                waiting.popleft()
                self._capacity.notify_all()
            del self._lanes[lane]
        except ClientGone:
            pass  # `send` has cancelled the other tasks
        finally:
            for frame in waiting:
                frame.share.release()

    async def _answer(self, frame: _Frame, lane: str | None) -> None:
        try:
            document = await read_body(frame.data, self._max_items)
            if isinstance(document, dict):
                document.pop("stream_id", None)  # a field of the socket, not of the call
            request = await self._request(document, len(frame.data))
        except (Refusal, DialectError) as exc:
            await self.fail(failure_of(exc, self._max_body), lane)
            return
        except GONE:
            raise
        except Exception as exc:
            self._rollout.take_fault(exc)
            await self.fail(failure_of_fault(exc), lane)
            return
        finally:
            frame.share.release()
        # The header with the number of retries is removed below: in it, OpenAI's SDKs count the retries of the upgrade.
        headers = self._keys.redacted(self._head.headers, self._rollout)
        wire: WireLog | None = None
        if self._rollout.record_wire:  # the upgrade of the socket, this frame, and the frames of its answer
            wire = WireLog("GET", shown_url(self._head, self._rollout.api_key, MARK), headers)
            wire.body = frame.data
            wire.start(SWITCHED, {})
        out = _Response(self, request, lane, wire)
        if is_warm_up(request):
            await self._warm_up(request, out)
            return
        await self._rollout.answer_call(
            request,
            out.deliver,
            raw=document,
            headers={name: value for name, value in headers.items() if name != RETRY_COUNT},
            query=self._head.query,
            wire=wire,
        )
        if out.stalls:
            await self._rollout.ended.wait()  # or until the client hangs up

    async def _request(self, document: Json, size: int) -> Request:
        """Parse the model call in `document`, and add the earlier conversation that the call continues."""
        if size <= LARGE:
            request = RESPONSES.parse_request(document, memory=self._rollout.memory)
        else:
            request = await read_large(RESPONSES, document, Target(), self._rollout, self._rollout)
        request = msgspec.structs.replace(request, stream=True)  # on a websocket, every answer is streamed
        warm = self._warm.get(request.previous_response or "")
        if warm is not None:
            return RESPONSES.continued(request, warm, Response(()))
        return whole_request(request, RESPONSES, self._rollout)

    async def _warm_up(self, request: Request, out: _Response) -> None:
        usage = Usage(input_tokens=estimate_input_tokens(request), output_tokens=0, estimated=True)
        out.write(ResponseStart(model=request.model))
        await out.flush()
        self._warm[out.response_id] = request
        if len(self._warm) > MAX_WARM:
            del self._warm[next(iter(self._warm))]
        out.write(ResponseEnd("end", usage=usage))
        await out.flush()

    async def fail(self, failure: Failure, lane: str | None) -> None:
        await self.send(self.failed(failure), lane)

    def failed(self, failure: Failure) -> bytes:
        """Log a failure, and return the JSON of its error frame."""
        said = ("websocket %s: %s %s", shown(self._head.path), failure.status, shown(failure.message))
        if failure.status in OVER_LIMITS:
            self._notices.warn(f"websocket {failure.status}", *said)
        else:
            kind = f"websocket {failure.status} of {self._rollout.id}"
            self._notices.warn(kind, *said, most=REFUSALS_OF_A_ROLLOUT)
        return msgspec.json.encode(render_ws_error(failure))

    async def send(self, document: bytes, lane: str | None) -> None:
        try:
            await self._socket.send(in_lane(document, lane).decode("utf-8", "replace"))
        except ClientGone:
            self._hang_up()
            raise

    async def end_raw(self, end: RawEnd) -> None:
        await self._socket.end_raw(end)

    def _hang_up(self) -> None:
        self._gone = True
        self._answers.cancel_scope.cancel()


def in_lane(document: bytes, lane: str | None) -> bytes:
    """Return a JSON document with `lane` added as its `stream_id`. If `lane` is None, return the document unchanged."""
    if lane is None or not document.endswith(b"}"):  # triocept's own documents end with a brace
        return document
    return document[:-1] + b',"stream_id":' + msgspec.json.encode(lane) + b"}"


class _Response:
    """A `Delivery` of one answer over a websocket.

    Each event is rendered only when it can be sent, because each of the last few events contains the whole text. If the
    rollout has `record_wire`, the events that are not sent yet are rendered when the turn is recorded.
    """

    def __init__(
        self, socket: _Socket, request: Request, lane: str | None, wire: WireLog | None = None
    ) -> None:
        self._socket = socket
        self._documents = Documents(request)
        self._lane = lane
        self._wire = wire
        self._unsent: deque[Event | bytes] = deque()
        """Events that are not rendered yet, and rendered documents that are not sent yet. They are sent after the
        documents in `_rendered`."""
        self._rendered: deque[bytes] = deque()
        """Rendered documents that are sent before the items of `_unsent`."""
        self._sending = False
        """True while the first document of `_rendered` is being sent."""
        self._prepared: deque[list[bytes]] = deque()
        """For each of the next increments: its documents, rendered in advance."""
        self._prepared_for: Outcome | None = None
        self._end: list[bytes] = []
        """Documents for the outcome `_prepared_for`, rendered in advance."""
        self._begun = False
        self._written_at = trio.current_time()
        self._subscription: Subscription | None = None
        self._raw: RawResponse | None = None
        self._frames: _RawFrames | None = None
        """Converter of the raw bytes that a program generates while they are sent. None if no such bytes are being
        sent."""
        self.stalls = False
        """True if the answer has ended with a stall: no further frame is sent in its lane."""

    @property
    def response_id(self) -> str:
        return self._documents.response_id

    async def deliver(self, subscription: Subscription) -> None:
        self._subscription = subscription
        await subscription.follow(self)

    @property
    def full(self) -> bool:
        return bool(self._unsent or self._rendered) or self._raw is not None

    keepalive_every = inf
    """Infinite, because the task that waits for the answer sends every frame itself."""

    @property
    def due(self) -> float:
        return self._written_at + delivery.KEEPALIVE_EVERY if self._frames is None else inf

    def write(self, entry: Entry) -> bool:
        self._begun = True
        self._unsent += self._prepared.popleft() if self._prepared else self._items_of(entry)
        return not self.full

    def _items_of(self, entry: Entry) -> Sequence[Event | bytes]:
        if isinstance(entry, RawPiece):
            self._frames = self._frames or _RawFrames(entry.head)
            return self._frames.feed(entry.data)
        return entry.events if isinstance(entry, Relayed) else (entry,)

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        wire = self._wire
        if wire is None:
            return
        begun = self._begun or bool(entries)
        self._rendered += self._render_all(self._unsent)
        self._unsent.clear()
        self._prepared = deque([self._render_all(self._items_of(entry)) for entry in entries])
        self._prepared_for = outcome
        if isinstance(outcome, Raw):
            sent = [document for _, document in _raw_frames(outcome.sent)]
            self._end = sent if self._frames is None else self._frames.end()
        else:
            self._end = self._render_all(self._items_at_end(outcome, begun)) if self._frames is None else []
        for documents in (list(self._rendered)[self._sending :], *self._prepared, self._end):
            self._keep(documents)
        wire.closed = True

    def _keep(self, documents: Iterable[bytes]) -> None:
        """Record `documents`, the contents of frames, in the turn's HTTP traffic, one line for each frame."""
        if self._wire is not None:
            self._wire.take(in_lane(document, self._lane) + b"\n" for document in documents if document)

    def write_early(self, data: bytes) -> bool:
        return False

    def check_raw(self, raw: RawResponse) -> None:
        if raw.status is None and raw.size:
            raise ValueError(
                "the raw answer has a body but no status, so its bytes would be sent before any head; over a "
                "websocket, bytes can be sent only in a frame: set the status to 200, or omit the body"
            )
        if raw.status not in (None, 200):
            raise ValueError(
                f"the raw answer has the status {raw.status}, but the agent called over a websocket, whose answers "
                "have no HTTP status: send an error event as the body, with the status 200"
            )
        for name in ("content-length", "content-encoding"):
            if name in raw.headers:
                raise ValueError(f"an answer on a websocket cannot have the header {name}: omit this header")

    def end(self, outcome: Outcome) -> bool:
        self._prepared.clear()  # left over from an outcome that could not be recorded
        if self._frames is not None:
            if isinstance(outcome, Raw):
                self._unsent += self._frames.end()
            end = outcome.sent.end if isinstance(outcome, Raw) else "reset"
            self._raw = RawResponse(end=end)
            return False
        if isinstance(outcome, Raw):
            self.check_raw(outcome.sent)
            self._raw = outcome.sent
            return False
        prepared = outcome is self._prepared_for
        self._unsent += self._end if prepared else self._items_at_end(outcome, self._begun)
        return not self.full

    def _items_at_end(self, outcome: Outcome, begun: bool) -> Sequence[Event | bytes]:
        if not isinstance(outcome, Answered):
            return [self._socket.failed(failure_of_outcome(outcome))]
        # If no answer has begun, the handler has answered with a whole response.
        return [] if begun else list(events_of(outcome.response))

    def break_silence(self, announce: Callable[[], str]) -> bool:
        if self._prepared_for is not None:  # the next events are numbered already
            self._written_at = trio.current_time()
            return True
        self._unsent += [event.data for event in self._documents.keepalive(announce())]
        return not self.full

    def fail(self, error: Exception) -> bool:
        assert self._subscription is not None
        self._subscription.fault = error
        self._unsent.clear()
        self._rendered.clear()
        self._unsent.append(self._socket.failed(failure_of_fault(error)))
        return False

    async def wait(self, news: Condition, until: float) -> None:
        with trio.CancelScope(deadline=until):
            await news.wait()

    async def flush(self) -> None:
        while self._rendered or self._unsent:
            if not self._rendered:
                self._rendered += self._render(self._unsent.popleft())
                continue
            self._keep([self._rendered[0]])
            self._sending = True
            try:
                await self._socket.send(self._rendered[0], self._lane)
            finally:
                self._sending = False
            self._rendered.popleft()
        if (raw := self._raw) is not None:
            self._raw = None
            await self._send_raw(raw)
        self._written_at = trio.current_time()

    async def _send_raw(self, raw: RawResponse) -> None:
        for pause, document in _raw_frames(raw):
            await trio.sleep(pause)
            if document:
                self._keep([document])
                await self._socket.send(document, self._lane)
        self.stalls = raw.end == "stall"
        if raw.end in ("close", "reset"):
            await self._socket.end_raw(raw.end)

    def _render_all(self, items: Iterable[Event | bytes]) -> list[bytes]:
        return [document for item in items for document in self._render(item)]

    def _render(self, item: Event | bytes) -> list[bytes]:
        if isinstance(item, bytes):
            return [item]
        return [event.data for event in self._documents.render(item)]


class _RawFrames:
    """Converts a raw body to websocket frames.

    An SSE body becomes one frame for each event. Any other body becomes a single frame.
    """

    def __init__(self, head: RawResponse) -> None:
        events = head.headers.get("content-type", "").startswith("text/event-stream")
        self._decoder = SSEDecoder() if events else None
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Add `data`, the next bytes of the body, and return the frames that are now complete."""
        if self._decoder is not None:
            return [event.data for event in self._decoder.feed(data)]
        self._pieces.append(data)
        return []

    def end(self) -> list[bytes]:
        """Return the collected body as one frame. Return an empty list if the body is SSE or empty."""
        return [whole] if (whole := b"".join(self._pieces)) else []


def _raw_frames(raw: RawResponse) -> Iterator[tuple[float, bytes]]:
    """Yield each frame of a raw response, with the seconds to wait before the frame is sent."""
    frames = _RawFrames(raw)
    for pause, data in raw.pieces:
        first, *others = frames.feed(data) or [b""]
        yield pause, first
        for document in others:
            yield 0.0, document
    for document in frames.end():
        yield 0.0, document


def _read_frame(data: bytes) -> Json:
    try:
        return decode_json(data)
    except DialectError as exc:
        raise DialectError(f"the frame is {exc}") from exc
