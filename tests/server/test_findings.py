"""What hypercorn, Quart-Trio and trio do, and what an endpoint must not let happen. Each fails without its cure."""

import contextlib

import pytest
import trio
import trio.testing
from hypercorn.trio.tcp_server import TCPServer
from quart_trio import QuartTrio

from tests.asking import ask, connected, echo, raw_request, read_answer, read_to_end
from tests.programs import run_python
from triocept import Endpoint, Exchange, Rollout, Trace, Turn, serve_endpoint
from triocept._server import app as app_module
from triocept._server.serve import Server
from triocept.errors import EndpointCrashed

pytestmark = pytest.mark.usefixtures("every_way")

# A websocket upgrade with bytes behind it, and an h2c request with a path that is not ASCII: both raise out of
# hypercorn's TCPServer (hypercorn issues 225 and 329).
WEBSOCKET_AND_MORE = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\x81\x80\x00\x00\x00\x00trailing"
)
WEBSOCKET_WITH_BODY = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nhello"
)
H2C_NOT_ASCII = (
    b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)


HOSTILE = {
    "a websocket with another request behind it": WEBSOCKET_AND_MORE[:-20]
    + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a websocket with bytes behind it": WEBSOCKET_AND_MORE,
    "a websocket with a body": WEBSOCKET_WITH_BODY,
    "h2c with a path that is not ASCII": H2C_NOT_ASCII,
    "an upgrade to h2c": H2C_NOT_ASCII.replace(b"\xc3\xa9", b""),
    "both length headers": (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "both length headers on another route": (
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "garbage": bytes(range(256)) * 8,
    "garbage after a head": b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n\xff\xfe{{{{{{{",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "nothing at all": b"",
    "half a head": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Le",
    "half a body": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{",
    "a bad chunk": b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "an endless header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300_000,
    "a negative length": b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "an http/2 preface and garbage": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    "a null in the path": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path of percent signs": b"GET /%%%zz%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target": b"GET http://else.where/health HTTP/1.1\r\nHost: a\r\n\r\n",
    "http/0.9": b"GET /\r\n",
    "headers that are not ASCII": b"GET /health HTTP/1.1\r\nHost: a\r\nX-\xe9: \xff\r\n\r\n",
    "a header that folds": b"GET /health HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET /health HTTP/1.1\nHost: a\n\n",
    "an expectation that nobody meets": (
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    ),
    "a key that is not ASCII": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xe9\xff\r\n\r\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_connection_harms_no_other(data: bytes) -> None:
    caught = trio.Event()
    go = trio.Event()

    async def hold(exchange: Exchange) -> None:
        caught.set()
        await go.wait()
        await exchange.respond("still here")

    replies = []

    async def wait_for_it(rollout: object) -> None:
        replies.append(await ask(rollout))  # type: ignore[arg-type]

    async with serve_endpoint(grace=0.2) as endpoint, endpoint.open_rollout(hold) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_it, rollout)
            await caught.wait()
            async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                with trio.move_on_after(0.1), contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_eof()
                    await read_to_end(stream)
            go.set()
        assert (await ask(rollout)).status_code == 200
    assert replies[0].json()["choices"][0]["message"]["content"] == "still here"


async def test_finding_2_a_connection_closes_when_asked_and_goes_idle_when_not() -> None:
    async with serve_endpoint(grace=30) as endpoint:
        async with connected(endpoint.port) as stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"200" in await read_to_end(stream)  # ends: the server has closed it
        async with connected(endpoint.port) as stream:
            for _ in range(3):
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += await stream.receive_some()
                assert b" 200 " in answer
            start = trio.current_time()
            stopping = endpoint
    assert stopping is endpoint
    assert trio.current_time() - start < 25, "an idle connection held the shutdown up"


async def test_finding_2_an_early_413_is_read() -> None:
    async with serve_endpoint(max_body=1000) as endpoint, endpoint.open_rollout(echo) as rollout:
        for path in (None, "/v1/messages/count_tokens"):
            async with connected(endpoint.port) as stream:
                data = bytearray()
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def send(stream: trio.SocketStream = stream, path: str | None = path) -> None:
                        with contextlib.suppress(trio.BrokenResourceError):
                            await stream.send_all(raw_request(rollout, b"x" * 3_000_000, path=path))

                    data += await read_answer(stream)
                    nursery.cancel_scope.cancel()
                assert b" 413 " in data.splitlines()[0]


async def stall(endpoint: Endpoint, rollout: Rollout, *, task_status: trio.TaskStatus[None]) -> None:
    """A client that asks for a big answer, and never reads it, until it is cancelled."""
    async with connected(endpoint.port) as stream:
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(
            raw_request(rollout, b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
        )
        task_status.started()
        await trio.sleep_forever()


async def big(exchange: Exchange) -> None:
    await exchange.respond("x" * 50_000_000)


async def test_finding_3_a_client_that_stops_reading_does_not_hold_the_end_up() -> None:
    async with trio.open_nursery() as nursery:
        async with serve_endpoint(grace=0.5) as endpoint:
            async with endpoint.open_rollout() as rollout:
                await nursery.start(stall, endpoint, rollout)
                exchange = await anext(aiter(rollout))
                nursery.start_soon(big, exchange)
                await trio.testing.wait_all_tasks_blocked(0.1)
                start = trio.current_time()
            assert trio.current_time() - start < 30
        assert rollout.trace[0].outcome == "answered"
        nursery.cancel_scope.cancel()


async def test_finding_3_nor_cancellation() -> None:
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(50) as scope:
            async with serve_endpoint(grace=0.5) as endpoint, endpoint.open_rollout(big) as rollout:
                await nursery.start(stall, endpoint, rollout)
                await trio.testing.wait_all_tasks_blocked(0.1)
                start = trio.current_time()
                scope.cancel()
                await trio.sleep_forever()
        assert trio.current_time() - start < 30
        nursery.cancel_scope.cancel()


INTERRUPTED = """
    import os, signal, sys, httpx2, trio, triocept
    from tests.asking import ask, bearer
    from triocept._server.keys import Keys
    from triocept._server.serve import OWN_HTTP1

    where, way = sys.argv[1:]

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    async def answer(exchange):
        if where == "handler":
            interrupt()
        await exchange.respond("x")

    async def main():
        OWN_HTTP1.set(way == "own HTTP/1.1")
        async with triocept.serve_endpoint() as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                if where == "server":
                    redacted = Keys.redacted
                    def attempt(*args):
                        interrupt()
                        return redacted(*args)
                    Keys.redacted = attempt
                if where == "quart":
                    rollout_of = Keys.rollout
                    def authenticate(*args):
                        interrupt()
                        return rollout_of(*args)
                    Keys.rollout = authenticate
                if where == "body":
                    interrupt()
                if where == "quart":
                    async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                        await client.get(f"{endpoint.url}/v1/models")
                else:
                    await ask(rollout)
                print("went on", flush=True)

    try:
        trio.run(main)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.once
@pytest.mark.parametrize("where", ["handler", "server", "quart", "body"])
def test_finding_4_ctrl_c_is_never_swallowed(where: str, every_way: str) -> None:
    done = run_python(INTERRUPTED, where, every_way)
    assert done.stdout == "interrupted\n", done.stderr


async def test_finding_5_an_endpoint_whose_application_does_not_start_is_never_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = app_module.make_app

    def make_failing(*args: object, **kwargs: object) -> QuartTrio:
        app = make(*args, **kwargs)  # type: ignore[arg-type]

        @app.before_serving
        async def fail() -> None:
            raise RuntimeError("no database")

        return app

    monkeypatch.setattr("triocept._server.serve.make_app", make_failing)
    with pytest.raises(EndpointCrashed, match="no database"):
        async with serve_endpoint():
            raise AssertionError("the body must not begin")


async def test_a_server_that_dies_by_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[Server] = []
    original = Server.__init__

    def remember(self: Server, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        servers.append(self)

    monkeypatch.setattr(Server, "__init__", remember)
    with pytest.raises(EndpointCrashed) as caught:
        async with serve_endpoint():
            servers[0]._listener.socket.close()
            await trio.sleep_forever()
    assert caught.value.__cause__ is not None


def test_the_inside_of_hypercorn_that_we_use_is_as_we_know_it() -> None:
    from inspect import signature

    assert [*signature(TCPServer.__init__).parameters] == [
        "self", "app", "config", "context", "state", "stream",
    ]  # fmt: skip
    assert {"protocol_send", "run"} <= set(vars(TCPServer))


class FailsToClose:
    """A recorder whose last batch cannot be written."""

    async def record(self, turn: Turn) -> None:
        pass

    async def seal(self, trace: Trace) -> None:
        pass

    async def aclose(self) -> None:
        raise OSError("the last batch could not be written")


async def test_what_a_recorder_raises_at_its_end_is_not_lost_in_a_cancellation() -> None:
    with pytest.raises(OSError, match="the last batch"), trio.move_on_after(0.1):
        async with serve_endpoint(recorder=FailsToClose()):
            await trio.sleep_forever()


async def test_a_server_that_dies_hides_nothing_else_that_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[Server] = []
    original = Server.__init__

    def remember(self: Server, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        servers.append(self)

    monkeypatch.setattr(Server, "__init__", remember)
    with pytest.raises(ExceptionGroup) as caught:
        async with serve_endpoint(recorder=FailsToClose()):
            servers[0]._listener.socket.close()
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("the result could not be saved")
    kinds = {type(error) for error in caught.value.exceptions}
    assert kinds == {EndpointCrashed, ValueError, OSError}
