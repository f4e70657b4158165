"""Compressed request bodies are read, and bounded by what they become."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import httpx2
import pytest
import trio
import zstandard

from tests.asking import ask_body, bearer, echo, url_of
from triocept import serve_endpoint

pytestmark = pytest.mark.usefixtures("both_ways")
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_a_compressed_body_is_read_and_one_that_grows_over_the_cap_is_refused(encoding: str) -> None:
    headers = {"content-encoding": encoding}
    with trio.fail_after(20):
        async with serve_endpoint(max_body=100_000) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                encode = ENCODERS[encoding]
                small = encode(json.dumps(ask_body("hi")).encode())
                bomb = encode(json.dumps(ask_body("x" * 10_000_000)).encode())
                fine = await client.post(url_of(rollout), content=small, headers=headers)
                over = await client.post(url_of(rollout), content=bomb, headers=headers)
    assert fine.json()["choices"][0]["message"]["content"] == "hi"
    assert over.status_code == 413


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", b"{}", 400),
        ("zstd", b"{}", 400),
        ("gzip", gzip.compress(b"{}" * 99, mtime=0)[:-9], 400),
        ("br", b"{}", 415),
    ],
)
async def test_a_body_that_is_not_what_its_encoding_says_is_refused(
    encoding: str, body: bytes, status: int
) -> None:
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                reply = await client.post(
                    url_of(rollout), content=body, headers={"content-encoding": encoding}
                )
    assert reply.status_code == status
    assert "ncoding" in reply.json()["error"]["message"]
