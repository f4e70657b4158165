"""Embeddings of an application that is not trio's."""

from __future__ import annotations

from collections.abc import Sequence

import openai
import pytest

import triocept


def test_a_failing_embed_fails_at_the_blocks_end_and_its_rollout_stays_open() -> None:
    def broken(texts: Sequence[str]) -> list[list[float]]:
        raise KeyError("secret")

    with pytest.raises(ExceptionGroup) as raised:
        with triocept.testing.serve() as endpoint, endpoint.open_rollout(embed=broken) as rollout:
            with rollout.client("openai_chat", max_retries=0) as client:
                for _ in range(2):
                    with pytest.raises(openai.InternalServerError, match="KeyError"):
                        client.embeddings.create(model="m", input="hi")
    assert [repr(error) for error in raised.value.exceptions] == ["KeyError('secret')"] * 2
