"""What one endpoint puts up with: the bounds that keep a stranger, or a broken agent, from hurting anybody else."""

from __future__ import annotations

import msgspec

from .checks import NamesItself, check_count, check_number

KIB = 1024
MIB = 1024 * KIB


class EndpointLimits(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """The bounds of one endpoint: `serve_endpoint(limits=EndpointLimits(connections=2_000))`.

    What is over one of them gets its status (408, 413, 431, 503) where a status can still be sent, and touches no
    other exchange; the log has one line a minute of each kind. The size of a request body is `max_body` of
    `serve_endpoint`.

    Raises:
        TypeError: a bound is no number, or None where that says nothing.
        ValueError: it is less than 0, infinite or NaN.
    """

    connections: int | None = None
    """Open at once. None: three quarters of the descriptors that the process may open. Over it the connection goes
    that has been here longest without ever having shown a key; where there is none, the new one is told 503. Of those
    without a key there are 8,192 at most, and 8 MiB of what they have sent, heads and bodies without an end. They
    are read a few at a time, beginners first, and served one at a time: a request with a key waits for no crowd."""
    head_bytes: int = 256 * KIB
    """Of a request's head. Some agents send long headers: hypercorn's own bound is 16 KiB. Over it: 431."""
    head_lines: int = 256
    """Of a request's head, and behind a chunked body: a header of 6 bytes takes 300 of memory once it is parsed. Over
    it: 431. (Python's http.client allows 100, as Apache does; node allows 2,000.)"""
    head_seconds: float = 30.0
    """From the first byte of a head to its last. Over it: 408. For a TLS handshake, too; that is closed, as there is no
    way yet to say anything."""
    keyless_seconds: float = 60.0
    """That a connection may live without a request that has shown a key of this endpoint, or after the end of the
    rollout whose key it has shown. Over it: it is closed, with 408 in the middle of a request."""
    body_seconds: float = 60.0
    """Without a further byte of a request's body. Over it: 408. The end of its rollout ends it, too."""
    waiting_bytes: int = 1024 * MIB
    """Of the bodies and websocket messages that were received, be they whole or not, and are not parsed yet, over all
    connections that have shown a key. No rollout has more than half of it; but its first body always has room. Over it:
    503."""
    decoded_bytes: int = 32 * MIB
    """Of a compressed body (`Content-Encoding`), decoded. Over it: 413."""
    document_items: int = 1_000_000
    """Values in one JSON document: each takes some 50 to 100 bytes of memory, though it may be 2 in the body. Over it:
    413."""
    answer_bytes: int = 256 * MIB
    """Of one streamed answer, as it is kept until it is delivered, and of the tool calls in it that wait for its end:
    text, blobs and opaque parts, and 200 for each event. Over it the answer fails with 502, in mid-stream by its
    dialect's own error and a broken connection."""
    websocket_backlog: int = 16 * MIB
    """Bytes of messages that may wait on one websocket behind the call that is being answered. Over it nothing more is
    read of that socket until there is room; nor is a hang-up seen that comes behind what was not read."""
    reader_seconds: float = 300.0
    """In which a client takes not a byte of what is being sent to it. Over it: its connection is broken off, as by a
    hang-up."""
    upstream_seconds: float | None = 3600.0
    """For one whole answer of an upstream that has no `timeout` of its own. None: for ever. Over it: 504."""
    upstream_idle_seconds: float | None = 600.0
    """Without an event of the answer of an upstream that has no `read_timeout` of its own; comments and pings count
    for nothing. None: for ever. Over it: 504, or a broken stream."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value, place = getattr(self, name), f"EndpointLimits.{name}"
            if value is None and name in _OPTIONAL:
                continue
            if name.endswith("_seconds"):
                check_number(place, value, hint="None is for ever" if name in _OPTIONAL else "")
            else:
                check_count(place, value)


_OPTIONAL = frozenset({"connections", "upstream_seconds", "upstream_idle_seconds"})
