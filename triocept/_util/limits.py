"""Resource limits of one endpoint, which protect its agents from unauthenticated clients and broken agents."""

from __future__ import annotations

import msgspec
import trio

from .checks import NamesItself, check_count, check_number

KIB = 1024
MIB = 1024 * KIB
MOMENT = 0.25
"""Seconds after a time limit during which calls may still end, and received bytes are still read."""
MOMENT_TURNS = 10
"""Minimum iterations of the event loop after a time limit. These are enough to read a socket and parse a request's
head."""


async def pass_moment() -> None:
    """Let the event loop handle the events that arrived while it was blocked.

    Call this function before a time limit ends a call or a connection: the awaited bytes may already have arrived.
    """
    await wait_turns(MOMENT_TURNS)
    await trio.sleep(MOMENT)


async def wait_turns(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


class EndpointLimits(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """Resource limits of one endpoint: `serve_endpoint(limits=EndpointLimits(connections=2_000))`.

    A request that exceeds a limit gets the limit's status (408, 413, 431, 503) if a status can still be sent. A request
    that exceeds a limit affects no other exchange. At most one line a minute is logged for each limit. The size of a
    request body is limited by `max_body` of `serve_endpoint`.

    Raises:
        TypeError: a limit is not a number, or is None although its description does not mention None.
        ValueError: a limit is less than 0, infinite or NaN.
    """

    connections: int | None = None
    """Maximum open connections. None means three quarters of the descriptors that the process may open.

    When exceeded: the oldest unauthenticated connection is closed. If all are authenticated, the new connection gets
    503. Further limits apply to unauthenticated connections: 8,192 connections, and 8 MiB of unfinished heads and
    bodies. Bytes are read from a few unauthenticated connections at a time, from new connections first. Requests
    without a key are served one at a time, so that they do not delay a request with a key. New connections are accepted
    many at a time, so a flood of new connections hardly delays an agent's connection."""
    head_bytes: int = 256 * KIB
    """Maximum bytes of a request's head. When exceeded: 431. Some agents send long headers: hypercorn's own limit is
    16 KiB."""
    head_lines: int = 256
    """Maximum lines of a request's head, and of the trailers of a chunked body. When exceeded: 431.

    A header of 6 bytes takes 300 bytes of memory once it is parsed. (Python's http.client and Apache allow 100 lines,
    node 2,000.)
    """
    head_seconds: float = 30.0
    """Maximum seconds from the first byte of a request's head to its last. When exceeded: 408. The limit also applies
    to a TLS handshake. When a handshake exceeds it: the connection is closed, because no status can be sent yet."""
    keyless_seconds: float = 60.0
    """Maximum seconds that a connection may stay open before it authenticates, or after the rollout of its key has
    ended. When exceeded: the connection is closed; a request that has begun gets 408."""
    body_seconds: float = 60.0
    """Maximum seconds without a further byte of a request's body. When exceeded: 408. The wait also ends when the
    rollout ends."""
    waiting_bytes: int = 1024 * MIB
    """Maximum bytes of received and unparsed bodies and websocket messages, whole or partial, over all authenticated
    connections. When exceeded: 503.

    One rollout may use at most half of this memory, but its first body is always accepted.
    """
    decoded_bytes: int = 32 * MIB
    """Maximum decoded bytes of a compressed body (`Content-Encoding`). When exceeded: 413."""
    document_items: int = 1_000_000
    """Maximum values in one JSON document. When exceeded: 413. A value takes 50 to 100 bytes of memory, although it can
    have as few as 2 bytes in the body."""
    answer_bytes: int = 256 * MIB
    """Maximum bytes of one streamed answer that wait in memory until they are sent. Tool calls that are held back until
    the end of the answer count, too.

    Each event counts as 200 bytes, plus the bytes of its text, blob or opaque part. When exceeded: the answer fails
    with 502. If the answer's stream has begun, the dialect's error event is sent, and the connection is broken off.
    """
    websocket_backlog: int = 16 * MIB
    """Maximum bytes of messages that wait on one websocket during a call. When exceeded: no more is read from the
    websocket until some of these messages were processed. Until then, a disconnect is not noticed."""
    reader_seconds: float = 300.0
    """Maximum seconds for which a client may read no byte of its answer. When exceeded: the connection is aborted,
    which counts as a disconnect of the agent."""
    upstream_seconds: float | None = 3600.0
    """Maximum seconds for one whole call of an upstream that has no `total_timeout`. None means no limit. When
    exceeded: 504."""
    upstream_idle_seconds: float | None = 600.0
    """Maximum seconds without an event from an upstream that has no `read_timeout`. Comments and pings do not count as
    events. None means no limit. When exceeded: 504; a stream that has begun breaks."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value, place = getattr(self, name), f"EndpointLimits.{name}"
            if value is None and name in _OPTIONAL:
                continue
            if name.endswith("_seconds"):
                check_number(
                    place, value, hint="pass None to wait without a limit" if name in _OPTIONAL else ""
                )
            else:
                check_count(place, value)


_OPTIONAL = frozenset({"connections", "upstream_seconds", "upstream_idle_seconds"})
