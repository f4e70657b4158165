"""One part of a streamed answer, as the blocks that it is on the wire: perhaps none, perhaps several."""

from __future__ import annotations

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.response import ResponsePart
from .._documents import decode_json, encode_json, encode_text, merged
from .blocks import CITATIONS
from .names import NAME
from .reasoning import REDACTED, render_reasoning, signature_of, told_signature
from .tools import render_call

__all__ = ["BlockWriter", "writer_of"]


def writer_of(part: ResponsePart, number: int, *, same_dialect: bool) -> BlockWriter:
    """The writer of a part whose first block has this number."""
    match part:
        case ToolCall():
            return _CallWriter(number, same_dialect=same_dialect)
        case Reasoning():
            return _ThinkingWriter(number, same_dialect=same_dialect)
        case Text() | RefusalText():
            return _TextWriter(number, same_dialect=same_dialect)
        case _:
            return _OpaqueWriter(number, same_dialect=same_dialect)


class BlockWriter:
    """What all have in common: a block is open or not, and its deltas stand between two constant pieces."""

    delta_type = ""
    field = ""

    def __init__(self, number: int, *, same_dialect: bool) -> None:
        self.number: int = number
        """That of the open block, or of the next one."""
        self._own = same_dialect
        self._frame: bytes | None = None

    def start(self, part: ResponsePart) -> bytes:
        """The part begins."""
        raise NotImplementedError

    def text(self, text: str) -> bytes:
        """More of it."""
        frame = self._frame
        if frame is None:
            return self._first(text) if text else b""
        return frame + encode_text(text) + b"}}\n\n" if text else b""

    def blob(self, blob: Blob) -> bytes:
        """An opaque piece of it."""
        return b""

    def end(self) -> bytes:
        """It is whole."""
        return self._close() if self._frame is not None else b""

    def _first(self, text: str) -> bytes:
        return b""

    def _open(self, block: Json) -> bytes:
        self._frame = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
            % (self.number)
            + f'"{self.delta_type}","{self.field}":'.encode()
        )
        document = {"type": "content_block_start", "index": self.number, "content_block": block}
        return b"event: content_block_start\ndata: " + encode_json(document) + b"\n\n"

    def _delta(self, delta: Json) -> bytes:
        document = {"type": "content_block_delta", "index": self.number, "delta": delta}
        return b"event: content_block_delta\ndata: " + encode_json(document) + b"\n\n"

    def _close(self) -> bytes:
        self._frame = None
        self.number += 1
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % (
            self.number - 1
        )


class _TextWriter(BlockWriter):
    delta_type, field = "text_delta", "text"

    def start(self, part: ResponsePart) -> bytes:
        extra = dict(part.extra or {}) if self._own and not isinstance(part, Opaque) else {}
        self._citations = extra.pop(CITATIONS, None) or []
        self._block: dict[str, Json] = {"type": "text", "text": "", **extra}
        return self.text(part.text) if isinstance(part, Text | RefusalText) else b""

    def blob(self, blob: Blob) -> bytes:
        if blob.dialect != NAME or blob.kind != CITATIONS:
            return b""
        citation = decode_json(blob.data)
        if self._frame is None:
            self._citations = [*self._citations, citation]
            return b""
        return self._cite(citation)

    def _first(self, text: str) -> bytes:
        if self._citations:
            self._block[CITATIONS] = []
        data = self._open(self._block)
        return data + b"".join(map(self._cite, self._citations)) + self.text(text)

    def _cite(self, citation: Json) -> bytes:
        return self._delta({"type": "citations_delta", "citation": citation})


class _ThinkingWriter(BlockWriter):
    delta_type, field = "thinking_delta", "thinking"

    def start(self, part: ResponsePart) -> bytes:
        self._extra: dict[str, Json] = {}
        self._blobs: tuple[Blob, ...] = ()
        if not isinstance(part, Reasoning):
            return b""
        self._extra = dict(part.extra or {}) if self._own else {}
        self._blobs = part.blobs
        return self.text(part.text)

    def blob(self, blob: Blob) -> bytes:
        self._blobs = (*self._blobs, blob)
        return b""

    def end(self) -> bytes:
        blobs, data = self._blobs, b""
        if self._frame is None and signature_of(blobs):
            data = self._first("")
        if self._frame is not None:
            self._extra = {}
            data += self._delta({"type": "signature_delta", "signature": told_signature(blobs)})
            data += self._close()
            blobs = tuple(blob for blob in blobs if blob.dialect == NAME and blob.kind == REDACTED)
        for block in render_reasoning(
            Reasoning("", blobs, self._extra), same_dialect=True, signed_only=False
        ):
            data += self._open(block) + self._close()
        return data

    def _first(self, text: str) -> bytes:
        block = merged({"type": "thinking", "thinking": "", "signature": ""}, self._extra)
        return self._open(block) + self.text(text)


class _CallWriter(BlockWriter):
    """Arguments that do not begin as an object are held, for the wire has no other input (see `tools`)."""

    delta_type, field = "input_json_delta", "partial_json"

    def start(self, part: ResponsePart) -> bytes:
        if not isinstance(part, ToolCall):
            return b""
        self._call = part
        self._held: list[str] | None = []
        block = render_call(msgspec.structs.replace(part, arguments="", kind="json"), same_dialect=self._own)
        return self._open(block) + self.text(part.arguments)

    def text(self, text: str) -> bytes:
        if self._held is None:
            return super().text(text)
        self._held.append(text)
        if self._call.kind == "text" or not text.strip():
            return b""
        whole = "".join(self._held)
        if not whole.lstrip().startswith("{"):
            return b""
        self._held = None
        return super().text(whole)

    def end(self) -> bytes:
        data = b""
        if self._held is not None:
            whole = msgspec.structs.replace(self._call, arguments="".join(self._held))
            data = super().text(encode_json(render_call(whole, same_dialect=False)["input"]).decode())
        return data + self._close()


class _OpaqueWriter(BlockWriter):
    """A block that is not known. A provider's own call (`server_tool_use`, `mcp_tool_use`) has its input in a delta:
    clients read it nowhere else."""

    delta_type, field = "input_json_delta", "partial_json"

    def start(self, part: ResponsePart) -> bytes:
        if not (isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.raw, dict)):
            return b""
        given = part.raw.get("input")
        if not (str(part.raw.get("type")).endswith("_tool_use") and isinstance(given, dict)):
            return self._open(part.raw) + self._close()
        begun = self._open({**part.raw, "input": {}})
        return begun + self.text(encode_json(given).decode()) + self._close()
