"""A streamed body is read beside the HTTP parser, and nobody can tell."""

import ssl
from functools import partial

import httpx2
import pytest
import trio
import trustme

from tests.ports import refusing_port
from triocept import UpstreamError, open_upstream, serve_endpoint
from triocept._upstream.address import parse_address
from triocept._upstream.tap import TappedBody, TappedPool
from triocept.dialects import DIALECTS
from triocept.errors import UpstreamTruncated

from .conftest import ask_roughly, base_of, staged
from .provider import (
    BODIES,
    CHAT,
    END,
    Asked,
    Provider,
    answers,
    chunk,
    head,
    says,
    serve_provider,
    wire_stream,
)

STREAM = b"".join(wire_stream(CHAT))


@pytest.fixture
def tapped(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was read beside the parser."""
    seen: list[bytes] = []
    receive = TappedBody.receive

    async def spy(body: TappedBody) -> bytes:
        seen.append(await receive(body))
        return seen[-1]

    monkeypatch.setattr(TappedBody, "receive", spy)
    return seen


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.once
@pytest.mark.parametrize("size", [1, 2, 3, 10, 10_000])
@pytest.mark.parametrize("start", [
    head(),
    b"HTTP/1.1 100 Continue\r\n\r\n" + head(),
    b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 2 + head(),
    head().replace(b"\r\n", b"\n"),
    head().replace(b"\r\n", b"\n").replace(b"\n\n", b"\n\r\n"),
], ids=["plain", "continue", "hints", "bare line feeds", "both line ends"])  # fmt: skip
async def test_wherever_the_bytes_are_cut_the_answer_is_whole_and_the_connection_is_used_again(
    tapped: list[bytes], start: bytes, size: int
) -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        for piece in in_pieces(start + b"".join(map(chunk, in_pieces(STREAM, 7))) + END, size):
            await stream.send_all(piece)

    async with staged(answer, CHAT) as stage:
        for _ in range(2):
            assert (await stage.ask(CHAT, stream=True)).content == STREAM
    assert stage.provider.connections == 1
    assert b"".join(tapped) == STREAM * 2


async def test_a_connection_with_something_behind_its_answer_is_not_used_again(tapped: list[bytes]) -> None:
    data = head() + chunk(STREAM) + END + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    async with staged(says(data), CHAT) as stage:
        for _ in range(2):
            assert (await stage.ask(CHAT, stream=True)).content == STREAM
    assert tapped
    assert stage.provider.connections == 2


@pytest.mark.parametrize(
    "body", [b"x\r\n", chunk(STREAM[:50]) + b"?\r\n", chunk(STREAM[:50])[:-2] + b"more\r\n"]
)
async def test_a_body_that_is_none_is_a_visible_break(body: bytes) -> None:
    async with staged(says(head() + body + END), CHAT) as stage:
        data, complete = await ask_roughly(stage, CHAT)
    assert not complete or b'"error"' in data
    assert "ended too early" in stage.rollout.trace[0].error.message


@pytest.mark.parametrize("more", ["content-encoding: gzip\r\n", "connection: close\r\n"])
async def test_what_is_not_in_plain_chunks_is_left_to_the_parser(tapped: list[bytes], more: str) -> None:
    """An answer that says `gzip` and is none is an error, as it was; one without a length ends with its connection."""
    start = head(more=more)
    if "close" in more:
        start = start.replace(b"transfer-encoding: chunked\r\n", b"")

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(start + STREAM)
        await stream.aclose()

    async with staged(answer, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True)
    assert (answered.content == STREAM) == ("close" in more)
    assert tapped == []


async def test_silence_in_the_body_is_a_504(tapped: list[bytes]) -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(STREAM[:300]))
        await trio.sleep_forever()

    with trio.fail_after(30):
        async with staged(answer, CHAT, read_timeout=1.5) as stage:
            _, complete = await ask_roughly(stage, CHAT)
    assert tapped
    assert not complete
    assert stage.rollout.trace[0].error.status == 504


async def test_a_reset_in_the_body_is_a_truncation(tapped: list[bytes]) -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(STREAM[:300]))
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)

    async with serve_provider(answer) as provider:
        async with open_upstream(base_of(provider.url, CHAT), dialect=CHAT) as upstream:
            with pytest.raises(UpstreamTruncated, match="ended too early"):
                async with upstream.open_response(DIALECTS[CHAT].parse_request(BODIES[CHAT])) as events:
                    async for _ in events:
                        pass
    assert tapped


async def test_over_tls_it_is_the_same(tapped: list[bytes]) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)

    async def encrypted(provider: Provider, plain: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", int(provider.url.rpartition(":")[2])) as inner:
            outer = trio.SSLStream(plain, server, server_side=True, https_compatible=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pour, outer, inner, nursery.cancel_scope)
                await pour(inner, outer, nursery.cancel_scope)

    async def pour(
        source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope
    ) -> None:
        async for data in source:
            await sink.send_all(data)
        scope.cancel()

    async with serve_provider(says(head() + chunk(STREAM) + END)) as provider, trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(encrypted, provider), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
        async with open_upstream(url, dialect=CHAT, tls=client) as upstream:
            for _ in range(2):
                async with upstream.open_response(DIALECTS[CHAT].parse_request(BODIES[CHAT])) as events:
                    assert [event async for event in events]
        assert provider.connections == 1
        nursery.cancel_scope.cancel()
    assert b"".join(tapped) == STREAM * 2


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("no_proxies")
async def test_a_proxy_of_the_environment_is_asked(
    monkeypatch: pytest.MonkeyPatch, tapped: list[bytes]
) -> None:
    url = "http://provider.invalid/v1"
    async with serve_provider(answers(CHAT)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with open_upstream(url, dialect=CHAT) as upstream:
            async with upstream.open_response(DIALECTS[CHAT].parse_request(BODIES[CHAT])) as events:
                assert [event async for event in events]
        monkeypatch.setenv("no_proxy", "provider.invalid")
        async with open_upstream(url, dialect=CHAT) as upstream:
            with pytest.raises(UpstreamError, match="no connection"):
                await upstream.fetch(DIALECTS[CHAT].parse_request(BODIES[CHAT]))
    assert [asked.target for asked in proxy.asked] == [f"{url}/chat/completions"]
    assert tapped == []


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_proxy_is_asked_for_a_provider_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """It would get the key, and could not reach it."""
    with refusing_port() as nobody:
        async with serve_provider(answers(CHAT)) as provider:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
            async with open_upstream(provider.url.replace("127.0.0.1", host), dialect=CHAT) as upstream:
                assert await upstream.fetch(DIALECTS[CHAT].parse_request(BODIES[CHAT]))
    assert len(provider.asked) == 1


@pytest.mark.usefixtures("no_proxies")
async def test_a_proxy_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    request = DIALECTS[CHAT].parse_request(BODIES[CHAT])
    with refusing_port() as nobody:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{nobody}")
        async with open_upstream("https://provider.invalid/v1", dialect=CHAT) as upstream:
            with pytest.raises(
                UpstreamError,
                match=r"no connection .* by the proxy 127.0.0.1:\d+, which https_proxy names: .*; to call the ",
            ):
                await upstream.fetch(request)
        async with serve_provider(says(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            async with open_upstream("https://provider.invalid/v1", dialect=CHAT) as upstream:
                with pytest.raises(
                    UpstreamError, match=r"the proxy did not connect to the provider: 502 .*https_proxy names"
                ):
                    await upstream.fetch(request)


@pytest.mark.parametrize(("url", "here"), [
    ("http://127.0.0.1:9", True),
    ("http://127.8.0.1", True),
    ("http://[::1]:9/v1", True),
    ("http://LOCALHOST", True),
    ("http://gpu.localhost", True),
    ("http://localhost.", True),
    ("http://localhost.example", False),
    ("http://10.0.0.1", False),
    ("http://[fe80::1]", False),
])  # fmt: skip
def test_what_is_on_this_machine_is_known_by_its_address(url: str, here: bool) -> None:
    assert parse_address(url).here is here


async def test_each_connection_is_closed_though_closing_another_one_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = TappedPool(keepalive=60, ssl_context=None)

    async def ask() -> None:
        request = httpx2.Request("GET", f"{endpoint.url}/health")
        await (await pool.handle_async_request(request)).aread()

    async def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    async with serve_endpoint() as endpoint:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        connections = pool._pool.connections
        monkeypatch.setattr(connections[0], "aclose", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await pool.aclose()
    assert len(connections) == 3
    assert all(connection.is_closed() for connection in connections)
