"""Streamed answers of Responses, written as server-sent events: each with its name and its data's `type`."""

from __future__ import annotations

from collections.abc import Iterable

from ..._canonical.events import Event
from ..._canonical.request import Request
from ..._sse import encode_sse
from .._failures import Failure
from ..streams import StreamRenderer
from .stream_documents import Documents
from .stream_items import WireEvent

__all__ = ["Renderer"]


class Renderer(StreamRenderer):
    """Writes one streamed answer to `request`."""

    def __init__(self, request: Request) -> None:
        self._documents = Documents(request)

    @property
    def response_id(self) -> str:
        """The id that the agent was told; empty before the first event."""
        return self._documents.response_id

    def render(self, event: Event) -> bytes:
        return _framed(self._documents.render(event))

    def fail(self, failure: Failure) -> bytes:
        return _framed(self._documents.fail(failure))

    def keepalive(self, response_id: str = "") -> bytes:
        return _framed(self._documents.keepalive(response_id))


def _framed(events: Iterable[WireEvent]) -> bytes:
    return b"".join(encode_sse(event.data, event.type) for event in events)
