"""What clients do to the log: a line, in one line, and no traceback for their coming and going."""

import logging
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import pytest
import trio
import trio.testing
import trustme

from tests.asking import connected, echo, raw_request, read_answer, read_to_end
from triocept import EndpointLimits, Rollout, serve_endpoint
from triocept._server.connection import Connection
from triocept._server.notices import Notices

pytestmark = pytest.mark.usefixtures("every_way")

HALF_HEADS = {
    "nothing": b"",
    "a model call": b"POST /v1/messages HTTP/1.1\r\nHo",
    "another route": b"GET /health HTTP/1.1\r\nHo",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r",
}
ways = pytest.mark.parametrize("way", ["reset", "close", "the endpoint ends"])


@pytest.mark.parametrize("start", HALF_HEADS)
@ways
async def test_half_a_head_leaves_no_traceback(
    start: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    await leave(HALF_HEADS[start], way)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def leave(start: bytes, way: str) -> None:
    """Begin five connections, and leave them; or the endpoint leaves first."""
    with trio.fail_after(20):
        async with AsyncExitStack() as streams, serve_endpoint(grace=0.1) as endpoint:
            for _ in range(5):
                stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
                await streams.enter_async_context(stream)
                await stream.send_all(start)
                await trio.testing.wait_all_tasks_blocked(0.01)
                if way == "reset":
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if way != "the endpoint ends":
                    await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_of_lines_of_one_kind_one_a_minute_is_logged_and_the_others_are_counted(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    notices = Notices()
    for _ in range(3):
        notices.warn("full", "no room for %s", "a")
    notices.warn("shed", "closed")
    await trio.sleep(61)
    notices.warn("full", "no room for %s", "b")
    await trio.sleep(61)
    notices.warn("full", "no room for %s", "c")
    assert [record.getMessage() for record in caplog.records] == [
        "no room for a",
        "closed",
        "no room for b (2 similar lines before this line were not logged)",
        "no room for c",
    ]


@pytest.mark.parametrize("seconds", [0.3, 300])
async def test_errors_that_nobody_reads_leave_no_traceback(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    refused = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    async with serve_endpoint(limits=EndpointLimits(reader_seconds=seconds)) as endpoint:
        async with connected(endpoint.port) as stream:
            with trio.move_on_after(2), suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(refused * 1000)
    assert caplog.records
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(("error", "told"), [
    (trio.BrokenResourceError(), False),
    (ExceptionGroup("", [ConnectionResetError(), trio.ClosedResourceError()]), False),
    (ExceptionGroup("", [ConnectionResetError(), ValueError()]), True),
    (ValueError(), True),
], ids=repr)  # fmt: skip
async def test_what_ends_a_connection_is_told_unless_it_is_that_its_client_has_left(
    error: Exception, told: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(connection: Connection) -> None:
        raise error

    monkeypatch.setattr(Connection, "run", fail)
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        assert await read_to_end(stream) == b""
    assert bool(caplog.records) == told


async def test_a_path_of_any_length_makes_a_line_that_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (b"x" * 9_000))
        await read_to_end(stream)
    assert caplog.records
    assert all(len(record.getMessage()) < 1_000 for record in caplog.records)


SHORT = {
    "tools without a key": "POST /mcp HTTP/1.1\r\nContent-Length: 2\r\n",
    "tools, by GET": "GET /mcp HTTP/1.1\r\nAuthorization: Bearer {key}\r\n",
    "both lengths": "POST /v1/none HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    "both lengths of a call": "POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    "a model call without a key": "POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n",
    "another route": "GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {key}\r\n",
}


@pytest.mark.parametrize("request_line", SHORT)
async def test_a_client_that_goes_while_it_is_refused_leaves_no_traceback(
    request_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint(grace=0.1) as endpoint, endpoint.open_rollout(echo) as rollout:
        head = SHORT[request_line].format(key=rollout.api_key) + "Host: a\r\n\r\n"
        for turns in range(40):  # it answers in one of them
            async with connected(endpoint.port) as stream:
                await stream.send_all(head.encode() + b"{}")
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", ["/v1/a%0aforged%1b[31m", "/v1/messages%0aforged%1b[31m", "/tools/%0a%1b"])
async def test_a_path_forges_no_line_and_steers_no_terminal(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await read_answer(stream)
    assert caplog.records
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_a_hundred_refusals_are_a_line_and_not_a_hundred(caplog: pytest.LogCaptureFixture) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        data = raw_request(rollout, b"{}").replace(rollout.api_key.encode(), b"wrong")
        for _ in range(100):
            async with connected(endpoint.port) as stream:
                await stream.send_all(data)
                assert (await read_answer(stream)).startswith(b"HTTP/1.1 401")
    assert len(caplog.records) == 1


async def test_tls_that_is_half_begun_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with serve_endpoint(tls=context, grace=0.1) as endpoint:
        streams = [await trio.open_tcp_stream("127.0.0.1", endpoint.port) for _ in range(3)]
        await streams[0].send_all(b"\x16\x03\x01")
        await streams[1].send_all(b"\x16\x03\x01\x02\x00\x01")
        await trio.testing.wait_all_tasks_blocked(0.05)
    for stream in streams:
        await stream.aclose()
    assert not [record for record in caplog.records if record.exc_info]


async def test_plain_http_on_a_tls_port_is_told_so() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with serve_endpoint(tls=context) as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await read_to_end(stream)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"https" in answer


def over_head(rollout: Rollout) -> bytes:
    return b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 3_000


def over_lines(rollout: Rollout) -> bytes:
    return b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 60 + b"\r\n"


def late_head(rollout: Rollout) -> bytes:
    return b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n"


def over_body(path: str | None) -> Callable[[Rollout], bytes]:
    return lambda rollout: raw_request(rollout, b'"' + b"x" * 3_000 + b'"', path=path)


def over_waiting(path: str | None) -> Callable[[Rollout], bytes]:
    return lambda rollout: raw_request(rollout, b'"' + b"x" * 1_500 + b'"', path=path)[:-1]


async def test_what_is_wrong_with_the_calls_of_one_rollout_makes_ten_lines_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(echo) as a,
        endpoint.open_rollout(echo) as b,
    ):
        for rollout in (a, b):
            async with connected(endpoint.port) as stream:
                for number in range(15):
                    await stream.send_all(raw_request(rollout, b"{}", path=f"/v1/messages?{number}"))
                    assert (await read_answer(stream)).startswith(b"HTTP/1.1 400")
    assert len(caplog.records) == 20


async def test_kinds_of_lines_are_forgotten_when_their_minute_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    notices = Notices()
    for number in range(5_000):
        notices.warn(f"of rollout {number}", "a line")
        await trio.sleep(1)
    assert len(notices._kinds) <= 1_000


OVER_LIMITS: dict[str, tuple[Callable[[Rollout], bytes], int]] = {
    "a head": (over_head, 431),
    "lines of a head": (over_lines, 431),
    "seconds of a head": (late_head, 408),
    "a body": (over_body(None), 413),
    "a body of another route": (over_body("/v1/messages/count_tokens"), 413),
    "a body of MCP": (over_body("/mcp"), 413),
    "bodies that wait": (over_waiting(None), 503),
    "bodies of another route that wait": (over_waiting("/v1/messages/count_tokens"), 503),
    "bodies of a service that wait": (over_waiting("/tools/add"), 503),
    "bodies of MCP that wait": (over_waiting("/mcp"), 503),
}


@pytest.mark.parametrize("what", OVER_LIMITS)
async def test_what_is_over_a_limit_is_one_line_a_minute(what: str, caplog: pytest.LogCaptureFixture) -> None:
    make, status = OVER_LIMITS[what]
    ends = status in (408, 431)
    limits = EndpointLimits(head_bytes=2_000, head_lines=50, head_seconds=0.3, waiting_bytes=1_000)
    async with serve_endpoint(limits=limits, max_body=2_000) as endpoint:
        async with endpoint.open_rollout(echo) as rollout, connected(endpoint.port) as first:
            if status == 503:
                await first.send_all(raw_request(rollout, b"{}")[:-1])  # the first body always has room
                await trio.testing.wait_all_tasks_blocked(0.01)
            for _ in range(3):
                async with connected(endpoint.port) as stream:
                    await stream.send_all(make(rollout))
                    said = await (read_to_end if ends else read_answer)(stream)
                    assert said.startswith(b"HTTP/1.1 %d" % status)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("target", [b"?", b"?a=b", b"x", b"*", b"http://a", b"//"])
async def test_a_target_that_is_no_path_is_answered_and_leaves_no_traceback(
    target: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target)
        answer = await read_to_end(stream)
    status = int(answer.split()[1])
    assert status == (404 if target in (b"x", b"*") else 200)  # no path is the root, RFC 9110 section 4.2.3
    assert not [record for record in caplog.records if record.exc_info]
