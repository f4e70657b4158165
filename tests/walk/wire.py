"""What a call says and what its answer says, in any dialect.

Every call has a nonce, which its answer must echo, and no other one.
"""

import json
import re
import socket
import struct
from typing import Any

import trio
import trio.testing

from tests.asking import PATHS, STREAM_PATHS, document
from triocept.dialects import DIALECTS
from triocept.types import assemble

from .history import QUIET, SECRET, Call

_EXCHANGE = re.compile(rb" by (x_[0-9a-f]{16})!")
NONCE = re.compile(r"n\d+x\d+z")
KEY = {"anthropic_messages": "x-api-key", "gemini": "x-goog-api-key"}


class Broken(Exception):
    """The connection ended before the answer did."""


BROKEN = (Broken, OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


async def turns(count: int) -> None:
    """Let so many turns of the event loop pass; or wait until every task waits, or for a moment."""
    if count == QUIET:
        with trio.move_on_after(0.5):  # one that is slow for a while is no reason to wait for long
            await trio.testing.wait_all_tasks_blocked()
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def nonce_in(text: str) -> str:
    found = NONCE.search(text)
    return found[0] if found else ""


def nonces_in(data: bytes) -> set[str]:
    return set(NONCE.findall(data.decode("utf-8", "replace")))


def exchange_in(data: bytes) -> str:
    """The id of the exchange that an answer names."""
    found = _EXCHANGE.search(data)
    return found[1].decode() if found else ""


def ask_of(
    step: Call, nonce: str, rollout_id: str, key: str, attempt: int
) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of a request."""
    path = (STREAM_PATHS if step.stream else PATHS)[step.dialect]
    if step.prefix:
        path = f"/rollout/{rollout_id}{path}"
    secret = f" {SECRET}" if step.secret else ""
    asked: Any = document(step.dialect, f"say {nonce}{secret}", stream=step.stream)
    body = json.dumps(asked).encode()
    if step.depth:  # more than `json` writes
        innermost = json.dumps(SECRET).encode()
        body = body[:-1] + b', "deep": ' + b'{"a": [' * step.depth + innermost + b"]}" * step.depth + b"}"
    match step.bad:
        case "key":
            key = f"sk-triocept-{nonce}"
        case "json":
            body = body[:-2]
        case "document":
            body = json.dumps({"model": 3, "stream": step.stream, "contents": nonce}).encode()
        case "path":
            path = f"/rollout/r_{nonce}{PATHS[step.dialect]}"
    name = KEY.get(step.dialect, "authorization")
    headers = {name: key if name in KEY.values() else f"Bearer {key}", "content-type": "application/json"}
    if attempt:
        headers["x-stainless-retry-count"] = str(attempt)
    return path, headers, body


def answer_of(dialect: str, body: bytes, *, stream: bool) -> str:
    """Return the text of a whole answer; raise if it is none."""
    if not stream:
        return DIALECTS[dialect].parse_response(json.loads(body)).text
    parser = DIALECTS[dialect].stream_parser()
    return assemble(parser.feed(body) + parser.close()).text


def dial(port: int) -> trio.SocketStream:
    """Connect at once: a loopback listener's queue takes it without a wait."""
    sock = socket.socket()
    try:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def hang_up(stream: trio.SocketStream, how: str) -> None:
    """Close a connection at once, or half of it."""
    if stream.socket.fileno() < 0:
        return
    if how == "half":
        try:
            stream.socket.shutdown(trio.socket.SHUT_WR)
        except OSError:
            pass
        return
    if how == "reset":
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
