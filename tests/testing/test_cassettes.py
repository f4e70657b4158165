"""What is recorded from a real model is what is answered from then on, in every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import trio

from tests.asking import bearer, document, url_of
from triocept import (
    Handler,
    ScriptedModel,
    Upstream,
    open_upstream,
    serve_endpoint,
)
from triocept.testing import open_cassette


@asynccontextmanager
async def real_model(handler: Handler, dialect: str = "openai_chat") -> AsyncIterator[Upstream]:
    """A model that is asked over a socket, as a provider's is."""
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with open_upstream(
            rollout.base_url(dialect), dialect=dialect, api_key=rollout.api_key
        ) as upstream:
            yield upstream


async def asked(
    handler: Handler, *documents: dict[str, Any], dialect: str = "openai_chat"
) -> list[httpx2.Response]:
    """What an agent gets for these, one after the other."""
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            async with httpx2.AsyncClient(timeout=None) as client:
                return [
                    await client.post(url_of(rollout, dialect), json=each, headers=bearer(rollout))
                    for each in documents
                ]


def said(answer: httpx2.Response) -> str:
    answer.raise_for_status()
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


async def test_what_was_recorded_is_answered_without_the_model(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.yaml"
    async with real_model(ScriptedModel(["one", "two"])) as upstream:
        async with open_cassette(path, record="once", upstream=upstream) as cassette:
            answers = await asked(cassette, document("openai_chat", "a"), document("openai_chat", "b"))
    assert [said(each) for each in answers] == ["one", "two"]
    async with open_cassette(path) as cassette:
        answers = await asked(cassette, document("openai_chat", "b"), document("openai_chat", "a"))
        assert cassette.unused == ()
    assert [said(each) for each in answers] == ["two", "one"]
