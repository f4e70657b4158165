"""nginx and caddy in front of `FixedURL`: event by event, keepalives, big bodies, paths, TLS."""

import json
import os
import ssl
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
import trustme

from tests.asking import CHAT, MESSAGES, ask_body, bearer
from tests.ports import free_port
from tests.reach.programs import kill_tree, listens, program
from triocept import Endpoint, Exchange, Rollout, TunnelError, serve_endpoint
from triocept.tunnels import FixedURL, TunnelHealth

EVENTS = 50
BIG = 24 * 1024 * 1024
"""Bytes; real turns of 9 to 12 MiB are known."""
HEALTH = TunnelHealth(start_timeout=10, interval=0.2, failures=2, timeout=2, back_off=0.1)

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} {ssl};
        client_max_body_size 0;
        location /triocept/ {{
            proxy_pass http://127.0.0.1:{target}/;
            proxy_read_timeout 1h;
            {version}
        }}
    }}
}}
"""
"""Nothing is said of `proxy_buffering`: it is on. Over HTTP/1.0, nginx's own choice, it would hold a stream back until
its end; our `X-Accel-Buffering: no` turns it off."""
HTTP11 = 'proxy_http_version 1.1; proxy_set_header Connection "";'

CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}/caddy
}}
{scheme}://127.0.0.1:{port} {{
    {ssl}
    encode gzip
    handle_path /triocept/* {{
        reverse_proxy 127.0.0.1:{target}
    }}
}}
"""


class Proxy:
    """One of them, started and ended by the test."""

    def __init__(self, name: str, folder: Path, target: int, certificate: trustme.LeafCert | None) -> None:
        self.name, _, self.version = name.partition("/")
        self.folder, self.target = folder, target
        self.binary = program(self.name)
        self.scheme = "http" if certificate is None else "https"
        if certificate is not None:
            certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
            with (folder / "chain.pem").open("wb") as file:
                for blob in certificate.cert_chain_pems:
                    file.write(blob.bytes())
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/triocept"

    async def start(self) -> None:
        for _ in range(5):
            port = self.port or free_port()
            self.process = self._start(port)
            with trio.move_on_after(15):
                while self.process.poll() is None:
                    if await listens(port):
                        self.port = port
                        return
                    await trio.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        config = self.folder / "config"
        values = {
            "folder": self.folder,
            "port": port,
            "target": self.target,
            "scheme": self.scheme,
            "user": "user root;" if os.getuid() == 0 else "",
            "ssl": self._tls(),
            "version": HTTP11 if self.version == "1.1" else "",
        }
        config.write_text((NGINX if self.name == "nginx" else CADDY).format(**values))
        argv = (
            [self.binary, "-p", str(self.folder), "-c", str(config)]
            if self.name == "nginx"
            else [self.binary, "run", "--config", str(config), "--adapter", "caddyfile"]
        )
        environment = {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def _tls(self) -> str:
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        if self.scheme == "http":
            return ""
        if self.name == "nginx":
            return f"ssl; ssl_certificate {chain}; ssl_certificate_key {key}"
        return f"tls {chain} {key}"

    def kill(self) -> None:
        if self.process is not None:
            kill_tree(self.process)
            self.process = None


@pytest.fixture(params=["nginx/1.0", "nginx/1.1", "caddy"])
def name(request: pytest.FixtureRequest) -> str:
    program(request.param.partition("/")[0])
    return str(request.param)


@asynccontextmanager
async def behind(
    name: str, folder: Path, certificate: trustme.LeafCert | None = None, **options: Any
) -> AsyncIterator[tuple[Endpoint, Proxy]]:
    """An endpoint behind a proxy: the proxy's other side needs to know the port, so it is started first."""
    proxy = Proxy(name, folder, free_port(), certificate)
    try:
        await proxy.start()
        options.setdefault("tunnel_health", HEALTH)
        async with serve_endpoint(port=proxy.target, tunnel=FixedURL(proxy.url), **options) as endpoint:
            assert endpoint.public_url == proxy.url
            yield endpoint, proxy
    finally:
        proxy.kill()


def url_of(rollout: Rollout, path: str = CHAT) -> str:
    return rollout.base_url("anthropic_messages", reach="public") + path


async def test_a_stream_arrives_event_by_event(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, arrived = [0.0] * EVENTS, trio.Semaphore(0)

    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for number in range(EVENTS):
                sent[number] = time.perf_counter()
                await stream.send(f"<{number}>")
                await arrived.acquire()  # the next is sent when this one has arrived, or never

    found: list[float] = []
    with trio.fail_after(60):
        async with behind(name, tmp_path) as (endpoint, _):
            async with endpoint.open_rollout(answer) as rollout, httpx2.AsyncClient(timeout=30) as client:
                async with client.stream(
                    "POST", url_of(rollout), json=ask_body(stream=True), headers=bearer(rollout)
                ) as response:
                    text = ""
                    async for piece in response.aiter_text():
                        text += piece
                        while f"<{len(found)}>" in text:
                            found.append(time.perf_counter() - sent[len(found)])
                            arrived.release()
                assert "data: [DONE]" in text
    assert len(found) == EVENTS
    with capsys.disabled():
        print(
            f"\nper event through {name}: {statistics.median(found) * 1000:.2f} ms, worst {max(found) * 1000:.1f} ms"
        )
    assert statistics.median(found) < 0.1


@pytest.mark.parametrize(("path", "beat"), [(CHAT, '"delta":{}'), (MESSAGES, "event: ping")])
async def test_keepalives_pass_while_the_program_is_silent(
    name: str, tmp_path: Path, path: str, beat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._server.delivery.KEEPALIVE_EVERY", 0.2)
    monkeypatch.setattr("triocept._server.delivery.HEAD_AFTER", 0.2)
    go = trio.Event()

    async def answer(exchange: Exchange) -> None:
        await go.wait()
        await exchange.respond("at last")

    with trio.fail_after(60):
        async with behind(name, tmp_path) as (endpoint, _):
            async with endpoint.open_rollout(answer) as rollout, httpx2.AsyncClient(timeout=30) as client:
                async with client.stream(
                    "POST", url_of(rollout, path), json=ask_body(stream=True), headers=bearer(rollout)
                ) as response:
                    text = ""
                    async for piece in response.aiter_text():
                        text += piece
                        if text.count(beat) >= 3:
                            go.set()
    assert "at last" in text


async def test_big_bodies_pass_both_ways(name: str, tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        assert len(exchange.request.last.text) == BIG
        await exchange.respond("y" * BIG)

    with trio.fail_after(90):
        async with behind(name, tmp_path) as (endpoint, _):
            async with endpoint.open_rollout(answer) as rollout, httpx2.AsyncClient(timeout=60) as client:
                response = await client.post(
                    url_of(rollout), json=ask_body("x" * BIG), headers=bearer(rollout)
                )
    content = response.json()["choices"][0]["message"]["content"]
    assert content == "y" * BIG


async def test_a_hang_up_before_the_proxy_cancels_the_handler_behind_it(name: str, tmp_path: Path) -> None:
    begun, cancelled = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    with trio.fail_after(60):
        async with behind(name, tmp_path) as (endpoint, _), endpoint.open_rollout(answer) as rollout:
            async with trio.open_nursery() as nursery, httpx2.AsyncClient(timeout=30) as client:

                async def post() -> None:
                    await client.post(url_of(rollout), json=ask_body(), headers=bearer(rollout))

                nursery.start_soon(post)
                await begun.wait()
                nursery.cancel_scope.cancel()
            await cancelled.wait()
    assert [turn.outcome for turn in rollout.trace] == ["abandoned"]


async def test_tls_at_the_proxy_keeps_the_key_out_of_sight(name: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    certificate = authority.issue_cert("127.0.0.1")

    async def answer(exchange: Exchange) -> None:
        await exchange.respond("sealed")

    health = TunnelHealth(start_timeout=10, verify=trust)
    with trio.fail_after(60):
        async with behind(name, tmp_path, certificate, tunnel_health=health) as (endpoint, _):
            async with endpoint.open_rollout(answer) as rollout:
                assert url_of(rollout).startswith("https://")
                async with httpx2.AsyncClient(timeout=30, verify=trust) as client:
                    response = await client.post(url_of(rollout), json=ask_body(), headers=bearer(rollout))
    assert json.loads(response.text)["choices"][0]["message"]["content"] == "sealed"


async def test_a_certificate_that_nobody_trusts_is_an_error_before_the_body(
    name: str, tmp_path: Path
) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    health = TunnelHealth(start_timeout=0.5)
    with trio.fail_after(60), pytest.raises(TunnelError, match="certificate verify failed"):
        async with behind(name, tmp_path, certificate, tunnel_health=health):
            raise AssertionError


async def test_a_proxy_that_dies_and_comes_back_is_seen_to_do_so(name: str, tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with behind(name, tmp_path) as (endpoint, proxy):
            proxy.kill()
            while endpoint.reachable:
                await trio.sleep(0.01)
            with pytest.raises(TunnelError, match="does not answer"):
                _ = endpoint.public_url
            await proxy.start()
            assert await endpoint.wait_reachable() == proxy.url


async def test_a_proxy_that_leads_to_nobody_is_an_error_with_its_own_words(name: str, tmp_path: Path) -> None:
    proxy = Proxy(name, tmp_path, free_port(), None)
    try:
        with trio.fail_after(60):
            await proxy.start()
            health = TunnelHealth(start_timeout=1)
            with pytest.raises(TunnelError, match="/health answers with the status 502"):
                async with serve_endpoint(tunnel=FixedURL(proxy.url), tunnel_health=health):
                    raise AssertionError
    finally:
        proxy.kill()
