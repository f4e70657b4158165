"""Input parsers of a connection, in all sizes: heads, frames, and bodies that are compressed."""

import gzip
import zlib
from contextlib import suppress
from functools import partial

import h11
import trio
import zstandard
from wsproto.connection import Connection, ConnectionType
from wsproto.frame_protocol import FrameProtocol, Opcode

from tests.growth.measured import Make, Work
from triocept import EndpointLimits, Refusal
from triocept._server.encoding import decoded
from triocept._server.http1 import _Parser, _Received
from triocept._server.intake import Routes
from triocept._util.sse import encode_sse
from triocept.dialects import DIALECTS

NO_BOUNDS = EndpointLimits(head_bytes=1 << 40, head_lines=1 << 40)
START = b"POST /v1/responses HTTP/1.1\r\nhost: a\r\n"


def heads(pieces: list[bytes]) -> Work:
    """Requests, by the parser of HTTP/1.1."""

    def work() -> None:
        parser = _Parser(NO_BOUNDS)
        for piece in pieces:
            parser.receive_data(piece)
            while isinstance(event := parser.next_event(), h11.Request | h11.Data):
                assert event

    return work


def unpacked(body: bytes, cap: int = 1 << 40, *, encoding: str = "gzip") -> Work:
    def work() -> None:
        with suppress(Refusal):
            trio.run(decoded, body, encoding, cap)

    return work


def numbered(n: int) -> bytes:
    return b",".join(b"%d" % (k * 7919) for k in range(n))


def frames_of(data: bytes, n: int) -> bytes:
    """As many frames of zstd, each with these bytes."""
    return zstandard.ZstdCompressor().compress(data) * n


def buffered(heads: bytes) -> Work:
    """Heads that came at once, cut one behind the other."""

    def work() -> None:
        buffer = _Received(1 << 40)
        buffer += heads
        while buffer.maybe_extract_lines() is not None:
            pass

    return work


def frames(kind: Opcode, n: int, *, whole: bool) -> bytes:
    """Frames of a client, n of them: each a message, or all together one."""
    writer = FrameProtocol(client=True, extensions=[])
    if kind is Opcode.PING:
        return bytes(writer.ping(b"x")) * n
    if whole:
        return bytes(writer.send_data(b"x", fin=True)) * n
    return b"".join([bytes(writer.send_data(b"x", fin=number == n - 1)) for number in range(n)])


def framed(pieces: list[bytes]) -> Work:
    """The frames of a websocket, read."""

    def work() -> None:
        connection = Connection(ConnectionType.SERVER)
        for piece in pieces:
            connection.receive_data(piece)
            for _ in connection.events():
                pass

    return work


def bytes_of(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


CONNECTIONS: dict[str, Make] = {
    "lines of a head": lambda n: heads([START + b"a: b\r\n" * n + b"\r\n"]),
    "lines of a head, one by one": lambda n: heads([START, *[b"a: b\r\n"] * n, b"\r\n"]),
    "a head in single bytes": lambda n: heads(bytes_of(START + b"a: " + b"b" * n + b"\r\n\r\n")),
    "chunks of a body": lambda n: heads(
        [START + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * n + b"0\r\n\r\n"]
    ),
    "pieces of a body": lambda n: heads([START + b"content-length: %d\r\n\r\n" % n, *[b"x"] * n]),
    "messages of a websocket": lambda n: framed([frames(Opcode.BINARY, n, whole=True)]),
    "pieces of one message": lambda n: framed([frames(Opcode.BINARY, n, whole=False)]),
    "a frame in single bytes": lambda n: framed(bytes_of(frames(Opcode.BINARY, n, whole=True))),
    "pings of a websocket": lambda n: framed([frames(Opcode.PING, n, whole=True)]),
    "heads, one behind the other": lambda n: buffered((START + b"\r\n") * n),
    "a body of gzip": lambda n: unpacked(gzip.compress(numbered(n), 1)),
    "a body of deflate": lambda n: unpacked(zlib.compress(numbered(n), 1), encoding="deflate"),
    "a body of zstd": lambda n: unpacked(frames_of(numbered(n), 1), encoding="zstd"),
    "members of gzip": lambda n: unpacked(gzip.compress(b"x", 1) * n),
    "frames of zstd": lambda n: unpacked(frames_of(b"x", n), encoding="zstd"),
    "empty frames of zstd": lambda n: unpacked(frames_of(b"", n), encoding="zstd"),
    "skippable frames of zstd": lambda n: unpacked(
        (b"\x50\x2a\x4d\x18" + bytes(4)) * n + frames_of(b"x", 1), encoding="zstd"
    ),
    "a bomb of gzip": lambda n: unpacked(gzip.compress(bytes(100 * n), 1), cap=1 << 18),
    "a bomb of deflate": lambda n: unpacked(zlib.compress(bytes(100 * n)), cap=1 << 18, encoding="deflate"),
    "a bomb of zstd": lambda n: unpacked(frames_of(bytes(100 * n), 1), cap=1 << 18, encoding="zstd"),
    "a path": lambda n: partial(Routes(DIALECTS.values()).match, "/v1" + "/models/x" * n, "a=b&" * n),
    "lines of an event that is written": lambda n: partial(encode_sse, "x\r\n" * n, "e"),
}

STEADY_CONNECTIONS: dict[str, Make] = {
    "chunks of a body, one by one": lambda n: heads(
        [START + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * n]
    ),
    "messages of a websocket, one by one": lambda n: framed([frames(Opcode.BINARY, 1, whole=True)] * n),
}
"""What takes as much memory for n as for 2n."""
