"""HTTP/2 is not spoken, and nothing reaches hypercorn's own."""

import ssl
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from hypercorn import protocol

from tests.asking import connected, read_to_end
from triocept import serve_endpoint

pytestmark = pytest.mark.usefixtures("every_way")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture(autouse=True)
def nothing_reaches_hypercorns_http2(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*args: object) -> None:
        pytest.fail("hypercorn speaks HTTP/2")

    monkeypatch.setattr(protocol, "H2Protocol", reached)


def check_refusal(answer: bytes, log: pytest.LogCaptureFixture) -> None:
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert b"use HTTP/1.1" in answer
    assert b"reverse proxy" in answer
    assert [record.exc_info for record in log.records] == [None]
    assert "reverse proxy" in log.text


@pytest.mark.parametrize("cut", [0, 3, len(PREFACE) - 8, len(PREFACE)])
async def test_a_preface_gets_505_and_one_line_of_log(cut: int, caplog: pytest.LogCaptureFixture) -> None:
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(PREFACE[:cut])
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(PREFACE[cut:] + SETTINGS)
        answer = await read_to_end(stream)
    check_refusal(answer, caplog)


async def speak_tls(port: int, context: ssl.SSLContext, data: bytes) -> tuple[str | None, bytes]:
    """The protocol that is agreed on, and the answer to these bytes."""
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio.SSLStream(plain, context, server_hostname="127.0.0.1", https_compatible=True) as stream:
        await stream.send_all(data)
        answer: Any = await read_to_end(stream)  # type: ignore[arg-type]
        return stream.selected_alpn_protocol(), answer


@pytest.mark.parametrize("whose", ["a certificate", "a context of one's own"])
async def test_over_tls_a_client_of_http2_is_refused_whatever_was_agreed_on(
    whose: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    tls: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    if whose == "a certificate":
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
        tls = (tmp_path / "pem", tmp_path / "pem")
    async with serve_endpoint(tls=tls) as endpoint:
        agreed, answer = await speak_tls(endpoint.port, trusting, PREFACE + SETTINGS)
    assert agreed == ("http/1.1" if whose == "a certificate" else "h2")
    check_refusal(answer, caplog)


@pytest.mark.parametrize("body", [b"", b"Content-Length: 2\r\n\r\n{}"])
async def test_an_upgrade_to_h2c_is_ignored(body: bytes) -> None:
    """Java's HttpClient sends one with its first request."""
    upgrade = (
        b"GET /health HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    )
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(upgrade + (body or b"\r\n"))
        reply = await read_to_end(stream)
    assert reply.startswith(b"HTTP/1.1 200 ")
