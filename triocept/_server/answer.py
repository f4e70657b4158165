"""From the outcome of an exchange to status, headers, JSON or SSE.

Rules:

1. The head goes out with the first increment, or after `HEAD_AFTER` seconds without one: a refusal that comes
   before has its HTTP status.
2. Silence is filled with what the dialect ignores: its own no-op events (SSE comments kill gemini-cli, and do not
   count for Codex), or white space before a JSON document.
3. A stream that fails in the middle gets the dialect's in-band error, then its connection is broken off: nobody can
   take it for whole.
4. A provider's own bytes, in the agent's dialect, are written as they came; to a connection that asked for another form
   of the answer they are rendered anew.
5. `reader.delivered` is set when the last byte is written, not before.
"""

from __future__ import annotations

import logging
from typing import Protocol

import msgspec
import trio

from .._canonical.events import ResponseEnd
from .._canonical.fold import events_of
from .._canonical.request import Request
from .._rollout.log import REST, SILENCE, Entry, EventReader, Relayed
from .._rollout.outcome import Answered, Refused
from ..dialects import Dialect, Failure
from ..errors import DialectError
from .failure import failure_of_fault, failure_of_outcome, failure_reply, identified
from .transport import GONE, Reply, Transport

__all__ = [
    "Sink",
    "follow",
    "write_answer",
    "write_failure",
]

HEAD_AFTER = 30.0
"""Seconds of silence after which the head of an answer is sent: gemini-cli waits 60 s for it, qwen-code 120 s, Node's
clients 300 s. Until then a refusal has its HTTP status."""
KEEPALIVE_EVERY = 10.0
"""Seconds of silence after which a no-op is sent: of the dialect in a stream, a space before a whole document."""

log = logging.getLogger("triocept.endpoint")
_encode = msgspec.json.Encoder().encode


class Sink(Protocol):
    """Where the increments of an answer go."""

    async def write(self, entry: Entry) -> None:
        """Write an increment."""

    async def break_silence(self, response_id: str) -> None:
        """Write a no-op; the answer will have this id."""


async def write_answer(reader: EventReader, request: Request, dialect: Dialect, transport: Transport) -> None:
    """Write the answer that `reader` reads, as `request` wants it: whole, or as a stream.

    Raises:
        ClientGone: the client has hung up before its end.
    """
    reader.alarm = transport.alarm
    if request.stream:
        await _write_stream(reader, request, dialect, transport)
    else:
        await _Whole(reader, request, dialect, transport).write_all()
    reader.delivered = True


async def write_failure(failure: Failure, dialect: Dialect, transport: Transport) -> None:
    """Write an error in the dialect's own shape."""
    await transport.send(failure_reply(failure, dialect))


def _reply(reader: EventReader, request: Request, dialect: Dialect) -> Reply:
    outcome = reader.outcome
    if not isinstance(outcome, Answered):
        failure = failure_of_outcome(outcome)
        reply = failure_reply(failure, dialect, reader.request_id)
        document = outcome.document if isinstance(outcome, Refused) else None
        return reply if document is None else msgspec.structs.replace(reply, body=document)
    try:
        reply = _whole(outcome, request, dialect)
        return msgspec.structs.replace(reply, headers=reply.headers | _head_of(reader, dialect))
    except Exception as exc:
        return failure_reply(_unsayable(exc, dialect, reader), dialect, reader.request_id)


def _head_of(reader: EventReader, dialect: Dialect) -> dict[str, str]:
    """What the head of an answer says beside: the id of its call, and what a provider said."""
    name = dialect.request_id_header
    return {name: reader.request_id, **reader.headers} if name else dict(reader.headers)


def _unsayable(exc: Exception, dialect: Dialect, reader: EventReader) -> Failure:
    """A tool call for an agent of text completions, say: its wire has no word for it. Or a fault of ours."""
    if not isinstance(exc, DialectError):
        reader.fault = exc
        return failure_of_fault(exc)
    log.error("an answer cannot be said in %s: %s", dialect.name, exc)
    return Failure(status=500, message=str(exc), should_retry=False)


def _whole(answer: Answered, request: Request, dialect: Dialect) -> Reply:
    if not request.stream:
        document = answer.document or _encode(dialect.render_response(answer.response, request))
        return Reply(200, {"content-type": "application/json"}, document)
    renderer = dialect.stream_renderer(request)
    body = b"".join([renderer.render(event) for event in events_of(dialect.streamed(answer.response))])
    return Reply(200, _stream_headers(request, dialect), body)


async def follow(reader: EventReader, sink: Sink, patience: float | None = None) -> None:
    """Give `sink` every increment as it comes, and let it break each silence, until only the outcome is left.

    Args:
        reader: whose increments.
        sink: what writes them.
        patience: seconds of the first silence that is allowed; None: `KEEPALIVE_EVERY`, as all others get.

    Raises:
        ClientGone: from `reader`.

    Cancellation: of a write breaks the connection off, of a wait does nothing.
    """
    patience = KEEPALIVE_EVERY if patience is None else patience
    while (entry := await reader.next_within(patience)) is not None:
        patience = KEEPALIVE_EVERY
        if entry is not SILENCE:
            await sink.write(entry)
            continue
        quiet = trio.current_time() - reader.written_at
        if quiet < KEEPALIVE_EVERY:
            patience = KEEPALIVE_EVERY - quiet
        else:
            await sink.break_silence(reader.announce())


async def _write_stream(
    reader: EventReader, request: Request, dialect: Dialect, transport: Transport
) -> None:
    try:
        stream = _Stream(request, dialect, transport, reader)
    except Exception as exc:
        await write_failure(_unsayable(exc, dialect, reader), dialect, transport)
        return
    reader.writer = stream
    try:
        await follow(reader, stream, HEAD_AFTER)
        if reader.delivered:
            return
        if not stream.begun:
            await transport.send(stream.reply or _reply(reader, request, dialect))
        elif not isinstance(reader.outcome, Answered):
            await stream.fail(failure_of_outcome(reader.outcome))
        elif not reader.at:  # nothing but no-ops so far: the answer was given whole
            events = events_of(dialect.streamed(reader.outcome.response))
            await stream.send(b"".join([stream.renderer.render(event) for event in events]), last=True)
    except GONE:
        raise
    except Exception as exc:
        await stream.fail(_unsayable(exc, dialect, reader))


class _Stream:
    """A streamed answer: its head goes out with its first bytes. A `Sink` and a `Writer`."""

    def __init__(self, request: Request, dialect: Dialect, transport: Transport, reader: EventReader) -> None:
        self.renderer = dialect.stream_renderer(request)
        self.begun = False
        self.reply: Reply | None = None
        """The whole answer in one piece, if it was given so."""
        self._headers = _stream_headers(request, dialect)
        self._request = request
        self._dialect = dialect
        self._transport = transport
        self._reader = reader
        self._as_it_came = request.framing == "sse"
        self._unsayable: Exception | None = None

    async def write(self, entry: Entry) -> None:
        if self._unsayable is not None:
            raise self._unsayable
        if isinstance(entry, Relayed) and self.begun and self._reader.at == 1:
            self._as_it_came = False  # a no-op came first, with an id of ours, which stays
        await self.send(self._bytes(entry), last=_is_last(entry), flush=entry is REST)

    def write_now(self, entry: Entry) -> bool:
        """Write an increment without waiting, if the connection takes more, and it is not the first.

        It is called by whoever answers, who is not to blame for what cannot be said: `write` raises that.
        """
        if not self._can_write_now():
            return False
        try:
            data = self._bytes(entry)
        except Exception as exc:
            self._unsayable = exc
            return False
        last = _is_last(entry)
        self._reader.stalled = (bool(data) or last) and not self._transport.send_now(data, last=last)
        return True

    def write_early(self, data: bytes) -> bool:
        if not self._as_it_came or not self._can_write_now():
            return False
        self._reader.stalled = not self._transport.send_now(data, last=False)
        return True

    def _can_write_now(self) -> bool:
        return self.begun and bool(self._reader.at) and self._transport.can_send_now()

    def finish_now(self) -> bool:
        """Write the last increment, as `write_now` does; or all of an answer that was given whole."""
        reader = self._reader
        if not self.begun and not reader.at and reader.unread is None:
            self.reply = _reply(reader, self._request, self._dialect)
            return self._transport.reply_now(self.reply)
        last = reader.unread
        if last is None or not _is_last(last) or not self.write_now(last):
            return False
        reader.at += 1
        return not reader.stalled

    def _bytes(self, entry: Entry) -> bytes:
        """What the agent gets of an increment."""
        if not isinstance(entry, Relayed):
            return self.renderer.render(entry)
        if entry.data is None or not self._as_it_came:
            return b"".join([self.renderer.render(event) for event in entry.events])
        if entry.start is not None:
            self.renderer.render(entry.start)  # for the no-ops and the error that it may have to write
        return entry.data

    async def break_silence(self, response_id: str) -> None:
        await self.send(self.renderer.keepalive(response_id), last=False)

    async def fail(self, failure: Failure) -> None:
        """The error in the stream, or in its place; and no clean end."""
        if not self.begun:
            await self._transport.send(failure_reply(failure, self._dialect, self._reader.request_id))
            return
        failure = identified(failure, self._dialect, self._reader.request_id)
        await self._transport.send_more(self.renderer.fail(failure), last=False)
        await self._transport.abort()

    async def send(self, data: bytes, *, last: bool, flush: bool = False) -> None:
        if not self.begun:
            self.begun = True
            headers = self._headers | _head_of(self._reader, self._dialect)
            await self._transport.send(Reply(200, headers, data, last=last))
        elif data or last or flush:
            await self._transport.send_more(data, last=last)


def _is_last(entry: Entry) -> bool:
    return entry.last if isinstance(entry, Relayed) else isinstance(entry, ResponseEnd)


class _Whole:
    """A whole answer, with white space before it if it is late. A `Writer`."""

    def __init__(self, reader: EventReader, request: Request, dialect: Dialect, transport: Transport) -> None:
        self._reader = reader
        self._request = request
        self._dialect = dialect
        self._transport = transport
        self._begun = False
        self._reply: Reply | None = None

    async def write_all(self) -> None:
        """Wait for the outcome, and write it."""
        reader, clock = self._reader, trio.current_time
        reader.writer = self
        due = clock() + HEAD_AFTER
        while (entry := await reader.next_within(max(0.0, due - clock()))) is not None:
            if entry is SILENCE:
                await self._break_silence()
                due = clock() + KEEPALIVE_EVERY
        if not reader.delivered:
            await self._send(self._reply or _reply(reader, self._request, self._dialect))

    async def _send(self, reply: Reply) -> None:
        if not self._begun:
            await self._transport.send(reply)
        elif reply.status == 200:
            await self._transport.send_more(reply.body, last=True)
        else:  # its status is gone: what is sent now would be taken for an answer
            await self._transport.abort()

    def write_now(self, entry: Entry) -> bool:
        """Nothing is written of it before the end."""
        return True

    def write_early(self, data: bytes) -> bool:
        return False

    def finish_now(self) -> bool:
        """Write the whole without waiting."""
        if self._begun:
            return False
        self._reply = _reply(self._reader, self._request, self._dialect)
        return self._transport.reply_now(self._reply)

    async def _break_silence(self) -> None:
        if self._begun:
            await self._transport.send_more(b" ", last=False)
        else:
            self._begun = True
            headers = {"content-type": "application/json"} | _head_of(self._reader, self._dialect)
            await self._transport.send(Reply(200, headers, b" ", last=False))


def _stream_headers(request: Request, dialect: Dialect) -> dict[str, str]:
    return {
        "content-type": dialect.stream_type(request),
        "cache-control": "no-cache",
        "x-accel-buffering": "no",  # nginx and its kin hold events back without it
    }
