"""A transport that records the HTTP traffic of a model call.

Bytes that a delivery has rendered in advance are recorded before they are written. The recording then ends, so that
these bytes are not recorded again when they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .._rollout.answer import Condition
from .._trace.raw import RawResponse
from .._trace.wire import WireLog
from .admission import Share
from .transport import Head, Reply, Transport

_KEY = re.compile(r"(?<=[?&]key=)[^&]*")  # Gemini's clients may put the key there


def shown_url(head: Head, key: str, instead: str) -> str:
    """Return the path and query of a request. Replace the rollout's `key`, and any value of `key=`, by `instead`."""
    url = f"{head.path}?{head.query}" if head.query else head.path
    return _KEY.sub(instead, url.replace(key, instead))


class TappedTransport(Transport):
    """A transport that passes everything to another transport, and records the traffic of the call in `wire`."""

    def __init__(self, transport: Transport, wire: WireLog) -> None:
        self._transport = transport
        self.wire = wire

    async def receive_body(self, cap: int, share: Share) -> bytes:
        self.wire.body = await self._transport.receive_body(cap, share)
        return self.wire.body

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._transport.on_gone(callback)

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.wire.start(status, headers)
        self._transport.start(status, headers)

    def write(self, data: bytes, *, last: bool = False) -> bool:
        self.wire.take([data])
        return self._transport.write(data, last=last)

    def respond(self, reply: Reply) -> bool:
        self.wire.start(reply.status, reply.headers)
        self.wire.take([reply.body])
        return self._transport.respond(reply)

    @property
    def full(self) -> bool:
        return self._transport.full

    async def wait(self, news: Condition, until: float) -> None:
        await self._transport.wait(news, until)

    async def flush(self) -> None:
        await self._transport.flush()

    def check_raw(self, raw: RawResponse) -> None:
        self._transport.check_raw(raw)

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        if begins and raw.status is not None:
            self.wire.start(raw.status, raw.headers)
        self.wire.take(data for _, data in raw.pieces)
        await self._transport.send_raw(raw, begins=begins, ends=ends)

    async def abort(self) -> None:
        await self._transport.abort()
