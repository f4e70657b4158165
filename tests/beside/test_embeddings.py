"""Embeddings, in every dialect that has them: what they are, what the program gives, and what goes wrong."""

import base64
import math
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import bearer
from triocept import JSONLRecorder, Refusal, Rollout, read_traces, serve_endpoint
from triocept._rollout import embedding
from triocept._rollout.embedding import embed

EMBED = "/v1/embeddings"
PATHS = {
    EMBED: lambda text: {"model": "m", "input": text},
    "/api/embed": lambda text: {"model": "m", "input": text},
    "/api/embeddings": lambda text: {"model": "m", "prompt": text},
    "/v1beta/models/m:embedContent": lambda text: {"content": {"parts": [{"text": text}]}},
    "/v1beta/models/m:batchEmbedContents": lambda text: {
        "requests": [{"model": "models/m", "content": {"parts": [{"text": text}]}}]
    },
}


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[Rollout, httpx2.AsyncClient]]:
    """A rollout with these options, and a client that has its key; paths begin at the rollout."""
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(id="r", **options) as rollout:
            base = f"{endpoint.url}/rollout/r"
            async with httpx2.AsyncClient(base_url=base, headers=bearer(rollout), timeout=None) as client:
                yield rollout, client


def vector_in(answer: Any) -> list[float]:
    """The first vector of an answer, whatever the dialect."""
    match answer:
        case {"data": [{"embedding": vector}, *_]} | {"embeddings": [{"values": vector}, *_]}:
            return list(vector)
        case {"embeddings": [vector, *_]} | {"embedding": {"values": vector}} | {"embedding": vector}:
            return list(vector)
    raise AssertionError(answer)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def vectors_of(client: httpx2.AsyncClient, *texts: str, **more: Any) -> list[list[float]]:
    answer = await client.post(EMBED, json={"model": "m", "input": list(texts), **more})
    return [each["embedding"] for each in answer.json()["data"]]


@pytest.mark.usefixtures("every_way")
async def test_equal_texts_have_equal_vectors_of_unit_length_whatever_the_dialect() -> None:
    async with opened() as (_, client):
        found = [
            vector_in((await client.post(path, json=document("Hello, world!"))).json())
            for path, document in PATHS.items()
        ]
    assert [len(vector) for vector in found] == [1536] * 5
    assert all(vector == found[0] for vector in found)
    assert math.isclose(math.hypot(*found[0]), 1, abs_tol=1e-6)


async def test_vectors_are_the_same_in_every_release() -> None:
    """Who keeps them in a file beside the tests must find the same again."""
    async with opened() as (_, client):
        (vector,) = await vectors_of(client, "a cat", dimensions=4)
    assert vector == pytest.approx(VECTOR, abs=1e-7)


VECTOR = [0.717137158, 0.358568579, -0.358568579, 0.478091449]


async def test_texts_that_share_words_are_nearer_than_others() -> None:
    async with opened() as (_, client):
        question, near, far, inflected = await vectors_of(
            client,
            "What is the refund policy for developers?",
            "Our refund policy: the developer gets money back.",
            "Bananas ripen faster beside apples.",
            "refunds and policies of developer",
        )
    assert cosine(question, near) > 0.4 > 0.2 > abs(cosine(question, far))
    assert cosine(question, inflected) > cosine(question, far)


async def test_only_equal_texts_have_a_cosine_of_1() -> None:
    async with opened() as (_, client):
        one, other, same = await vectors_of(client, "dog bites man", "Man bites dog", "dog bites man")
    assert cosine(one, same) == pytest.approx(1, abs=1e-6)
    assert 0.9 < cosine(one, other) < 0.999


async def test_base64_and_floats_say_the_same() -> None:
    async with opened() as (_, client):
        (floats,) = await vectors_of(client, "hi", dimensions=7, encoding_format="float")
        (packed,) = await vectors_of(client, "hi", dimensions=7, encoding_format="base64")
        (unsaid,) = await vectors_of(client, "hi", dimensions=7)
    assert list(struct.unpack("<7f", base64.b64decode(str(packed)))) == floats == unsaid


async def test_what_is_asked_is_counted_and_recorded() -> None:
    document = {"model": "m-3", "input": ["a text of eight words or so, is it"], "dimensions": 3}
    async with opened() as (rollout, client):
        answer = (await client.post(EMBED, json=document)).json()
    assert answer["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    assert (answer["object"], answer["model"], answer["data"][0]["index"]) == ("list", "m-3", 0)
    (call,) = rollout.trace.services
    assert (call.kind, call.name, call.outcome, call.arguments) == ("embeddings", "m-3", "answered", document)
    assert call.result == {"vectors": 1, "dimensions": 3, "prompt_tokens": 8}
    assert len(rollout.trace) == 0


async def test_it_stands_in_the_file_and_is_read_again(tmp_path: Any) -> None:
    path = tmp_path / "traces.jsonl"
    async with opened(recorder=JSONLRecorder(path)) as (rollout, client):
        await vectors_of(client, "hi")
    (trace,) = read_traces(path)
    assert trace.services == rollout.trace.services
    assert trace.services[0].kind == "embeddings"


async def test_tokens_are_embedded_by_their_ids() -> None:
    async with opened() as (_, client):
        answers = [
            (await client.post(EMBED, json={"model": "m", "input": tokens})).json()
            for tokens in ([5, 6, 7], [[5, 6, 7], [5, 6, 8], [900]])
        ]
    (alone,) = (each["embedding"] for each in answers[0]["data"])
    same, near, far = (each["embedding"] for each in answers[1]["data"])
    assert alone == same
    assert cosine(same, near) > 0.5 > abs(cosine(same, far))
    assert [answer["usage"]["prompt_tokens"] for answer in answers] == [3, 7]


async def test_very_much_text_holds_up_nobody_else() -> None:
    turns = 0

    async def go_round() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_round)
        (vector,) = await embed(None, (" ".join(f"word{number}" for number in range(50_000)),), None)
        nursery.cancel_scope.cancel()
    assert len(vector) == 1536
    assert turns > 5


# The program's own


async def of_length(texts: Sequence[str]) -> list[list[float]]:
    return [[len(text), 1.0] for text in texts]


async def test_a_function_of_the_program_gives_the_vectors_sync_or_async() -> None:
    for function in (of_length, lambda texts: [[len(text), 1.0] for text in texts]):
        async with opened(embed=function) as (_, client):
            assert await vectors_of(client, "one", "three") == [[3, 1], [5, 1]]
            tokens = await client.post(EMBED, json={"model": "m", "input": [12, 3]})
    assert vector_in(tokens.json()) == [len("12 3"), 1]


async def test_a_rollouts_function_comes_before_its_endpoints_and_a_child_has_its_parents() -> None:
    async def one(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0]]

    async with serve_endpoint(embed=one) as endpoint:
        async with endpoint.open_rollout() as first, endpoint.open_rollout(embed=of_length) as second:
            async with second.open_child() as child, httpx2.AsyncClient(timeout=None) as client:
                for rollout, vector in ((first, [1]), (second, [2, 1]), (child, [2, 1])):
                    answer = await client.post(
                        f"{endpoint.url}{EMBED}", headers=bearer(rollout), json={"model": "m", "input": "hi"}
                    )
                    assert vector_in(answer.json()) == vector


async def test_what_the_function_raises_is_its_owners_and_the_agent_gets_500() -> None:
    def broken(texts: Sequence[str]) -> list[list[float]]:
        raise KeyError("secret")

    with pytest.raises(KeyError, match="secret"):
        async with opened(embed=broken) as (rollout, client):
            with trio.CancelScope(shield=True):
                answer = await client.post(EMBED, json={"model": "m", "input": "hi"})
            await trio.sleep_forever()
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the program that answers this call failed (KeyError)"
    (call,) = rollout.trace.services
    assert (call.outcome, call.error and call.error.type) == ("failed", "KeyError")


async def test_a_refusal_is_an_answer() -> None:
    async def full(texts: Sequence[str]) -> list[list[float]]:
        raise Refusal(429, "not so fast", retry_after=2)

    async with opened(embed=full) as (rollout, client):
        answer = await client.post(EMBED, json={"model": "m", "input": "hi"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert [call.outcome for call in rollout.trace.services] == ["refused"]


@pytest.mark.parametrize(("given", "words"), [
    (3, "returns a vector for each text; it returned int: 3"),
    ([], r"a vector for each text, 1 in all; it returned 0"),
    ([[1.0], [2.0]], r"a vector for each text, 1 in all; it returned 2"),
    ([["x"]], "returns a vector for each text; it returned list"),
    ([[]], "all have the same size"),
    ([[1.0, 2.0]], "vectors of 2 numbers, but the agent requested vectors of 3"),
    ([[1.0, 2.0, 1e300]], "finite numbers"),
])  # fmt: skip
async def test_a_function_that_gives_something_else_is_told_so(given: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        async with opened(embed=lambda texts: given) as (_, client):
            await client.post(EMBED, json={"model": "m", "input": "hi", "dimensions": 3})
            await trio.sleep_forever()


async def test_the_function_is_cancelled_when_its_agent_hangs_up() -> None:
    begun, ended = trio.Event(), trio.Event()

    async def asleep(texts: Sequence[str]) -> list[list[float]]:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    async with opened(embed=asleep) as (rollout, client), trio.open_nursery() as nursery:
        nursery.start_soon(vectors_of, client, "hi")
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await ended.wait()
    assert [call.outcome for call in rollout.trace.services] == ["abandoned"]


@pytest.mark.parametrize("given", [3, "text-embedding-3-small", dict, lambda: [[1.0]], lambda a, b: [[1.0]]])
async def test_what_can_be_no_embed_is_refused_at_once(given: Any) -> None:
    with pytest.raises(TypeError, match="embed must be a function of the texts"):
        async with serve_endpoint(embed=given):
            pass
    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match="embed must be a function of the texts"):
            async with endpoint.open_rollout(embed=given):
                pass


# Bad input


@pytest.mark.parametrize(("document", "param"), [
    ({"input": "hi"}, "model"),
    ({"model": "m"}, "input"),
    ({"model": "m", "input": ""}, "input"),
    ({"model": "m", "input": []}, "input"),
    ({"model": "m", "input": 3}, "input"),
    ({"model": "m", "input": ["a", ""]}, "input[1]"),
    ({"model": "m", "input": ["a", 3]}, "input[1]"),
    ({"model": "m", "input": ["a", []]}, "input[1]"),
    ({"model": "m", "input": [[1, "a"]]}, "input[0][1]"),
    ({"model": "m", "input": [[True]]}, "input[0][0]"),
    ({"model": "m", "input": ["a"] * 2049}, "input"),
    ({"model": "m", "input": "a", "dimensions": 0}, "dimensions"),
    ({"model": "m", "input": "a", "dimensions": 4097}, "dimensions"),
    ({"model": "m", "input": "a", "dimensions": "many"}, "dimensions"),
    ({"model": "m", "input": "a", "encoding_format": "hex"}, "encoding_format"),
])  # fmt: skip
async def test_what_cannot_be_embedded_is_a_400_that_names_the_place(
    document: dict[str, Any], param: str
) -> None:
    async with opened() as (rollout, client):
        answer = await client.post(EMBED, json=document)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["type"]) == (
        param,
        "invalid_request_error",
    )
    assert rollout.trace.services == ()


@pytest.mark.parametrize(("path", "document", "words"), [
    ("/v1beta/models/m:embedContent", {}, "content"),
    ("/v1beta/models/m:embedContent", {"content": {"parts": []}}, "content.parts"),
    ("/v1beta/models/m:embedContent",
     {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}},
     "content.parts[0]: must be text"),
    ("/v1beta/models/m:batchEmbedContents", {"requests": []}, "requests"),
    ("/v1beta/models/m:batchEmbedContents", {"requests": [3]}, "requests[0]"),
    ("/v1beta/models/m:batchEmbedContents",
     {"requests": [{"content": {"parts": [{"text": "a"}]}, "outputDimensionality": size} for size in (1, 2)]},
     "requests[1].outputDimensionality"),
    ("/api/embed", {"model": "m", "input": ["a", 3]}, "input[1]"),
    ("/api/embed", {"input": "a"}, "model"),
    ("/api/embeddings", {"model": "m", "prompt": ["a"]}, "prompt"),
])  # fmt: skip
async def test_other_dialects_name_the_place_in_their_own_errors(
    path: str, document: dict[str, Any], words: str
) -> None:
    async with opened() as (_, client):
        answer = await client.post(path, json=document)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert words in (error if isinstance(error, str) else error["message"])
    assert path.startswith("/api") == isinstance(error, str)


async def test_ollama_answers_nothing_with_nothing() -> None:
    """So a program has a model loaded."""
    async with opened() as (_, client):
        new = await client.post("/api/embed", json={"model": "m", "input": []})
        old = await client.post("/api/embeddings", json={"model": "m"})
    assert (new.json()["embeddings"], old.json()["embedding"]) == ([], [])


@pytest.mark.parametrize("path", PATHS)
async def test_it_wants_the_rollouts_key(path: str) -> None:
    async with opened() as (rollout, client):
        answer = await client.post(
            path, json=PATHS[path]("hi"), headers={"authorization": "Bearer sk-wrong", "x-api-key": ""}
        )
    assert answer.status_code == 401
    assert rollout.trace.services == ()


async def test_a_rollout_that_has_ended_embeds_nothing() -> None:
    async with opened() as (rollout, client):
        await rollout.stop("enough")
        answer = await client.post(EMBED, json={"model": "m", "input": "hi"})
    assert answer.status_code >= 400
    assert rollout.trace.services == ()


async def test_long_texts_whose_calls_were_cancelled_keep_no_other_thread_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = [], threading.Event()

    def slow(said: str, dimensions: int) -> list[float]:
        begun.append(said[0])
        go_on.wait(20)
        return [1.0]

    monkeypatch.setattr(embedding, "vector_of", slow)
    threads = int(trio.to_thread.current_default_thread_limiter().total_tokens)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(threads + 2):
                nursery.start_soon(embed, None, ["a" * 60_000, "b"], None)
            await trio.testing.wait_all_tasks_blocked()
            while begun != ["a", "a"]:  # two threads have started
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        with trio.fail_after(30):
            await trio.to_thread.run_sync(lambda: None)
    finally:
        go_on.set()
    vectors = await embed(None, ["c" * 60_000, "d"], None)  # waits for the threads that were abandoned
    assert vectors == [[1.0], [1.0]]
    assert sorted(begun) == ["a", "a", "c", "d"]
