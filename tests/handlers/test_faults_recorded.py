"""What a turn says was sent raw, and what came over the wire: of every fault, in every dialect, whole and streamed."""

import re
from collections.abc import AsyncIterator

import msgspec
import pytest
import trio

from tests.asking import PATHS, STREAM_PATHS, document, raw_request
from tests.handlers.test_faults_on_the_wire import BOTH, BROKEN, RIGHT
from tests.ways import OWN
from triocept import Exchange, Rollout, serve_endpoint
from triocept.handlers import Fault
from triocept.traces import RawResponse

WAYS = pytest.mark.parametrize(
    ("name", "every_way"),
    [*((name, OWN) for name in PATHS), ("openai_chat", "through ASGI")],
    indirect=["every_way"],
    ids=str,
)
OTHERS = [
    Fault.other_form(),
    Fault.no_done(),
    Fault.no_finish(),
    Fault.no_start(),
    Fault.stall(),
    Fault.stall(2),
    Fault.stalled_head(),
]
FAULTS = [
    fault for fault in (*RIGHT, *BROKEN, *OTHERS) if fault.name != "split_letters"
]  # which takes its time
HEAD = re.compile(rb"HTTP/1\.1 (\d+) [^\r\n]*\r\n(.*?\r\n)?\r\n", re.DOTALL)
OURS = {"date", "connection", "content-length", "transfer-encoding"}
"""Headers that the connection adds, where nobody has said anything else."""


async def wire_of(rollout: Rollout, port: int, name: str, *, stream: bool) -> tuple[bytes, str]:
    """All that comes of one call, and how it ends; where nothing more comes, its client goes."""
    path = (STREAM_PATHS if stream else PATHS)[name]
    body = msgspec.json.encode(document(name, stream=stream))
    data = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        await connection.send_all(raw_request(rollout, body, path=path, more="Connection: close\r\n"))
        try:
            while True:
                with trio.move_on_after(0.02) as waited:
                    piece = await connection.receive_some()
                    data += piece
                    if not piece:
                        return data, "closed"
                raw = rollout.trace[0].raw if len(rollout.trace) else None
                if waited.cancelled_caught and raw is not None and raw.end == "stall":
                    # The turn is recorded before its bytes are sent: wait for the last of them.
                    last = [piece for _, piece in raw.pieces][-1] if raw.size else b""
                    if data.rstrip(b"\r\n").endswith(last.rstrip(b"\r\n")):
                        return data, "stalled"
        except trio.BrokenResourceError:
            return data, "reset"


def body_of(raw: RawResponse, data: bytes) -> bytes:
    """The body of an answer as its client has it, after a look at the head."""
    if raw.status is None or not data:
        return data
    match = HEAD.match(data)
    assert match, data[:200]
    assert int(match[1]) == raw.status
    pairs = [line.partition(b": ") for line in (match[2] or b"").split(b"\r\n")[:-1]]
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, _, value in pairs}
    assert {name: headers.get(name) for name in raw.headers} == raw.headers
    assert headers.keys() - raw.headers.keys() <= OURS
    body = data[match.end() :]
    return dechunked(body) if headers.get("transfer-encoding") == "chunked" else body


def dechunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body, data = body + data[:count], data[count + 2 :]
    return body


def check(raw: RawResponse, data: bytes, ended: str) -> None:
    recorded = b"".join(piece for _, piece in raw.pieces)
    assert len(recorded) == raw.size
    if raw.end == "reset":
        assert ended == "reset"
        assert not data or recorded.startswith(body_of(raw, data))  # who resets throws away what is not read
    else:
        assert ended == ("stalled" if raw.end == "stall" else "closed")
        assert body_of(raw, data) == recorded


@pytest.mark.once
@BOTH
@WAYS
@pytest.mark.usefixtures("every_way")
async def test_what_is_recorded_of_a_fault_is_what_came(name: str, stream: bool) -> None:
    seen = 0
    async with serve_endpoint() as endpoint:
        for fault in FAULTS:
            async with endpoint.open_rollout(fault) as rollout:
                data, ended = await wire_of(rollout, endpoint.port, name, stream=stream)
            raw = rollout.trace[0].raw
            if raw is not None:
                check(raw, data, ended)
                seen += 1
    assert seen > 25


@pytest.mark.once
@BOTH
@WAYS
@pytest.mark.usefixtures("every_way")
async def test_what_is_recorded_of_bytes_that_are_made_on_their_way_is_what_came(
    name: str, stream: bool
) -> None:
    """The bytes of every fault, from a generator."""

    async with serve_endpoint() as endpoint:
        for fault in FAULTS:
            async with endpoint.open_rollout(fault) as rollout:
                await wire_of(rollout, endpoint.port, name, stream=stream)
            given = rollout.trace[0].raw
            if given is None:
                continue

            async def again(exchange: Exchange, given: RawResponse = given) -> None:
                async def pieces() -> AsyncIterator[bytes | float]:
                    for item in given.body:
                        yield item

                await exchange.respond_raw(given.status, given.headers, pieces(), end=given.end)

            async with endpoint.open_rollout(again) as rollout:
                data, ended = await wire_of(rollout, endpoint.port, name, stream=stream)
            raw = rollout.trace[0].raw
            assert raw == given
            check(raw, data, ended)
