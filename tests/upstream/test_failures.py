"""Whatever a provider does wrong is an `UpstreamError` with a status that the agent can act on; the next call works."""

import json
import traceback
from typing import Any

import pytest
import trio

from tests.ports import refusing_port
from triocept import Exchange, Response, Text, UpstreamError, open_upstream
from triocept._upstream.relay import Relay
from triocept.dialects import DIALECTS
from triocept.errors import ContextLengthError, UpstreamTruncated

from .conftest import KEY, ask_roughly, base_of, staged
from .provider import (
    ALL,
    BODIES,
    CHAT,
    COMPLETIONS,
    END,
    GEMINI,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    Answer,
    Asked,
    answers,
    chunk,
    head,
    says,
    says_and_closes,
    streams,
    whole,
    wire_stream,
    wire_whole,
)

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
ERROR = b'{"error":{"message":"upset","type":"server_error","code":500}}'


class Keeping:
    """A handler that forwards, and keeps what the upstream raised."""

    def __init__(self) -> None:
        self.upstream: Any = None
        self.raised: list[UpstreamError] = []

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self.upstream(exchange)
        except UpstreamError as exc:
            self.raised.append(exc)
            raise


def first_then(first: Answer, dialect: str) -> Answer:
    """A provider that is bad once."""
    tried: list[int] = []

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        tried.append(1)
        await (first if len(tried) == 1 else answers(dialect))(asked, stream)

    return answer


async def bad_once(first: Answer, dialect: str, agent: str, *, stream: bool, **options: Any) -> Any:
    """What the agent and the program get of a provider that is bad once."""
    keeping = Keeping()
    with trio.fail_after(30):
        async with staged(first_then(first, dialect), dialect, handler=keeping, **options) as stage:
            keeping.upstream = stage.upstream
            answered = await stage.ask(agent, stream=stream)
            again = await stage.ask(agent, stream=stream)
    assert again.status_code == 200
    assert "rld" in again.text
    (raised,) = keeping.raised
    assert raised.upstream == stage.upstream.url
    assert raised.rollout == stage.rollout.id
    assert stage.upstream.url in str(raised)
    assert stage.rollout.id in str(raised)
    turn = stage.rollout.trace[0]
    assert turn.outcome == "refused"
    assert turn.error.type == type(raised).__name__
    return answered, raised


BAD: dict[str, tuple[bytes, int]] = {
    "a page": (whole(HTML, kind="text/html"), 502),
    "a page with a status": (whole(HTML, 503, kind="text/html"), 503),
    "nothing": (whole(b""), 502),
    "nothing with a status": (whole(b"", 500), 500),
    "broken JSON": (whole(b'{"id": "x", "choices'), 502),
    "JSON that is no answer": (whole(b'{"hello": [1, 2]}'), 502),
    "a list": (whole(b"[1]"), 502),
    "an error with the status of success": (whole(ERROR), 500),
    "a redirect": (whole(b"", 307, more="location: https://elsewhere.example/v1\r\n"), 502),
    "a length that is too long": (whole(b'{"id":', length=1000), 502),
    "a length that is too short": (whole(wire_whole(CHAT), length=20), 502),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 502),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-ty", 502),
    "no bytes": (b"", 502),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
async def test_what_is_no_answer_is_an_error_with_a_status(what: str, stream: bool, agent: str) -> None:
    data, status = BAD[what]
    answered, raised = await bad_once(says_and_closes(data), CHAT, agent, stream=stream)
    assert answered.status_code == raised.status == status
    assert answered.json()["error"]["message"]


async def test_a_redirect_is_not_followed_and_says_what_to_do() -> None:
    redirect = whole(b"", 301, more="location: https://elsewhere.example/v1\r\n")
    _, raised = await bad_once(says_and_closes(redirect), CHAT, CHAT, stream=False)
    assert "https://elsewhere.example/v1" in raised.message
    assert "base_url" in raised.message


async def test_a_page_is_shown_as_words() -> None:
    answered, _ = await bad_once(
        says_and_closes(whole(HTML, 502, kind="text/html")), CHAT, CHAT, stream=False
    )
    message = answered.json()["error"]["message"]
    assert "502 Bad Gateway" in message
    assert "<" not in message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 404])
async def test_a_page_in_place_of_an_answer_names_the_url_as_the_mistake(status: int, stream: bool) -> None:
    page = b"<!DOCTYPE html>\n<html><body><h1>Welcome</h1></body></html>"
    _, raised = await bad_once(
        says_and_closes(whole(page, status, kind="text/html")), CHAT, CHAT, stream=stream
    )
    assert "the answer is a web page, so this is not a model's server: correct the base URL" in raised.message
    assert ("'Welcome'" in raised.message) == (status == 404 or not stream)


async def test_a_provider_that_is_not_there_is_a_502() -> None:
    with refusing_port() as port:
        async with open_upstream(base_of(f"http://127.0.0.1:{port}", CHAT), dialect=CHAT) as upstream:
            how = "no connection to .*; start the server, or correct the base URL$"
            with pytest.raises(UpstreamError, match=how) as caught:
                await upstream.fetch(DIALECTS[CHAT].parse_request(BODIES[CHAT]))
    assert caught.value.status == 502


@pytest.mark.parametrize("dialect", ALL)
def test_a_stream_that_is_cut_at_any_byte_is_never_a_success(dialect: str) -> None:
    data = b"".join(wire_stream(dialect))
    for at in range(len(data)):
        relay = Relay(DIALECTS[dialect].stream_parser())
        relay.feed(data[:at])
        if relay.ended:
            assert not data[at:].strip()  # all that is missing is the last line feed
            continue
        try:
            relay.close()
        except UpstreamTruncated:
            continue
        # The reason is there and the end of the bytes was clean: so servers end that say no more.
        if dialect == OLLAMA:
            assert not data[at:].strip()
            continue
        assert dialect in (CHAT, COMPLETIONS, GEMINI)
        assert b'"finish_reason":"stop"' in data[:at] or b'"finishReason":"STOP"' in data[:at]


SHORT = "Hi"


@pytest.mark.once
@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
async def test_a_connection_that_is_cut_at_any_byte_is_never_a_success(dialect: str, agent: str) -> None:
    """Over sockets, chunked, as real servers stream: also behind the reason, up to the terminal event."""
    response = Response((Text(SHORT),), id="i", model="m", dialect=dialect)
    pieces = wire_stream(dialect, response)
    data = b"".join(pieces)
    cut = 0

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(data[:cut]))
        await stream.aclose()

    end = len(data.rstrip())
    async with staged(answer, dialect) as stage:
        for cut in (*range(0, end - 20, 29), *range(end - 20, end)):
            answered, complete = await ask_roughly(stage, agent)
            assert not complete or b"error" in answered.lower(), cut
            turn = stage.rollout.trace[-1]
            assert turn.outcome == "refused", cut
            assert turn.error.type == "UpstreamTruncated", cut


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    "rest", [b"", b"5\r\nabc", b"no chunk\r\n", b"\r\n"], ids=["a cut", "half a chunk", "no chunk", "no size"]
)
async def test_how_a_connection_ends_behind_a_whole_answer_is_nobodys_fault(
    dialect: str, agent: str, rest: bytes
) -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(wire_stream(dialect))) + rest)
        await stream.aclose()

    async with staged(answer, dialect) as stage:
        for number in range(2):
            answered, complete = await ask_roughly(stage, agent)
            assert complete
            assert b"rld" in answered
            assert stage.rollout.trace[number].outcome == "answered"


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("rest", [b"", b"no chunk\r\n", b"5\r\n"], ids=["a cut", "no chunk", "half a chunk"])
async def test_how_a_connection_ends_behind_a_whole_document_is_nobodys_fault(
    dialect: str, rest: bytes
) -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        document = wire_whole(dialect)
        await stream.send_all(
            head(kind="application/json") + chunk(document[:20]) + chunk(document[20:]) + rest
        )
        await stream.aclose()

    async with staged(answer, dialect) as stage:
        for number in range(2):
            answered = await stage.ask(CHAT)
            assert b"Hello, world." in answered.content
            assert stage.rollout.trace[number].outcome == "answered"
        assert stage.provider.connections == 2  # none is used again


@pytest.mark.parametrize("dialect", ALL)
async def test_a_document_without_its_last_byte_is_no_answer(dialect: str) -> None:
    data = head(kind="application/json") + chunk(wire_whole(dialect)[:-1])
    async with staged(says_and_closes(data), dialect) as stage:
        assert (await stage.ask(CHAT)).status_code == 502
    assert stage.rollout.trace[0].error.type == "UpstreamTruncated"


@pytest.mark.parametrize("dialect", ALL)
async def test_a_stream_that_breaks_in_the_middle_breaks_visibly(dialect: str) -> None:
    pieces = wire_stream(dialect)
    hel = next(number for number, piece in enumerate(pieces) if b"Hel" in piece)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(pieces[: hel + 1])) + END)

    keeping = Keeping()
    async with staged(answer, dialect, handler=keeping) as stage:
        keeping.upstream = stage.upstream
        for agent in (CHAT, MESSAGES, RESPONSES, GEMINI):
            data, complete = await ask_roughly(stage, agent)
            assert b"Hel" in data
            assert not complete
            assert b"error" in data
            assert b'"message_stop"' not in data
            assert b"[DONE]" not in data
    assert all(isinstance(exc, UpstreamTruncated) for exc in keeping.raised)
    assert len(keeping.raised) == 4


async def test_an_error_in_the_middle_of_a_stream_is_told_in_the_stream() -> None:
    first, second, *_ = wire_stream(MESSAGES)
    error = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    )
    text = wire_stream(MESSAGES)[2]

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(first + second + text) + chunk(error) + END)

    async with staged(answer, MESSAGES) as stage:
        data, complete = await ask_roughly(stage, MESSAGES)
        assert b'"overloaded_error","message":"Overloaded"' in data
        assert not complete
        data, complete = await ask_roughly(stage, CHAT)
        assert b"Overloaded" in data
        assert not complete


async def test_an_error_in_place_of_the_first_event_still_has_its_status() -> None:
    error = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    )

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b": wait\n\n") + chunk(error) + END)

    async with staged(answer, MESSAGES) as stage:
        answered = await stage.ask(MESSAGES, stream=True)
        assert (answered.status_code, answered.json()["error"]["type"]) == (529, "overloaded_error")


STATUSES = (400, 401, 403, 404, 413, 422, 429, 500, 503, 529)


@pytest.mark.parametrize("status", STATUSES)
async def test_the_providers_status_and_words_reach_the_agent_of_its_dialect_as_they_are(status: int) -> None:
    document = {
        "error": {"type": "usage_limit_reached", "message": "no", "resets_at": 17, "plan_type": "pro"}
    }
    body = json.dumps(document, indent=2).encode()
    more = "retry-after: 7\r\nx-ratelimit-remaining-requests: 0\r\nx-request-id: r1\r\n"
    async with staged(says(whole(body, status, more=more)), RESPONSES) as stage:
        for stream in (False, True):
            answered = await stage.ask(RESPONSES, stream=stream)
            assert answered.status_code == status
            assert answered.content == body
            assert answered.headers["retry-after"] == "7"
            assert answered.headers["x-ratelimit-remaining-requests"] == "0"
            assert answered.headers["x-request-id"] == "r1"


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("agent", [MESSAGES, GEMINI])
async def test_the_providers_status_and_words_reach_agents_of_other_dialects_in_their_own(
    status: int, agent: str
) -> None:
    body = json.dumps(
        {"error": {"type": "x", "code": "rate_limit_exceeded", "message": "slow down"}}
    ).encode()
    async with staged(says(whole(body, status, more="retry-after: 7\r\n")), CHAT) as stage:
        answered = await stage.ask(agent, stream=True)
    assert (answered.status_code, answered.headers["retry-after"]) == (status, "7")
    error = answered.json()["error"]
    assert error["message"] == "slow down"
    assert error.get("type") != "rate_limit_exceeded"
    assert error.get("status") != "rate_limit_exceeded"


@pytest.mark.parametrize(("status", "more"), [(404, ""), (405, ""), (301, "location: /v2\r\n")])
async def test_what_a_wrong_base_url_is_answered_with_says_what_was_asked(status: int, more: str) -> None:
    async with staged(says(whole(b"<h1>Nothing here</h1>", status, more=more)), CHAT) as stage:
        told = (await stage.ask(CHAT)).json()["error"]["message"]
    assert f"(request: POST {stage.provider.url}/v1/chat/completions)" in told


async def test_a_wait_that_gemini_tells_in_its_details_is_told_in_the_header() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]
    error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}
    with trio.fail_after(30):
        async with staged(says(whole(json.dumps({"error": error}).encode(), 429)), GEMINI) as stage:
            answered = await stage.ask(CHAT)
            assert (answered.status_code, answered.headers["retry-after"]) == (429, "17")


OVERFLOWS: dict[str, tuple[str, int, Any]] = {
    "OpenAI": (
        CHAT,
        400,
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
                "9000 tokens. Please reduce the length of the messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
    ),
    "Anthropic": (MESSAGES, 400,
     {"type": "error",
      "error": {"type": "invalid_request_error", "message": "prompt is too long: 9000 tokens > 8192 maximum"}}),
    "Gemini": (GEMINI, 400,
     {"error": {"code": 400,
       "message": "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
       "status": "INVALID_ARGUMENT"}}),
    "vLLM": (CHAT, 400,
     {"error": {"message": "Input length (9000) exceeds model's maximum context length (8192).",
       "type": "BadRequestError", "param": None, "code": 400}}),
    "SGLang": (CHAT, 400,
     {"object": "error",
      "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
      "type": "BadRequestError", "param": None, "code": 400}),
    "llama.cpp": (CHAT, 400,
     {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192,
       "message": "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"}}),
    "old llama.cpp": (CHAT, 500,
     {"error": {"code": 500, "message": "the request exceeds the available context size, try increasing it"}}),
}  # fmt: skip


@pytest.mark.parametrize("server", OVERFLOWS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_overflow_reaches_every_agent_in_the_words_that_make_it_compact(
    server: str, stream: bool
) -> None:
    dialect, status, document = OVERFLOWS[server]
    keeping = Keeping()
    answer = says(whole(json.dumps(document).encode(), status))
    counted = server != "old llama.cpp"
    async with staged(answer, dialect, handler=keeping) as stage:
        keeping.upstream = stage.upstream
        told = {agent: await stage.ask(agent, stream=stream) for agent in (CHAT, RESPONSES, MESSAGES, GEMINI)}
    assert all(isinstance(exc, ContextLengthError) for exc in keeping.raised)
    assert {answered.status_code for answered in told.values()} == {400}
    assert not any("retry-after" in answered.headers for answered in told.values())
    for agent in (CHAT, RESPONSES):
        error = told[agent].json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert "maximum context length" in error["message"]
        assert not counted or "maximum context length is 8192 tokens" in error["message"]
    message = told[MESSAGES].json()["error"]["message"]
    assert message.startswith(
        "prompt is too long: 9000 tokens > 8192 maximum" if counted else "prompt is too long"
    )
    message = told[GEMINI].json()["error"]["message"]
    assert "exceeds the maximum number of tokens allowed" in message
    assert not counted or "(9000)" in message


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES, GEMINI])
async def test_an_answer_that_ended_for_no_known_reason_is_not_taken_for_the_words_of_an_error(
    dialect: str,
) -> None:
    body = wire_whole(dialect)
    for good, bad in (
        (b'"stop"', b'"odd"'),
        (b'"status": "completed"', b'"status": "odd"'),
        (b'"STOP"', b'"ODD"'),
    ):
        body = body.replace(good, bad)
    answered, raised = await bad_once(says(whole(body)), dialect, dialect, stream=False)
    assert answered.status_code == raised.status == 502
    assert "error" in answered.json()
    assert "Hello" not in answered.text


async def test_a_rate_limit_that_speaks_of_tokens_is_no_overflow() -> None:
    body = b'{"error":{"message":"Rate limit reached: maximum context length of tokens per min","code":"x"}}'
    answered, raised = await bad_once(says(whole(body, 429)), CHAT, CHAT, stream=False)
    assert not isinstance(raised, ContextLengthError)
    assert answered.status_code == 429


async def test_a_key_that_the_provider_repeats_is_not_repeated() -> None:
    body = json.dumps(
        {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}
    )
    answered, raised = await bad_once(says(whole(body.encode(), 401)), CHAT, CHAT, stream=False)
    assert KEY not in answered.text + str(raised) + repr(vars(raised))
    answered, raised = await bad_once(says(whole(body.encode(), 401)), CHAT, MESSAGES, stream=False)
    assert KEY not in answered.text + str(raised) + repr(vars(raised))


@pytest.mark.parametrize("api_key", ["a", "x", "1", "test", "dummy", "context", "completi"])
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
async def test_a_key_that_is_no_secret_leaves_an_error_as_it_is(api_key: str, agent: str) -> None:
    words = "a test failed in completions, the dummy context is exhausted: at most 8192 completion tokens, x1 of 1"
    body = json.dumps({"error": {"message": words, "type": "server_error", "code": "x"}}).encode()
    answered, raised = await bad_once(says(whole(body, 500)), CHAT, agent, stream=False, api_key=api_key)
    assert raised.message == words
    assert raised.body.encode() == body
    assert answered.json()["error"]["message"] == words


@pytest.mark.parametrize("api_key", ["a", "x", "1", "maximum"])
async def test_an_overflow_is_told_as_one_whatever_the_key(api_key: str) -> None:
    words = "This model's maximum context length is 8192 tokens. However, your messages have 9001 tokens."
    body = json.dumps({"error": {"message": words, "code": "context_length_exceeded"}}).encode()
    answered, raised = await bad_once(says(whole(body, 400)), CHAT, MESSAGES, stream=False, api_key=api_key)
    assert isinstance(raised, ContextLengthError)
    assert raised.message == words
    assert "prompt is too long: 9001 tokens > 8192" in answered.text


@pytest.mark.parametrize("api_key", ["required", "sk-12345"])
async def test_a_short_key_is_taken_out_where_it_is_a_word_of_its_own(api_key: str) -> None:
    words = f"unrequired, {api_key}s and {api_key}_2 are words; {api_key}, '{api_key}' are the key"
    body = json.dumps({"error": {"message": words, "type": "server_error"}}).encode()
    _, raised = await bad_once(says(whole(body, 500)), CHAT, CHAT, stream=False, api_key=api_key)
    assert raised.message == (
        f"unrequired, {api_key}s and {api_key}_2 are words; [redacted], '[redacted]' are the key"
    )


@pytest.mark.parametrize("api_key", ['sk-"quoted/\\-012345', "\\u0041bcdefgh", '"message":', "null}]},"])
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
async def test_a_key_is_taken_out_of_the_strings_of_an_error_and_never_out_of_its_json(
    api_key: str, agent: str
) -> None:
    details = {"headers": [{"authorization": f"Bearer {api_key}"}], "n": 8192, "left": None}
    document = {"error": {"message": f"no such key: {api_key}", "type": "auth", "details": details}}
    answered, raised = await bad_once(
        says(whole(json.dumps(document).encode(), 401)), CHAT, agent, stream=False, api_key=api_key
    )
    said = json.loads(raised.body)["error"]
    assert said["message"] == "no such key: [redacted]"
    assert said["details"] == {**details, "headers": [{"authorization": "Bearer [redacted]"}]}
    assert answered.json()["error"]["message"] == "no such key: [redacted]"


async def test_a_key_is_taken_out_before_a_page_is_cut() -> None:
    page = b"<p>" + b"x " * 95 + KEY.encode() + b" is no key</p>"
    _, raised = await bad_once(says(whole(page, 503, kind="text/html")), CHAT, CHAT, stream=False)
    assert KEY[:6] not in str(raised) + raised.body
    assert "[redact" in str(raised)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_error_was_made_from_does_not_hold_the_key_either(stream: bool) -> None:
    body = json.dumps({"error": {"message": f"Incorrect key{KEY}s", "code": "invalid_api_key"}}).encode()
    said = head() + chunk(b"data: " + body + b"\n\n") + END if stream else whole(body)
    _, raised = await bad_once(says(said), CHAT, CHAT, stream=stream)
    assert "Incorrect key[redacted]s" in raised.message
    assert KEY not in "".join(traceback.format_exception(raised))


async def test_silence_is_a_504_after_the_time_that_is_allowed() -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    for options in ({"read_timeout": 0.1}, {"total_timeout": 0.1}):
        answered, raised = await bad_once(answer, CHAT, CHAT, stream=True, **options)
        assert answered.status_code == raised.status == 504


async def test_the_total_time_counts_in_the_middle_of_a_stream_too() -> None:
    pieces = wire_stream(CHAT)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(pieces[:3])))
        await trio.sleep_forever()

    with trio.fail_after(30):
        async with staged(answer, CHAT, total_timeout=2) as stage:
            data, complete = await ask_roughly(stage, CHAT)
    assert b"Hel" in data
    assert not complete
    assert stage.rollout.trace[0].error.status == 504


@pytest.mark.parametrize(("failure", "tries"), [
    (whole(ERROR, 500), 3),
    (whole(ERROR, 429, more="retry-after: 0\r\n"), 3),
    (whole(ERROR, 503, more="retry-after-ms: 1\r\n"), 3),
    (b"", 3),
    (whole(ERROR, 500, more="x-should-retry: false\r\n"), 1),
    (whole(ERROR, 429, more="retry-after: 3600\r\n"), 1),
    (whole(ERROR, 400), 1),
    (whole(b'{"error":{"message":"pay","code":"insufficient_quota"}}', 429), 1),
    (whole(b'{"error":{"message":"maximum context length","code":"context_length_exceeded"}}', 500), 1),
])  # fmt: skip
async def test_a_call_is_tried_again_before_its_first_byte_if_that_may_help(
    failure: bytes, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._upstream.patience.FIRST_PAUSE", 0.001)
    count: list[int] = []

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        count.append(1)
        await (says_and_closes(failure) if len(count) < 3 else answers(CHAT))(asked, stream)

    async with staged(answer, CHAT, retries=5) as stage:
        answered = await stage.ask(CHAT, stream=True)
    assert len(count) == tries
    assert (answered.status_code == 200) == (tries == 3)
    assert len(stage.rollout.trace) == 1


async def test_a_stream_that_has_begun_is_not_tried_again() -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(wire_stream(CHAT)[:3])))
        await stream.aclose()

    async with staged(answer, CHAT, retries=5) as stage:
        _, complete = await ask_roughly(stage, CHAT)
    assert not complete
    assert len(stage.provider.asked) == 1


async def test_what_the_providers_dialect_cannot_say_is_refused_and_the_rollout_lives_on() -> None:
    tools = [{"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}]
    async with staged(answers(COMPLETIONS), COMPLETIONS) as stage:
        answered = await stage.ask(CHAT, tools=tools)
        assert answered.status_code == 400
        assert "openai_completions" in answered.json()["error"]["message"]
        assert (await stage.ask(CHAT)).status_code == 200
    assert len(stage.provider.asked) == 1


@pytest.mark.parametrize(("base_url", "options"), [
    ("api.openai.com/v1", {}),
    ("ftp://api.openai.com/v1", {}),
    ("https://user:secret@api.openai.com/v1", {}),
    ("http://localhost/v1", {"dialect": "openai"}),
    ("http://localhost/v1", {"concurrency": 0}),
    ("http://localhost/v1", {"retries": -1}),
    ("http://localhost/v1", {"tokens": "tgi", "model": "m"}),
    ("http://localhost/v1", {"tokens": "vllm"}),
    ("http://localhost", {"tokens": "vllm", "model": "m", "dialect": MESSAGES}),
])  # fmt: skip
async def test_what_cannot_be_opened_says_why(base_url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w+") as caught:
        async with open_upstream(base_url, **{"dialect": CHAT, **options}):
            pass
    assert "secret" not in str(caught.value)


async def test_a_response_without_a_status_is_an_answer() -> None:
    """OpenAI's schema does not require it."""
    document = json.loads(wire_whole(RESPONSES))
    for words in ({}, {"incomplete_details": {"reason": "max_output_tokens"}}):
        body = json.dumps({**{k: v for k, v in document.items() if k != "status"}, **words}).encode()
        async with staged(says(whole(body)), RESPONSES) as stage:
            assert (await stage.ask(RESPONSES)).status_code == 200
        response = stage.rollout.trace[0].response
        assert response.text == "Hello, world."
        assert response.stop_reason == ("max_tokens" if words else "end")
    async with staged(says(whole(b'{"id":"r"}')), RESPONSES) as stage:
        assert (await stage.ask(RESPONSES)).status_code == 502


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("agent", [RESPONSES, MESSAGES])
async def test_a_stream_that_nobody_asked_for_is_the_answer_that_it_amounts_to(
    dialect: str, agent: str
) -> None:
    """transformers serve streams a response unless it is told not to."""
    async with staged(streams(dialect), dialect) as stage:
        answered = await stage.ask(agent)
    assert answered.headers["content-type"] == "application/json"
    assert "Hello, world." in answered.text
    response = stage.rollout.trace[0].response
    assert response.text == "Hello, world."


async def test_a_stream_that_nobody_asked_for_and_that_breaks_off_is_a_failure() -> None:
    broken = head() + b"".join(map(chunk, wire_stream(CHAT)[:3])) + END
    async with staged(says(broken), CHAT) as stage:
        assert (await stage.ask(CHAT)).status_code == 502


async def test_the_first_failure_of_a_provider_is_said_in_the_log_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with staged(says(whole(b"no", status=401)), dialect=CHAT) as stage:
        for _ in range(3):
            assert (await stage.ask(CHAT)).status_code == 401
    told = [record for record in caplog.records if record.name == "triocept.upstream"]
    assert [record.levelname for record in told] == ["WARNING"]
    message = told[0].getMessage()
    assert message.startswith(f"401 from {stage.provider.url}")
    assert f"for rollout {stage.rollout.id}" in message


async def test_a_prompt_that_is_too_long_is_no_failure_to_be_said(caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"error":{"code":"context_length_exceeded","message":"maximum context length is 8 tokens"}}'
    async with staged(says(whole(body, status=400)), dialect=CHAT) as stage:
        assert (await stage.ask(CHAT)).status_code == 400
    assert "triocept.upstream" not in {record.name for record in caplog.records}
