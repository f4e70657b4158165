"""Errors, in the shape and words of each dialect."""

from typing import Any

import pytest

from triocept._canonical.content import Json
from triocept._canonical.tokens import estimate_input_tokens
from triocept.dialects import DIALECTS, Failure, dialect
from triocept.dialects.kit import OVERFLOW, error_of
from triocept.errors import ContextLengthError, UpstreamError

CHAT, ANTHROPIC = "openai_chat", "anthropic_messages"


@pytest.mark.parametrize(("status", "kind", "code"), [
    (400, "invalid_request_error", None),
    (401, "invalid_request_error", "invalid_api_key"),
    (403, "permission_error", None),
    (404, "invalid_request_error", "model_not_found"),
    (413, "invalid_request_error", None),
    (422, "invalid_request_error", None),
    (429, "rate_limit_error", "rate_limit_exceeded"),
    (500, "server_error", None),
    (502, "server_error", None),
    (503, "server_error", "server_is_overloaded"),
])  # fmt: skip
def test_a_chat_error_has_the_type_and_code_of_its_status(status: int, kind: str, code: str | None) -> None:
    document = DIALECTS[CHAT].render_error(Failure(status=status, message="m", param="p"))
    assert document == {"error": {"message": "m", "type": kind, "param": "p", "code": code}}


@pytest.mark.parametrize(("status", "kind"), [
    (400, "invalid_request_error"),
    (401, "authentication_error"),
    (402, "billing_error"),
    (403, "permission_error"),
    (404, "not_found_error"),
    (409, "conflict_error"),
    (413, "request_too_large"),
    (422, "invalid_request_error"),
    (429, "rate_limit_error"),
    (500, "api_error"),
    (502, "api_error"),
    (504, "timeout_error"),
    (529, "overloaded_error"),
])  # fmt: skip
def test_an_anthropic_error_has_the_type_of_its_status(status: int, kind: str) -> None:
    document = DIALECTS[ANTHROPIC].render_error(Failure(status=status, message="m"))
    assert document.pop("request_id").startswith("req_")
    assert document == {"type": "error", "error": {"type": kind, "message": "m"}}


def test_a_code_of_ones_own_is_honored() -> None:
    failure = Failure(status=429, message="m", code="insufficient_quota")
    error = DIALECTS[CHAT].render_error(failure)["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")


OVERFLOWS = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "prompt is too long: 9000 tokens > 8192 maximum",
    "Input length (9000) exceeds model's maximum context length (8192).",
    "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
    "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
    "input length and `max_tokens` exceed context limit: 1000 + 8000 > 8192",
]


@pytest.mark.parametrize("name", [CHAT, ANTHROPIC])
@pytest.mark.parametrize("words", OVERFLOWS)
def test_an_overflow_in_anybodys_words_is_said_in_ones_own(name: str, words: str) -> None:
    failure = DIALECTS[name].parse_error(500, {"error": {"message": words}})
    assert (failure.status, failure.code) == (400, OVERFLOW)
    error = error_of(failure)
    assert isinstance(error, ContextLengthError)
    told = Failure(status=error.status, message=str(error))
    chat = DIALECTS[CHAT].render_error(told)["error"]
    assert chat["code"] == OVERFLOW
    assert "maximum context length is 8192 tokens" in chat["message"]
    anthropic = DIALECTS[ANTHROPIC].render_error(told)["error"]
    assert anthropic == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 9000 tokens > 8192 maximum",
    }


def test_an_overflow_without_numbers_is_one_too() -> None:
    failure = DIALECTS[CHAT].parse_error(400, {"error": {"message": "nope", "code": OVERFLOW}})
    told = Failure(status=400, message=str(error_of(failure)))
    assert DIALECTS[ANTHROPIC].render_error(told)["error"]["message"].startswith("prompt is too long")
    assert "maximum context length" in DIALECTS[CHAT].render_error(told)["error"]["message"]


def test_a_rate_limit_is_no_overflow_whatever_it_says_of_tokens() -> None:
    words = "Rate limit reached: reduce the length of the messages"
    failure = DIALECTS[CHAT].parse_error(429, {"error": {"message": words, "code": "rate_limit_exceeded"}})
    assert (failure.status, failure.code) == (429, "rate_limit_exceeded")
    assert type(error_of(failure)) is UpstreamError


@pytest.mark.parametrize(("document", "message"), [
    ({"error": {"message": "m", "type": "BadRequestError", "param": None, "code": 400}}, "m"),
    ({"object": "error", "message": "m", "type": "x", "code": 400}, "m"),
    ({"detail": "m"}, "m"),
    ({"detail": [{"msg": "m"}]}, '[{"msg":"m"}]'),
    ({"error": "m"}, "m"),
    ({"type": "error", "error": {"type": "api_error", "message": "m"}}, "m"),
    ("m", "m"),
    (None, "the provider answered 418"),
    ({}, "the provider answered 418"),
    (5, "5"),
])  # fmt: skip
@pytest.mark.parametrize("name", [CHAT, ANTHROPIC])
def test_any_error_document_is_read(name: str, document: Json, message: str) -> None:
    failure = DIALECTS[name].parse_error(418, document)
    assert (failure.status, failure.message) == (418, message)


@pytest.mark.parametrize("status", [0, 200, 999])
def test_a_status_that_says_no_failure_becomes_a_bad_gateway(status: int) -> None:
    assert DIALECTS[CHAT].parse_error(status, {}).status == 502


def test_a_dialect_that_does_not_exist_is_named_in_the_error() -> None:
    with pytest.raises(
        ValueError,
        match="no dialect 'esperanto'; the dialects are anthropic_messages, gemini, ollama, openai_chat",
    ):
        dialect("esperanto")
    assert dialect(CHAT) is DIALECTS[CHAT]


def test_the_documents_of_the_side_routes_are_complete() -> None:
    from anthropic.types import MessageTokensCount, ModelInfo
    from openai.types import Model

    from triocept.dialects.anthropic_messages import side
    from triocept.dialects.kit import render_models

    chat: Any = render_models(["a", "b"], created=5)
    assert [Model.model_validate(each).id for each in chat["data"]] == ["a", "b"]
    messages: Any = side.render_models(["a", "b"])
    assert [ModelInfo.model_validate(each).id for each in messages["data"]] == ["a", "b"]
    assert (messages["first_id"], messages["last_id"], messages["has_more"]) == ("a", "b", False)
    assert side.render_models([])["first_id"] is None
    document = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x" * 40}]}
    counted = side.render_token_count(estimate_input_tokens(DIALECTS[ANTHROPIC].parse_request(document)))
    assert MessageTokensCount.model_validate(counted).input_tokens == 10
