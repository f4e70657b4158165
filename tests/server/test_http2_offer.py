"""HTTP/2 is spoken to whoever asks for it, if the program has asked for it first."""

from __future__ import annotations

import ssl

import h2.connection
import httpx2
import pytest
import trio
import trustme

from tests.asking import ask_body, bearer, connected, echo, read_to_end, url_of
from triocept import serve_endpoint

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def pair(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    folder = tmp_path_factory.mktemp("tls")
    certificate.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    return str(folder / "chain.pem"), str(folder / "key.pem")


@pytest.mark.parametrize("asked", [False, True])
async def test_tls_agrees_on_http2_only_if_it_is_asked_for(
    asked: bool, pair: tuple[str, str], trusting: ssl.SSLContext
) -> None:
    with trio.fail_after(20):
        async with serve_endpoint(tls=pair, http2=asked) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with httpx2.AsyncClient(verify=trusting, http2=True) as client:
                reply = await client.post(url_of(rollout), json=ask_body("hi"), headers=bearer(rollout))
    assert reply.http_version == ("HTTP/2" if asked else "HTTP/1.1")
    assert reply.json()["choices"][0]["message"]["content"] == "hi"


async def test_a_context_of_ones_own_that_agrees_on_http2_is_believed(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with trio.fail_after(20):
        async with serve_endpoint(tls=context) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with httpx2.AsyncClient(verify=trusting, http2=True) as client:
                reply = await client.post(url_of(rollout), json=ask_body("hi"), headers=bearer(rollout))
    assert (reply.http_version, reply.status_code) == ("HTTP/2", 200)


async def test_whoever_begins_with_http2_unasked_is_told_505_in_one_line_of_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = h2.connection.H2Connection()
    client.initiate_connection()
    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
            await stream.send_all(client.data_to_send())
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 505 ")
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize("asked", [False, True])
async def test_an_upgrade_to_h2c_is_left_unheeded(asked: bool) -> None:
    upgrade = (
        b"GET /health HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    with trio.fail_after(10):
        async with serve_endpoint(http2=asked) as endpoint, connected(endpoint.port) as stream:
            await stream.send_all(upgrade)
            reply = await read_to_end(stream)
    assert reply.startswith(b"HTTP/1.1 200 ")
