r"""Send the outcome of an exchange to an HTTP client: status, headers, and a JSON or SSE body.

Rules:

1. The head is sent with the first increment of a stream, or after `HEAD_AFTER` seconds without an increment. A refusal
   before the head is sent has its own HTTP status.
2. During a silence, keep-alives are sent: bytes that the agent's dialect ignores. The first keep-alive is sent after
   `HEAD_AFTER` seconds without an increment. A further keep-alive is sent whenever nothing was sent for
   `KEEPALIVE_EVERY` seconds, even in the middle of an answer. In a stream, a keep-alive is an event without content. A
   keep-alive is never an SSE comment: gemini-cli fails when it gets a comment, and a comment does not prevent the
   timeout of Codex. The method `keepalive` of each dialect's renderer returns these bytes (`\n` is a line feed; `…`
   marks values that differ from answer to answer)::

       Messages     event: ping\ndata: {"type":"ping"}\n\n
       Chat         data: {…,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}]}\n\n
       Completions  data: {…,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":null}]}\n\n
       Responses    event: keepalive\ndata: {"type":"keepalive","sequence_number":…}\n\n
       Gemini       data: {"candidates": []}\n\n (in a JSON array: \n)
       Ollama       {"model":"…","created_at":"…","message":{"role":"assistant","content":""},"done":false}\n

   * Chat and Completions begin with `{"id":"…","object":"chat.completion.chunk","created":…,"model":"…",`, where the
     object of Completions is `text_completion`. The id and the other values are the same as in all other chunks of the
     answer.
   * Before the first keep-alive of Responses, the events `response.created` and `response.in_progress` are sent if the
     answer has not begun yet. Events are numbered from 0, so this keep-alive has the `sequence_number` 2.
   * On a websocket, a keep-alive is the frame `{"type":"keepalive","sequence_number":…}` (with the `stream_id` of its
     lane). Like all further keep-alives, the first keep-alive is then sent after `KEEPALIVE_EVERY` seconds, not
     after `HEAD_AFTER` (`websocket`).
   * For a request without streaming, a keep-alive is one space before the JSON body.
3. If an answer fails in the middle of its stream, the dialect's error event is sent, and then the connection is broken
   off. So no client can mistake the stream for a complete answer.
4. A provider's bytes in the agent's dialect are sent unchanged. But if the agent requested another format of the stream
   (a JSON array), the events are rendered again.
5. Raw bytes (`respond_raw`) are sent unchanged. The connection adds a framing only if the headers of the raw response
   specify none. If a keep-alive was already sent, the raw bytes are not sent; the connection only ends as the raw
   response specifies, for example with a close. While a program generates raw bytes, no keep-alives are sent between
   the pieces. If the program fails, the connection is reset.
6. An answer counts as delivered when its last byte is sent, not before.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from math import inf

import msgspec
import trio

from .._canonical.events import ResponseEnd, events_of
from .._canonical.request import Request
from .._rollout.answer import ClientGone, Entry, RawPiece, Relayed, Subscription
from .._rollout.outcome import Answered, Outcome, Raw, Refused
from .._trace.raw import RawResponse
from ..dialects import Dialect, Failure, StreamRenderer
from ..errors import DialectError
from .failure import TakeFault, failure_of_fault, failure_of_outcome, failure_reply, identified
from .notices import shown
from .tapped import TappedTransport
from .transport import Reply, Transport

HEAD_AFTER = 30.0
"""Seconds without an increment after which the head of an answer is sent. A refusal before this time has its own
status.

gemini-cli waits 60 s for the head, qwen-code 120 s, Node's clients 300 s.
"""
KEEPALIVE_EVERY = 10.0
"""Seconds of silence after which a keep-alive is sent: an event without content, or a space before a JSON body."""

log = logging.getLogger("triocept.endpoint")
_encode = msgspec.json.Encoder().encode


async def deliver(
    subscription: Subscription, request: Request, dialect: Dialect, transport: Transport
) -> None:
    """Send a whole answer, as a stream or as one JSON body. `request` specifies which.

    Raises:
        ClientGone: the client has hung up before the end of the answer.
    """
    delivery = (_Streamed if request.stream else _Whole)(subscription, request, dialect, transport)
    # If there is an outcome, the answer is written at once: a client that has only closed its sending side can read it.
    if subscription.answer.outcome is None:
        transport.on_gone(subscription.hang_up)
    try:
        await subscription.follow(delivery)
    except ClientGone:
        await transport.abort()
        raise
    if delivery.breaks:
        await transport.abort()


async def write_failure(
    failure: Failure, dialect: Dialect, transport: Transport, take_fault: TakeFault | None = None
) -> None:
    await trio.lowlevel.checkpoint_if_cancelled()
    transport.respond(failure_reply(failure, dialect, take_fault=take_fault))
    await transport.flush()


class _HTTPDelivery(ABC):
    """A `Delivery` of an answer to an HTTP client."""

    breaks = False
    """True if the connection must be broken off, because the sent bytes are not a complete answer."""
    _begun = False
    _prepared: deque[bytes] | None = None
    """Bytes of the last increments, rendered before the turn is recorded, and written after it is recorded. None until
    they are rendered."""
    _reply: Reply | None = None
    """The whole answer, rendered before the turn is recorded; None if the answer was not rendered."""
    _prepared_for: Outcome | None = None
    """The outcome for which `_prepared` was rendered. (If this outcome cannot be recorded, the agent gets another
    outcome.)"""
    _raw: RawResponse | None = None
    """The raw bytes that are to be sent next. If a program generates the bytes while they are sent, these are only the
    next part."""
    _raw_begins = _raw_ends = True
    """`_raw_begins` is True if `_raw` contains the head of the response. `_raw_ends` is True if `_raw` contains the end
    of the response."""
    _raw_begun = False
    """True if the first part of a raw answer was written."""

    def __init__(
        self, subscription: Subscription, request: Request, dialect: Dialect, transport: Transport
    ) -> None:
        self._subscription = subscription
        self._request = request
        self._dialect = dialect
        self._transport = transport
        self.wait = transport.wait  # the method itself: a wrapper would add a frame to each wake-up
        self.due = trio.current_time() + HEAD_AFTER
        self.keepalive_every = KEEPALIVE_EVERY

    def fail(self, error: Exception) -> bool:
        self._prepared = None
        if self._raw_begun:
            return self._break_raw()
        return self._fail(self._unrenderable(error))

    @property
    def full(self) -> bool:
        return self._raw is not None or self._transport.full

    async def flush(self) -> None:
        raw, self._raw = self._raw, None
        if raw is None:
            await self._transport.flush()
        elif self._begun:
            await self._transport.send_raw(RawResponse(end="close" if raw.end == "whole" else raw.end))
        elif raw.framing == "own":
            await self._send_framed(raw, raw.status or 200)
        else:
            await self._transport.send_raw(raw, begins=self._raw_begins, ends=self._raw_ends)

    def check_raw(self, raw: RawResponse) -> None:
        self._transport.check_raw(raw)

    def _write_raw(self, piece: RawPiece) -> bool:
        """Store `piece`, the next raw bytes, so that the connection's task sends them.

        If the head of another response was already sent, discard the bytes.
        """
        if self._begun:
            return True
        self._raw = msgspec.structs.replace(piece.head, body=(piece.data,))
        self._raw_begins, self._raw_ends = not self._raw_begun, False
        self._raw_begun, self.due = True, inf
        return False

    def _end_raw(self, raw: RawResponse) -> bool:
        if self._raw_begun:
            raw = msgspec.structs.replace(raw, body=())
            self._raw_begins, self._raw_ends = False, True
        else:
            self.check_raw(raw)
        self._raw = raw
        return False  # the connection's task waits for the pauses

    def _break_raw(self) -> bool:
        """Reset the connection, so that the client does not take the raw bytes for a complete response."""
        return self._end_raw(RawResponse(end="reset"))

    async def _send_framed(self, raw: RawResponse, status: int) -> None:
        """Send a raw response whose headers specify no framing.

        A single piece is sent with a Content-Length, several pieces as chunks.
        """
        transport, pieces = self._transport, tuple(raw.pieces)
        whole = self._raw_begins and self._raw_ends
        if whole and len(pieces) < 2 and not any(pause for pause, _ in pieces):
            transport.respond(Reply(status, raw.headers, b"".join([data for _, data in pieces])))
        else:
            if self._raw_begins:
                transport.start(status, raw.headers)
            for pause, data in pieces:
                # Without a pause, run no checkpoint, so that the wire log has the piece before another task runs.
                if pause:
                    await trio.sleep(pause)
                transport.write(data)
                await transport.flush()
            if self._raw_ends:
                transport.write(b"", last=True)
        await transport.flush()

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        if not isinstance(self._transport, TappedTransport):
            return
        self._prepared_for, self._reply, wire = outcome, None, self._transport.wire
        if self._raw_begun or any(isinstance(entry, RawPiece) for entry in entries):
            wire.take([data for _, data in self._raw.pieces] if self._raw is not None else ())
            wire.take(entry.data for entry in entries if isinstance(entry, RawPiece))
        elif isinstance(outcome, Raw):
            if outcome.sent.status is not None:
                wire.start(outcome.sent.status, outcome.sent.headers)
            wire.take(data for _, data in outcome.sent.pieces)
        elif self._begun or self._is_begun_by(entries):
            if not self._begun:
                wire.start(200, self._head())
            self._prepared = deque(self._last_pieces(entries, outcome))
            wire.take(self._prepared)
        else:
            reply = self._reply = self._whole_reply(outcome)
            wire.start(reply.status, reply.headers)
            wire.take([reply.body])
        wire.closed = True

    def _is_begun_by(self, entries: Sequence[Entry]) -> bool:
        """Return True if the response head must be sent before `entries`, the next increments of the answer."""
        return False

    @abstractmethod
    def _last_pieces(self, entries: Sequence[Entry], outcome: Outcome) -> Iterable[bytes]:
        """Yield the rendered bytes of each of `entries`, and then the rendered bytes of `outcome`."""

    def _whole_reply(self, outcome: Outcome) -> Reply:
        """Return a response that contains the whole answer or, if there is no answer, the error of `outcome`."""
        if self._reply is not None and outcome is self._prepared_for:
            return self._reply
        if not isinstance(outcome, Answered):
            reply = self._failure_reply(failure_of_outcome(outcome))
            document = outcome.document if isinstance(outcome, Refused) else None
            return reply if document is None else msgspec.structs.replace(reply, body=document)
        request, dialect = self._request, self._dialect
        try:
            if request.stream:
                body = _whole_stream(outcome, dialect, dialect.stream_renderer(request))
            else:
                body = outcome.document or _encode(dialect.render_response(outcome.response, request))
            return Reply(200, self._head(), body)
        except Exception as exc:
            return self._failure_reply(self._unrenderable(exc))

    def _failure_reply(self, failure: Failure) -> Reply:
        subscription = self._subscription

        def take_fault(fault: Exception) -> None:
            subscription.fault = subscription.fault or fault

        return failure_reply(failure, self._dialect, subscription.answer.request_id, take_fault)

    def _unrenderable(self, exc: Exception) -> Failure:
        """Return the failure that the agent gets in place of an answer that could not be rendered.

        There are two possible causes: the dialect cannot express the answer (text completions, for example, cannot
        contain a tool call), or triocept has a fault.
        """
        if not isinstance(exc, DialectError):
            self._subscription.fault = exc
            return failure_of_fault(exc)
        text = "the agent gets the status 500, because the dialect %s cannot express the answer: %s"
        log.error(text, self._dialect.name, shown(str(exc)))
        return Failure(status=500, message=str(exc), should_retry=False)

    def _head(self) -> dict[str, str]:
        """Return the response headers of an answer: content type, request id, and headers of the provider."""
        dialect, subscription = self._dialect, self._subscription
        if self._request.stream:
            kind = dialect.stream_types[0] if dialect.answer_type is None else None
            headers = {
                "content-type": kind or dialect.stream_type(self._request),
                "cache-control": "no-cache",
                "x-accel-buffering": "no",  # without it nginx and similar proxies buffer the events
            }
        else:
            headers = {"content-type": "application/json"}
        if name := dialect.request_id_header:
            headers[name] = subscription.answer.request_id
        headers.update(subscription.answer.headers)
        return headers

    def _begin(self) -> None:
        self._begun = True
        self._transport.start(200, self._head())

    def _send(self, data: bytes, *, last: bool) -> bool:
        self.due = trio.current_time() + KEEPALIVE_EVERY
        return self._transport.write(data, last=last)

    @abstractmethod
    def _fail(self, failure: Failure) -> bool:
        """Send an error in place of the answer.

        If a part of the answer was already sent, also break off the connection.
        """


def _whole_stream(answer: Answered, dialect: Dialect, renderer: StreamRenderer) -> bytes:
    return b"".join([renderer.render(event) for event in events_of(dialect.streamed(answer.response))])


class _Streamed(_HTTPDelivery):
    """A `Delivery` of an answer as a stream."""

    _ended = False
    _as_it_came: bool
    """True if a provider's own bytes are sent unchanged."""

    @cached_property
    def _renderer(self) -> StreamRenderer:
        self._as_it_came = self._request.framing == "sse"
        return self._dialect.stream_renderer(self._request)

    def write(self, entry: Entry) -> bool:
        if isinstance(entry, RawPiece):
            return self._write_raw(entry)
        renderer = self._renderer
        if self._prepared:
            data = self._prepared.popleft()
        elif isinstance(entry, Relayed):
            data = self._relayed(entry)
        else:
            data = renderer.render(entry)
        last = self._ended = entry.last if isinstance(entry, Relayed) else isinstance(entry, ResponseEnd)
        if not self._begun:
            self._begin()
        elif not data and not last:
            return True
        self.due = trio.current_time() + KEEPALIVE_EVERY
        return self._transport.write(data, last=last)

    def write_early(self, data: bytes) -> bool:
        if not self._begun or not self._subscription.at or not self._as_it_came:
            return False
        self._send(data, last=False)
        return True

    def end(self, outcome: Outcome) -> bool:
        if self._ended:
            return True
        if isinstance(outcome, Raw):
            return self._end_raw(outcome.sent)
        if self._raw_begun:
            return self._break_raw()
        if outcome is not self._prepared_for:
            self._prepared = None
        if not self._begun:
            return self._transport.respond(self._whole_reply(outcome))
        if not isinstance(outcome, Answered):
            return self._fail(failure_of_outcome(outcome))
        # The handler has answered with a whole response, so that only no-op events were sent before.
        prepared = self._prepared
        data = prepared.popleft() if prepared else _whole_stream(outcome, self._dialect, self._renderer)
        return self._send(data, last=True)

    def _is_begun_by(self, entries: Sequence[Entry]) -> bool:
        return bool(entries)

    def _last_pieces(self, entries: Sequence[Entry], outcome: Outcome) -> Iterable[bytes]:
        ended = False
        for entry in entries:
            if isinstance(entry, Relayed):
                ended = ended or entry.last
                yield self._relayed(entry)
            elif not isinstance(entry, RawPiece):  # raw pieces are recorded already
                ended = ended or isinstance(entry, ResponseEnd)
                yield self._renderer.render(entry)
        if not isinstance(outcome, Answered):
            failure = identified(
                failure_of_outcome(outcome), self._dialect, self._subscription.answer.request_id
            )
            yield self._renderer.fail(failure)
        elif not ended:
            yield _whole_stream(outcome, self._dialect, self._renderer)

    def break_silence(self, announce: Callable[[], str]) -> bool:
        data = self._renderer.keepalive(announce())
        if not self._begun:
            self._begin()
        return self._send(data, last=False)

    def _fail(self, failure: Failure) -> bool:
        if not self._begun:
            return self._transport.respond(self._failure_reply(failure))
        failure = identified(failure, self._dialect, self._subscription.answer.request_id)
        self.breaks = True
        data = self._prepared.popleft() if self._prepared else self._renderer.fail(failure)
        return self._send(data, last=False)

    def _relayed(self, entry: Relayed) -> bytes:
        """Return the bytes of `entry`, one increment that consists of several events."""
        renderer = self._renderer
        if entry.data is None or not self._as_it_came:
            return b"".join([renderer.render(event) for event in entry.events])
        if entry.start is not None:
            renderer.render(entry.start)  # so that the renderer can later render no-op events and errors
        return entry.data


class _Whole(_HTTPDelivery):
    """A `Delivery` of an answer as one JSON body.

    After `HEAD_AFTER` seconds without an answer, keep-alives (spaces) are sent before the JSON body.
    """

    def write(self, entry: Entry) -> bool:
        """Write `entry` if it consists of raw bytes.

        Ignore all other increments, because `end` writes the whole answer.
        """
        return not isinstance(entry, RawPiece) or self._write_raw(entry)

    def write_early(self, data: bytes) -> bool:
        return False

    def end(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Raw):
            return self._end_raw(outcome.sent)
        if self._raw_begun:
            return self._break_raw()
        reply = self._whole_reply(outcome)
        if not self._begun:
            return self._transport.respond(reply)
        if reply.status == 200:
            return self._send(reply.body, last=True)
        self.breaks = True  # the status is already sent, so the client would take a body for an answer
        return True

    def break_silence(self, announce: Callable[[], str]) -> bool:
        if not self._begun:
            self._begin()
        return self._send(b" ", last=False)

    def _last_pieces(self, entries: Sequence[Entry], outcome: Outcome) -> Iterable[bytes]:
        reply = self._reply = self._whole_reply(outcome)
        return [reply.body] if reply.status == 200 else []

    def _fail(self, failure: Failure) -> bool:
        self.breaks = self._begun
        if self._begun:
            return True
        return self._transport.respond(self._failure_reply(failure))
