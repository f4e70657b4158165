"""What providers have beside models, and no endpoint has: it says so, in the asking dialect's shape."""

import pytest

from tests.beside.test_embeddings import opened

OPENAI = [
    ("POST", "/v1/images/generations"),
    ("POST", "/images/edits"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/videos"),
    ("GET", "/v1/files"),
    ("DELETE", "/v1/files/file-1"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches/b/cancel"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/realtime/client_secrets"),
    ("GET", "/v1/vector_stores"),
]
GEMINI = [
    ("POST", "/v1beta/models/imagen-4:predict"),
    ("POST", "/v1beta/models/veo:predictLongRunning"),
    ("GET", "/v1beta/files"),
    ("POST", "/upload/v1beta/files"),
    ("POST", "/v1beta/cachedContents"),
]
OLLAMA = [("POST", "/api/generate"), ("POST", "/api/pull"), ("DELETE", "/api/delete")]
WORDS = "embeddings, moderations, token counts, and the list of models"


@pytest.mark.parametrize(("method", "path"), [*OPENAI, *GEMINI, *OLLAMA])
async def test_it_is_501_and_says_what_there_is(method: str, path: str) -> None:
    async with opened() as (_, client):
        answer = await client.request(method, path)
    assert answer.status_code == 501
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert isinstance(error, str) == ((method, path) in OLLAMA)
    message = error if isinstance(error, str) else error["message"]
    assert f"this endpoint has no path {path}: it answers only model calls" in message
    assert WORDS in message
    if (method, path) in GEMINI:
        assert error["code"] == 501


async def test_anthropics_are_said_in_its_own_shape() -> None:
    async with opened() as (_, client):
        answer = await client.post(
            "/v1/messages/batches", json={}, headers={"anthropic-version": "2023-06-01"}
        )
    assert answer.status_code == 501
    assert answer.json()["type"] == "error"
    assert WORDS in answer.json()["error"]["message"]


async def test_without_the_key_it_is_401() -> None:
    async with opened() as (_, client):
        answer = await client.post("/v1/images/generations", headers={"authorization": "Bearer sk-wrong"})
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/v1/imagesque", "/v1/nothing", "/v2/images", "/api/generated"])
async def test_what_no_provider_has_is_404(path: str) -> None:
    async with opened() as (_, client):
        assert (await client.post(path)).status_code == 404
