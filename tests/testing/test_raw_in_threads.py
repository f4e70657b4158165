"""Raw bytes that a plain function makes on their way: in its own thread, which may block; each piece goes out before
the next one is asked for."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.asking import ask_body
from triocept.testing import SyncExchange, SyncRollout, serve


def call(rollout: SyncRollout) -> socket.socket:
    """A connection on which a call was made."""
    body = msgspec.json.encode(ask_body())
    url = urlsplit(rollout.base_url("openai_chat"))
    head = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {rollout.api_key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    made = socket.create_connection(("127.0.0.1", url.port or 0), timeout=60)
    made.sendall(head.encode() + body)
    return made


def read_until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def test_each_piece_is_out_before_a_blocking_generator_is_asked_for_the_next() -> None:
    seen, threads = threading.Event(), set()

    def pieces() -> Iterator[bytes | float]:
        threads.add(threading.current_thread())
        yield b"a"
        assert seen.wait(60)
        yield 0.01
        yield b"b"
        threads.add(threading.current_thread())

    def handler(exchange: SyncExchange) -> None:
        threads.add(threading.current_thread())
        exchange.respond_raw(200, {}, pieces(), end="close")

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout, call(rollout) as connection:
        read_until(connection, b"\r\n\r\na")
        assert rollout.calls  # the endpoint answers meanwhile
        seen.set()
        read_until(connection, b"b")
        assert connection.recv(1) == b""
    (turn,) = rollout.trace
    assert turn.raw.body == (b"a", 0.01, b"b")
    assert len(threads) == 1


def test_one_that_raises_is_closed_and_told_at_the_end_of_the_block() -> None:
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            yield b"a"
            raise KeyError("midway")
        finally:
            closed.set()

    def handler(exchange: SyncExchange) -> None:
        exchange.respond_raw(200, {}, pieces())

    with pytest.raises(KeyError, match="midway"):
        with serve() as endpoint, endpoint.open_rollout(handler) as rollout, call(rollout) as connection:
            with pytest.raises(ConnectionResetError):
                read_until(connection, b"never")
    assert closed.is_set()
    assert rollout.trace[0].outcome == "failed"
    assert rollout.trace[0].raw is not None


def test_an_endless_one_is_closed_when_its_agent_goes() -> None:
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    def handler(exchange: SyncExchange) -> None:
        exchange.respond_raw(200, {}, pieces(), end="close")

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout:
        with call(rollout) as connection:
            assert connection.recv(10)
        assert closed.wait(60)
    (turn,) = rollout.trace
    assert turn.outcome == "abandoned"
    assert turn.raw is not None


def test_an_endless_one_ends_with_its_rollout_and_that_is_no_fault() -> None:
    closed = threading.Event()

    def pieces() -> Iterator[bytes | float]:
        try:
            yield b"a"
            while True:
                yield 60.0
        finally:
            closed.set()

    def handler(exchange: SyncExchange) -> None:
        exchange.respond_raw(200, {}, pieces(), end="close")

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout, call(rollout) as connection:
        read_until(connection, b"\r\n\r\na")
        rollout.stop("enough")
        assert closed.wait(60)


@pytest.mark.parametrize("body", ["text", 5])
def test_what_is_no_body_is_said_and_the_call_can_still_be_answered(body: object) -> None:
    def handler(exchange: SyncExchange) -> None:
        with pytest.raises(TypeError, match="body must be bytes, or an iterable of bytes and of pauses"):
            exchange.respond_raw(200, {}, body)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="status"):
            exchange.respond_raw(5, {}, iter([b"a"]))
        exchange.respond("ok")

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout, call(rollout) as connection:
        assert b" 200 " in connection.recv(100)


def test_an_async_one_runs_in_the_thread_of_the_endpoint() -> None:
    names: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        names.append(threading.current_thread().name)
        yield b"a"

    with serve() as endpoint, endpoint.open_rollout() as rollout, call(rollout) as connection:
        rollout.next().respond_raw(200, {}, pieces(), end="close")
        read_until(connection, b"a")
    assert names == ["triocept-endpoint"]
