"""TLS by certificate and key: HTTP/1.1, and the connections that are none."""

import contextlib
import ssl
from pathlib import Path

import httpx2
import pytest
import trio
import trustme

from tests.asking import ask_body, bearer, connected, echo, url_of
from triocept import EndpointLimits, serve_endpoint


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> tuple[str, str]:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    return str(chain), str(key)


@pytest.mark.usefixtures("every_way")
async def test_an_endpoint_with_a_certificate_speaks_https(
    authority: trustme.CA, pair: tuple[str, str]
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serve_endpoint(tls=pair) as endpoint, endpoint.open_rollout(echo) as rollout:
        assert endpoint.url == f"https://127.0.0.1:{endpoint.port}"
        assert rollout.environ()["OPENAI_BASE_URL"].startswith("https://")
        async with httpx2.AsyncClient(verify=trusting) as client:
            reply = await client.post(url_of(rollout), json=ask_body("hi"), headers=bearer(rollout))
            assert reply.json()["choices"][0]["message"]["content"] == "hi"
            streamed = await client.post(
                url_of(rollout), json=ask_body("hi", stream=True), headers=bearer(rollout)
            )
            assert streamed.text.endswith("data: [DONE]\n\n")
        async with connected(endpoint.port) as stream:  # plain HTTP on a TLS port
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                assert b"200" not in await stream.receive_some()
        async with httpx2.AsyncClient(verify=trusting) as client:
            assert (await client.get(f"{endpoint.url}/health")).status_code == 200


async def test_a_context_of_ones_own_serves_as_well(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serve_endpoint(host="localhost", tls=context) as endpoint:
        async with httpx2.AsyncClient(verify=trusting) as client:
            assert (await client.get(f"{endpoint.url}/health")).json()["status"] == "ok"


async def test_a_certificate_that_is_not_there_is_an_error_before_anything_is_bound(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with serve_endpoint(tls=(str(tmp_path / "none.pem"), str(tmp_path / "none.key"))):
            raise AssertionError


async def test_a_handshake_that_does_not_come_is_waited_for_as_long_as_a_head(pair: tuple[str, str]) -> None:
    async with serve_endpoint(tls=pair, limits=EndpointLimits(head_seconds=0.3)) as endpoint:
        async with connected(endpoint.port) as stream:
            assert await stream.receive_some() == b""


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("start", [b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nX: ", b"GET /he"])
async def test_a_head_that_takes_too_long_is_told_408_over_tls_too(
    start: bytes, authority: trustme.CA, pair: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        serve_endpoint(tls=pair, limits=EndpointLimits(head_seconds=1)) as endpoint,
        await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", endpoint.port, ssl_context=trusting, https_compatible=True
        ) as stream,
    ):
        await stream.send_all(start)
        said = b"".join([piece async for piece in stream])
    assert said.startswith(b"HTTP/1.1 408")
    assert len(caplog.records) == 1
