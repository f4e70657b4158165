"""Responses over a websocket: one connection, many model calls.

Spoken by Codex (measured: 0.169.0) and by OpenAI's SDKs (`responses.connect()`). The agent sends `response.create`
frames; what comes back are the events of the stream, one a text frame.

Rules:

1. A frame that cannot be read is answered by an error frame, and the socket stays usable. Without its `status` Codex
   leaves an error frame unread.
2. Responses without a `stream_id` come one at a time: a second `response.create` while one runs is an error. Each
   `stream_id` is a lane of its own: its frames wait for one another, those of other lanes do not, and its events say
   whose they are.
3. A warm-up (`generate` is false) is no model call: it is answered here, and remembered for as long as the socket is
   open. Everything else that an agent can go on from is a turn of the rollout.
4. Frames of types that nobody knows are left unread: protocols grow.
5. The socket ends with its rollout: what waits is refused first, then it is closed with 1001.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.events import ResponseEnd, ResponseStart
from .._canonical.fold import events_of
from .._canonical.request import Request
from .._canonical.response import Response, Usage
from .._canonical.tokens import estimate_input_tokens
from .._rollout.log import Entry, EventReader, Relayed
from .._rollout.outcome import Answered
from .._rollout.rollout import Rollout
from ..dialects import dialect as dialect_named
from ..dialects.base import Failure
from ..dialects.openai_responses import Documents, WireEvent, is_warm_up, render_ws_error
from ..errors import DialectError, Refusal
from .answer import failure_of, failure_of_outcome, follow
from .documents import read_json
from .intake import Head, redacted, whole_request

__all__ = ["serve_websocket"]

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

CREATE = "response.create"
MAX_WAITING = 64
"""Frames that one socket may have waiting; each is a whole request."""
MAX_WARM = 16
"""Warm-ups that one socket may go on from; Codex sends one."""
CLOSE_WITHIN = 5.0
"""Seconds for the close frame of an agent that does not read."""
GOING_AWAY = 1001
RESPONSES = dialect_named("openai_responses")

log = logging.getLogger("triocept.endpoint")


async def serve_websocket(head: Head, rollout: Rollout, receive: Receive, send: Send, max_body: int) -> None:
    """Speak Responses on an ASGI websocket, until the agent hangs up or the rollout ends.

    Cancellation: the exchanges that run are abandoned.
    """
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    socket = _Socket(head, rollout, receive, send, max_body)
    if not await socket.run():
        with trio.move_on_after(CLOSE_WITHIN):
            await send({"type": "websocket.close", "code": GOING_AWAY, "reason": "the rollout has ended"})


class _Socket:
    """One connection."""

    def __init__(self, head: Head, rollout: Rollout, receive: Receive, send: Send, max_body: int) -> None:
        self._head = head
        self._rollout = rollout
        self._receive = receive
        self._send_message = send
        self._max_body = max_body
        self._lanes: dict[str | None, deque[Json]] = {}
        self._warm: dict[str, Request] = {}
        self._gone = False

    async def run(self) -> bool:
        """Read frames and answer them. Whether the agent has hung up; else the rollout has ended."""
        async with trio.open_nursery() as answers:
            await self._read(answers)
            if self._gone:
                answers.cancel_scope.cancel()
        return self._gone

    async def _read(self, answers: trio.Nursery) -> None:
        async with trio.open_nursery() as nursery:

            async def end_with_rollout() -> None:
                await self._rollout._closing.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_with_rollout)
            while (message := await self._receive())["type"] != "websocket.disconnect":
                await self._take(message, answers)
            self._gone = True
            nursery.cancel_scope.cancel()

    async def _take(self, message: Message, answers: trio.Nursery) -> None:
        """One frame: put a call into its lane."""
        lane = None
        try:
            document = self._document(message)
            if document.get("type", CREATE) != CREATE:
                return
            lane = _lane_of(document)
            self._check_room(lane)
        except (Refusal, DialectError) as exc:
            await self.fail(failure_of(exc, self._max_body), lane)
            return
        waiting = self._lanes.setdefault(lane, deque())
        waiting.append(document)
        if len(waiting) == 1:
            answers.start_soon(self._work, lane, waiting)

    def _document(self, message: Message) -> dict[str, Json]:
        text = message.get("text")
        if text is None:
            binary = message.get("bytes") is not None
            raise Refusal(
                400 if binary else 413,
                "a frame is JSON text here, not binary"
                if binary
                else f"the frame is over {self._max_body} bytes",
                should_retry=False,
            )
        document = read_json(text, "the frame")
        if not isinstance(document, dict):
            raise DialectError("must be an object, the document of a `response.create`")
        return document

    def _check_room(self, lane: str | None) -> None:
        if lane is None and lane in self._lanes:
            raise Refusal(
                400,
                "a response is being given on this socket: wait for its end, or name lanes with `stream_id`",
                should_retry=False,
                code="response_in_progress",
            )
        if sum(map(len, self._lanes.values())) >= MAX_WAITING:
            raise Refusal(429, f"{MAX_WAITING} responses are waiting on this socket", retry_after=1)

    async def _work(self, lane: str | None, waiting: deque[Json]) -> None:
        """Answer what waits in a lane, one after the other."""
        while waiting:
            await self._answer(waiting[0], lane)
            waiting.popleft()
        del self._lanes[lane]

    async def _answer(self, document: Json, lane: str | None) -> None:
        try:
            request = self._request(document)
        except (Refusal, DialectError) as exc:
            await self.fail(failure_of(exc, self._max_body), lane)
            return
        out = _Answer(self, request, lane)
        if is_warm_up(request):
            await self._warm_up(request, out)
            return
        with out.scope:
            await self._rollout._answer_call(
                request, out, raw=document, headers=redacted(self._head.headers), query=self._head.query
            )

    def _request(self, document: Json) -> Request:
        """The request whole: with the conversation that it goes on from."""
        request = RESPONSES.parse_request(document, memory=self._rollout._memory)
        request = msgspec.structs.replace(request, stream=True)  # implicit here
        warm = self._warm.get(request.previous_response or "")
        if warm is not None:
            return RESPONSES.continued(request, warm, Response(()))
        return whole_request(request, RESPONSES, self._rollout)

    async def _warm_up(self, request: Request, out: _Answer) -> None:
        usage = Usage(input_tokens=estimate_input_tokens(request), output_tokens=0, estimated=True)
        await out.write(ResponseStart(model=request.model))
        self._warm[out.response_id] = request
        if len(self._warm) > MAX_WARM:
            del self._warm[next(iter(self._warm))]
        await out.write(ResponseEnd("end", usage=usage))

    async def fail(self, failure: Failure, lane: str | None) -> None:
        """Send an error frame."""
        log.warning("websocket %s: %s %s", self._head.path, failure.status, failure.message)
        await self.send(msgspec.json.encode(render_ws_error(failure)), lane)

    async def send(self, document: bytes, lane: str | None) -> None:
        """Send a frame: an event or an error, with its lane's name where it has one."""
        if lane is not None:
            document = document[:-1] + b',"stream_id":' + msgspec.json.encode(lane) + b"}"
        await self._send_message({"type": "websocket.send", "text": document.decode()})


class _Answer:
    """One response on its way; a `Sink` and a `Caller`."""

    def __init__(self, socket: _Socket, request: Request, lane: str | None) -> None:
        self._socket = socket
        self._documents = Documents(request)
        self._lane = lane
        self.scope = trio.CancelScope()

    @property
    def response_id(self) -> str:
        """The id that the agent was told."""
        return self._documents.response_id

    def when_gone(self, callback: Callable[[], None]) -> None:
        """A hang-up cancels all of a socket's answers at once."""

    def interrupt(self) -> None:
        self.scope.cancel()

    async def deliver(self, reader: EventReader) -> None:
        await follow(reader, self)
        outcome = reader.outcome
        if not isinstance(outcome, Answered):
            await self._socket.fail(failure_of_outcome(outcome), self._lane)
        elif not reader.at:  # it was given whole
            for event in events_of(outcome.response):
                await self.write(event)
        reader.delivered = True

    async def write(self, entry: Entry) -> None:
        for event in entry.events if isinstance(entry, Relayed) else (entry,):
            await self._send(self._documents.render(event))

    async def break_silence(self, response_id: str) -> None:
        await self._send(self._documents.keepalive(response_id))

    async def _send(self, events: list[WireEvent]) -> None:
        for event in events:
            await self._socket.send(event.data, self._lane)


def _lane_of(document: dict[str, Json]) -> str | None:
    lane = document.pop("stream_id", None)
    if lane is not None and not isinstance(lane, str):
        raise DialectError("must be a string", path="stream_id")
    return lane
