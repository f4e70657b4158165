"""Compressed request bodies are read, and bounded by what they become."""

import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache, partial

import httpx2
import pytest
import trio
import trio.testing
import zstandard

from tests.asking import CHAT, ask_body, bearer, connected, echo, raw_request, url_of
from tests.server.watching import watched
from triocept import EndpointLimits, Refusal, serve_endpoint
from triocept._server.encoding import decoded

pytestmark = pytest.mark.usefixtures("every_way")
MIB = 1024 * 1024
GZIP = partial(gzip.compress, mtime=0)
ZSTD = zstandard.ZstdCompressor().compress
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": ZSTD,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_a_compressed_body_is_read_and_one_that_grows_over_the_cap_is_refused(encoding: str) -> None:
    headers = {"content-encoding": encoding}
    async with serve_endpoint(max_body=100_000) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            encode = ENCODERS[encoding]
            small = encode(json.dumps(ask_body("hi")).encode())
            bomb = encode(json.dumps(ask_body("x" * 10_000_000)).encode())
            fine = await client.post(url_of(rollout), content=small, headers=headers)
            over = await client.post(url_of(rollout), content=bomb, headers=headers)
    assert fine.json()["choices"][0]["message"]["content"] == "hi"
    assert over.status_code == 413


@pytest.mark.parametrize(("encoding", "body", "status"), [
    ("gzip", b"{}", 400),
    ("zstd", b"{}", 400),
    ("gzip", gzip.compress(b"{}" * 99, mtime=0)[:-9], 400),
    ("gzip", GZIP(b"{}") + b"junk", 400),
    ("gzip", GZIP(b"{}") + GZIP(b"{}")[:-1], 400),
    ("deflate", zlib.compress(b"{}") + zlib.compress(b"{}"), 400),
    ("zstd", ZSTD(b"{}" * 99)[:-2], 400),
    ("zstd", ZSTD(b"{}") + b"junk", 400),
    ("br", b"{}", 415),
])  # fmt: skip
async def test_a_body_that_is_not_what_its_encoding_says_is_refused(
    encoding: str, body: bytes, status: int
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            reply = await client.post(url_of(rollout), content=body, headers={"content-encoding": encoding})
    assert reply.status_code == status
    assert "ncoding" in reply.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_body_of_several_members_or_frames_is_one_body(encoding: str) -> None:
    text = json.dumps(ask_body("hi" * 5000)).encode()
    body = b"".join(ENCODERS[encoding](piece) for piece in (text[:10], b"", text[10:5000], text[5000:]))
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            reply = await client.post(url_of(rollout), content=body, headers={"content-encoding": encoding})
    assert reply.json()["choices"][0]["message"]["content"] == "hi" * 5000


BOMBS: dict[str, Callable[[], bytes]] = {
    "a list of lists": lambda: b'{"messages":[' + b"[]," * 17_000_000 + b"[]]}",
    "a long text": lambda: json.dumps(ask_body("x" * 51_000_000)).encode(),
    "the longest text that is read": lambda: json.dumps(ask_body("x" * 33_000_000)).encode(),
}


@cache
def packed(bomb: str) -> bytes:
    """It takes a while to be made, and as much memory as it is to take."""
    return gzip.compress(BOMBS[bomb]())


@pytest.mark.once
@pytest.mark.parametrize("bomb", BOMBS)
async def test_fifty_kilobytes_of_gzip_cost_little_memory_and_stop_nobody(bomb: str) -> None:
    body = packed(bomb)
    assert len(body) < 55_000
    headers = {"content-encoding": "gzip"}
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout), timeout=60) as client:
            with watched() as seen:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(seen.run)
                    reply = await client.post(url_of(rollout), content=body, headers=headers)
                    nursery.cancel_scope.cancel()
    assert reply.status_code == (200 if "read" in bomb else 413)
    assert seen.grown < 200 * 1024 * 1024
    assert seen.stall < 0.3


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_others_have_a_turn_while_a_body_is_inflated(encoding: str) -> None:
    turns, text = 0, random.Random(0).randbytes(4 * MIB)

    async def run_meanwhile() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_meanwhile)
        await trio.lowlevel.checkpoint()
        assert await decoded(ENCODERS[encoding](text), encoding, 4 * MIB) == text
        nursery.cancel_scope.cancel()
    assert turns >= 30


@pytest.mark.once
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_of_a_bomb_no_more_is_inflated_than_is_allowed_and_what_a_few_bytes_become(
    encoding: str,
) -> None:
    body = ENCODERS[encoding](bytes(100 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="the decoded body is larger than 1048576 bytes"):
            await decoded(body, encoding, MIB)
        assert tracemalloc.get_traced_memory()[1] < (50 if encoding == "zstd" else 8) * MIB
    finally:
        tracemalloc.stop()


async def test_a_frame_that_wants_more_memory_than_a_decoder_should_have_is_refused() -> None:
    for window, fine in ((23, True), (24, False)):
        parameters = zstandard.ZstdCompressionParameters(window_log=window)
        encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        body = encoder.compress(b"{}") + encoder.flush()
        if fine:
            assert await decoded(body, "zstd", MIB) == b"{}"
            continue
        with pytest.raises(Refusal, match="the body does not match its Content-Encoding"):
            await decoded(body, "zstd", MIB)


BOUNDS = {
    "bytes without the encoding": (EndpointLimits(decoded_bytes=5_000), "larger than 5000 bytes"),
    "values": (EndpointLimits(document_items=500), "more than 500 JSON values"),
}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages/count_tokens"])
@pytest.mark.parametrize("bound", BOUNDS)
async def test_what_an_endpoint_says_of_documents_holds_for_every_route(path: str, bound: str) -> None:
    limits, said = BOUNDS[bound]
    document = ask_body("hi", filler=[[]] * 10_000)
    headers = {"content-encoding": "gzip"}
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            url = endpoint.url + path
            fine = await client.post(url, content=GZIP(json.dumps(ask_body("hi")).encode()), headers=headers)
            over = await client.post(url, content=GZIP(json.dumps(document).encode()), headers=headers)
    assert (fine.status_code, over.status_code) == (200, 413)
    assert said in over.json()["error"]["message"]


async def test_a_body_counts_among_those_that_wait_by_what_it_becomes() -> None:
    limits = EndpointLimits(waiting_bytes=100_000)
    async with (
        serve_endpoint(limits=limits) as endpoint,
        endpoint.open_rollout(echo) as rollout,
        connected(endpoint.port) as first,
    ):
        await first.send_all(raw_request(rollout, b"{}")[:-1])
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            body = GZIP(json.dumps(ask_body("x" * 200_000)).encode())
            reply = await client.post(url_of(rollout), content=body, headers={"content-encoding": "gzip"})
    assert reply.status_code == 503
