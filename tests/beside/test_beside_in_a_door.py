"""Embeddings of an application that is not trio's."""

from collections.abc import Sequence
from threading import Event, Thread

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


def test_a_plain_embed_may_block_and_nobody_else_waits() -> None:
    go_on = Event()

    def waits(texts: Sequence[str]) -> list[list[float]]:
        assert go_on.wait(60), "the endpoint was blocked"
        return [[float(len(text))] for text in texts]

    found: list[list[float]] = []
    with triocept.testing.fake_model("hello", embed=waits) as model, model.client("openai_chat") as client:

        def search() -> None:
            found.append(client.embeddings.create(model="m", input="abc").data[0].embedding)

        thread = Thread(target=search)
        thread.start()
        said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        go_on.set()
        thread.join(60)
    assert (said.choices[0].message.content, found) == ("hello", [[3.0]])


def test_one_of_an_endpoint_too_and_what_is_none_is_refused_at_once() -> None:
    with triocept.testing.serve(moderate=lambda texts: ["violence" for _ in texts]) as endpoint:
        with triocept.testing.fake_model(endpoint=endpoint, environ=False) as model:
            with model.client("openai_chat") as client:
                assert client.moderations.create(input="hi").results[0].categories.violence
        with pytest.raises(TypeError, match="embed must be a function of the texts"):
            with endpoint.open_rollout(embed=3):  # type: ignore[arg-type]
                pass
