"""One part of a streamed answer, as the wire parts that it is: perhaps none, perhaps many."""

from __future__ import annotations

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.response import ResponsePart
from .._documents import encode_json, encode_text
from .parts import render_part, render_reasoning
from .tools import render_call, with_id

__all__ = ["PartWriter", "writer_of"]


def writer_of(part: ResponsePart, *, same_dialect: bool) -> PartWriter:
    """The writer of a part that begins."""
    match part:
        case ToolCall():
            return _CallWriter(part, same_dialect=same_dialect)
        case Reasoning():
            return _ThoughtWriter(part, same_dialect=same_dialect)
        case Text() | RefusalText():
            return _TextWriter(part, same_dialect=same_dialect)
        case _:
            return _OpaqueWriter(part, same_dialect=same_dialect)


class PartWriter:
    """What all have in common: each method gives the wire parts of one chunk, comma-separated; empty: no chunk."""

    def __init__(self, part: ResponsePart, *, same_dialect: bool) -> None:
        self._part = part
        self._own = same_dialect
        self._held: list[str] = []

    def start(self) -> bytes:
        """The part begins."""
        return b""

    def text(self, text: str) -> bytes:
        """More of it."""
        self._held.append(text)
        return b""

    def blob(self, blob: Blob) -> bytes:
        """An opaque piece of it."""
        return b""

    def end(self) -> bytes:
        """It is whole."""
        return b""


class _TextWriter(PartWriter):
    """Text with something beside is held: it stands alone on the wire, in one part."""

    def start(self) -> bytes:
        part = self._part
        if not isinstance(part, Text | RefusalText):
            return b""
        self._extra = part.extra if self._own else None
        return self.text(part.text)

    def text(self, text: str) -> bytes:
        if self._extra:
            return super().text(text)
        return b'{"text":' + encode_text(text) + b"}" if text else b""

    def end(self) -> bytes:
        if not self._extra:
            return b""
        document = render_part(Text("".join(self._held), self._extra), same_dialect=True)
        return encode_json(document)


class _ThoughtWriter(PartWriter):
    """A thought whose signature is known from the start is held: the wire has both in one part."""

    def start(self) -> bytes:
        part = self._part
        if not isinstance(part, Reasoning):
            return b""
        self._extra = part.extra if self._own else None
        self._blobs = part.blobs
        self._whole = bool(self._extra or part.blobs)
        return self.text(part.text)

    def text(self, text: str) -> bytes:
        if self._whole:
            return super().text(text)
        return b'{"text":' + encode_text(text) + b',"thought":true}' if text else b""

    def blob(self, blob: Blob) -> bytes:
        self._blobs = (*self._blobs, blob)
        return b""

    def end(self) -> bytes:
        whole = Reasoning("".join(self._held), self._blobs, self._extra)
        return b",".join(
            encode_json(document) for document in render_reasoning(whole, same_dialect=self._own, answer=True)
        )


class _CallWriter(PartWriter):
    def end(self) -> bytes:
        call = self._part
        if not isinstance(call, ToolCall):
            return b""
        whole = msgspec.structs.replace(call, arguments=call.arguments + "".join(self._held))
        return encode_json(render_call(with_id(whole), same_dialect=self._own))


class _OpaqueWriter(PartWriter):
    def start(self) -> bytes:
        document: Json = (
            render_part(self._part, same_dialect=self._own) if isinstance(self._part, Opaque) else None
        )
        return b"" if document is None else encode_json(document)
