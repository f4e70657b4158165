"""In the provider's own dialect: the document goes up as it came, the answer comes down byte for byte."""

import json
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import ask, raw_request
from tests.server.test_websocket import create, dialled, said
from triocept import (
    Request,
    Response,
    Text,
    ToolCall,
    Trace,
    Turn,
    UpstreamError,
    Usage,
    open_upstream,
    serve_endpoint,
)
from triocept._server.delivery import _Streamed
from triocept._upstream import relay
from triocept._upstream.chunked import ChunkedDecoder
from triocept._upstream.relay import Frames, Relay
from triocept.dialects import DIALECTS
from triocept.errors import DialectError
from triocept.types import PartDelta, Sampling, events_of

from .conftest import KEY, Stage, ask_roughly, begin_to_read, staged
from .provider import (
    ALL,
    CHAT,
    COMPLETIONS,
    END,
    GEMINI,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    USAGE,
    Asked,
    answers,
    body_of,
    chunk,
    head,
    says,
    streams,
    whole,
    wire_stream,
    wire_whole,
)


@pytest.mark.parametrize("dialect", ALL)
async def test_a_streamed_answer_comes_down_byte_for_byte(dialect: str) -> None:
    comment = [] if dialect == OLLAMA else [b": a comment\r\n\r\n"]
    pieces = [*comment, *wire_stream(dialect)]

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(chunk(piece) for piece in pieces) + END)

    async with staged(answer, dialect) as stage:
        answered = await stage.ask(dialect, stream=True)
    assert answered.content == b"".join(pieces)
    (turn,) = stage.rollout.trace
    usage = turn.response.usage
    assert (turn.response.text, usage.input_tokens, usage.output_tokens) == ("Hello, world.", 11, 7)


@pytest.mark.parametrize("dialect", ALL)
async def test_a_whole_answer_comes_down_byte_for_byte(dialect: str) -> None:
    body = wire_whole(dialect)
    async with staged(says(whole(body)), dialect) as stage:
        answered = await stage.ask(dialect)
    assert answered.content == body
    assert stage.rollout.trace[0].response.text == "Hello, world."


@pytest.mark.parametrize("dialect", ALL)
async def test_the_agents_document_goes_up_as_it_came(dialect: str) -> None:
    more = {"zebra": {"b": 1, "a": [None, 2.5, "\u00e9"]}, "apple": True}
    async with staged(answers(dialect), dialect) as stage:
        for stream in (False, True):
            await stage.ask(dialect, stream=stream, **more)
    for asked, stream in zip(stage.provider.asked, (False, True), strict=True):
        assert list(asked.document.items()) == list(body_of(dialect, stream=stream, **more).items())
        assert list(asked.document["zebra"]) == ["b", "a"]


async def test_what_is_overridden_is_changed_and_nothing_else() -> None:
    options: dict[str, Any] = {"model": "real", "extra_body": {"seed": 7, "metadata": {"b": 2}, "user": None}}
    with trio.fail_after(30):
        async with staged(answers(CHAT), CHAT, **options) as stage:
            await stage.ask(CHAT, metadata={"a": "1"}, user="me", top_a=0.5)
    assert stage.provider.asked[0].document == {
        **body_of(CHAT), "model": "real", "metadata": {"a": "1", "b": 2}, "top_a": 0.5, "seed": 7,
    }  # fmt: skip


async def test_overridden_sampling_leaves_no_second_name_of_the_same_thing() -> None:
    with trio.fail_after(30):
        async with staged(
            answers(CHAT), CHAT, sampling=Sampling(max_output_tokens=5, temperature=0)
        ) as stage:
            await stage.ask(CHAT, max_tokens=100, temperature=1, top_a=0.5)
    document = stage.provider.asked[0].document
    assert (document["max_tokens"], document["temperature"], document["top_a"]) == (5, 0, 0.5)
    assert "max_completion_tokens" not in document


PLACES: dict[str, tuple[str, ...]] = {GEMINI: ("generationConfig",), OLLAMA: ("options",)}


@pytest.mark.parametrize("dialect", ALL)
async def test_the_turn_says_at_which_temperature_it_was_asked(dialect: str) -> None:
    """The agent's, the upstream's, that of fields in the provider's own words; none is None, and the provider's own."""
    own: Any = {"temperature": 0.5}
    for name in PLACES.get(dialect, ()):
        own = {name: own}
    none: Any = {name: {"temperature": None} for name in PLACES.get(dialect, ())} or {"temperature": None}
    told = []
    for options, asked in (
        ({}, own),
        ({}, {}),
        ({"sampling": Sampling(temperature=0.25)}, own),
        ({"extra_body": own}, {}),
        ({"sampling": Sampling(temperature=0.25), "extra_body": none}, {}),
    ):
        async with staged(answers(dialect), dialect, **options) as stage:
            await stage.ask(dialect, **asked)
        (turn,) = stage.rollout.trace
        told.append(turn.temperature)
    assert told == [0.5, None, 0.25, 0.5, None]


async def test_the_temperature_of_a_turn_is_the_one_that_the_providers_dialect_can_say() -> None:
    async with staged(answers(MESSAGES), MESSAGES) as stage:
        await stage.ask(CHAT, temperature=1.5)
        await stage.ask(CHAT, stream=True, temperature=1.5)
    async with staged(says(whole(b"{}", 500)), CHAT) as failing:
        await failing.ask(CHAT, temperature=1)
    assert [turn.temperature for turn in stage.rollout.trace] == [1.0, 1.0]
    assert stage.rollout.trace[0].request.sampling.temperature == 1.5
    assert [turn.temperature for turn in failing.rollout.trace] == [1.0]


async def test_the_path_of_gemini_names_the_overriding_model() -> None:
    async with staged(answers(GEMINI), GEMINI, model="real") as stage:
        await stage.ask(GEMINI, stream=True)
    assert stage.provider.asked[0].target == "/v1beta/models/real:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(("dialect", "name", "value"), [
    (CHAT, "authorization", f"Bearer {KEY}"),
    (COMPLETIONS, "authorization", f"Bearer {KEY}"),
    (RESPONSES, "authorization", f"Bearer {KEY}"),
    (MESSAGES, "x-api-key", KEY),
    (GEMINI, "x-goog-api-key", KEY),
    (OLLAMA, "authorization", f"Bearer {KEY}"),
])  # fmt: skip
async def test_the_key_is_sent_as_the_provider_wants_it_and_the_agents_key_never(
    dialect: str, name: str, value: str
) -> None:
    async with staged(answers(dialect), dialect) as stage:
        await stage.ask(dialect)
    headers = stage.provider.asked[0].headers
    assert headers[name] == value
    assert stage.rollout.api_key not in repr(stage.provider.asked)
    assert KEY not in repr(stage.upstream)
    assert KEY not in repr(vars(stage.upstream))
    assert "[redacted]" not in repr(headers)


async def test_listed_headers_and_the_query_go_up_and_others_do_not() -> None:
    headers = {
        "anthropic-beta": "a-2025,b-2025", "anthropic-version": "2026-10-21", "user-agent": "claude-cli/2.1",
        "x-stainless-lang": "js", "cookie": "secret=1", "x-forwarded-for": "10.0.0.1",
        "connection": "keep-alive",
    }  # fmt: skip
    async with staged(answers(MESSAGES), MESSAGES) as stage:
        async with stage.asking(MESSAGES, headers=headers, query="?beta=true&key=hidden") as answered:
            await answered.aread()
    (asked,) = stage.provider.asked
    assert asked.target == "/v1/messages?beta=true"
    for name in ("anthropic-beta", "anthropic-version", "user-agent", "x-stainless-lang"):
        assert asked.headers[name] == headers[name]
    assert not {"cookie", "x-forwarded-for"} & asked.headers.keys()


async def test_an_anthropic_version_is_said_where_the_agent_says_none() -> None:
    async with staged(answers(MESSAGES), MESSAGES) as stage:
        await stage.ask(MESSAGES)
    assert stage.provider.asked[0].headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_providers_listed_headers_reach_the_agent_and_no_others(stream: bool) -> None:
    more = (
        "request-id: req_1\r\nanthropic-ratelimit-unified-status: allowed\r\nx-ratelimit-remaining-tokens: 5\r\n"
        "set-cookie: a=b\r\nserver: cloudy\r\n"
    )
    async with staged(answers(MESSAGES, more=more), MESSAGES) as stage:
        for dialect in (MESSAGES, CHAT):
            answered = await stage.ask(dialect, stream=stream)
            assert answered.headers["request-id"] == "req_1"
            assert answered.headers["anthropic-ratelimit-unified-status"] == "allowed"
            assert answered.headers["x-ratelimit-remaining-tokens"] == "5"
            assert not {"set-cookie", "server"} & answered.headers.keys()
    assert stage.rollout.trace[0].notes["upstream"]["request_id"] == "req_1"


async def test_an_agents_header_that_is_not_ascii_goes_up_as_it_came() -> None:
    async with staged(answers(CHAT), CHAT) as stage:
        title = "Gr\u00fc\u00dfe".encode("latin-1")
        url = stage.rollout.base_url(CHAT) + "/chat/completions"
        async with httpx2.AsyncClient(verify=False) as client:
            headers = [(b"x-title", title), (b"authorization", f"Bearer {stage.rollout.api_key}".encode())]
            assert (await client.post(url, json=body_of(CHAT), headers=headers)).status_code == 200
    assert stage.provider.asked[0].headers["x-title"].encode("latin-1") == title


async def test_a_websocket_agent_is_forwarded_by_a_stream_with_the_whole_conversation() -> None:
    async with staged(answers(RESPONSES), RESPONSES) as stage, dialled(stage.rollout) as agent:
        await agent.send({name: value for name, value in create("one", zebra=1).items() if name != "type"})
        first = await agent.until("response.completed", "error")
        answered = first[-1]["response"]["id"]
        again = await agent.ask("two", previous_response_id=answered)
    assert said(first) == said(again) == "Hello, world."
    one, two = (asked.document for asked in stage.provider.asked)
    assert one["stream"] is two["stream"] is True
    assert one["zebra"] == 1
    assert not {"type", "generate", "stream_id", "previous_response_id"} & (one.keys() | two.keys())
    assert [item.get("role") for item in two["input"]] == ["user", "assistant", "user"]


async def test_a_stream_that_began_with_a_no_op_of_ours_goes_on_in_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An id that the agent was told stays: OpenAI's SDK takes chunks of one id for one answer."""
    monkeypatch.setattr("triocept._server.delivery.HEAD_AFTER", 0.05)
    silent = trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        await silent.wait()
        await stream.send_all(b"".join(map(chunk, wire_stream(CHAT))) + END)

    async with staged(answer, CHAT) as stage:
        data = b""
        async with stage.asking(CHAT, stream=True) as answered:
            async for piece in answered.aiter_raw():
                data += piece
                silent.set()
    chunks = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    assert len({each["id"] for each in chunks}) == 1
    texts = [each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"]]
    assert "".join(texts) == "Hello, world."


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES, MESSAGES])
async def test_a_whole_answer_that_is_late_is_recorded_under_the_id_that_its_agent_reads(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may go on from it; the white space before it tells it no id of ours."""
    monkeypatch.setattr("triocept._server.delivery.HEAD_AFTER", 0.05)
    body, silent = wire_whole(dialect), trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await silent.wait()
        await stream.send_all(whole(body))

    with trio.fail_after(30):
        async with staged(answer, dialect) as stage:
            data = b""
            async with stage.asking(dialect) as answered:
                async for piece in answered.aiter_raw():
                    data += piece
                    silent.set()
    assert data.strip() == body
    (turn,) = stage.rollout.trace
    assert turn.response.id == json.loads(data)["id"]


async def test_who_joins_a_stream_that_began_with_a_no_op_of_ours_reads_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._server.delivery.HEAD_AFTER", 0.05)
    silent, read = trio.Event(), dict[int, bytes]()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        await silent.wait()
        await stream.send_all(b"".join(map(chunk, wire_stream(CHAT))) + END)

    async with staged(answer, CHAT) as stage, trio.open_nursery() as nursery:

        async def read_all(number: int, begun: trio.Event) -> None:
            async with stage.asking(CHAT, stream=True) as answered:
                async for piece in answered.aiter_raw():
                    read[number] = read.get(number, b"") + piece
                    begun.set()

        begun = trio.Event()
        nursery.start_soon(read_all, 0, begun)
        await begun.wait()
        monkeypatch.setattr("triocept._server.delivery.HEAD_AFTER", 60)
        again = {"authorization": f"Bearer {stage.rollout.api_key}", "x-stainless-retry-count": "1"}
        body = json.dumps(body_of(CHAT, stream=True)).encode()
        url = httpx2.URL(stage.rollout.base_url(CHAT) + "/chat/completions")

        async def join() -> None:
            async with httpx2.AsyncClient(verify=False) as client:
                read[1] = (await client.post(url, content=body, headers=again)).content

        nursery.start_soon(join)
        await trio.testing.wait_all_tasks_blocked(0.05)
        silent.set()
    (turn,) = stage.rollout.trace
    for data in read.values():
        chunks = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
        assert {each["id"] for each in chunks} == {turn.response.id}


class Watching:
    """A recorder that notes what the agent had when a turn was recorded."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.when_recorded: list[bytes] = []

    async def record(self, turn: Turn) -> None:
        for _ in range(20):
            await trio.sleep(0.01)  # long enough for whatever was released to arrive
        self.when_recorded.append(bytes(self.seen))

    async def seal(self, trace: Trace) -> None:
        pass

    async def aclose(self) -> None:
        pass


ENDS = {
    CHAT: b'"finish_reason":"stop"',
    COMPLETIONS: b'"finish_reason":"stop"',
    RESPONSES: b"response.completed",
    MESSAGES: b"message_delta",
    GEMINI: b'"finishReason"',
    OLLAMA: b'"done":true',
}


@pytest.mark.parametrize("dialect", ALL)
async def test_the_end_is_held_until_the_turn_is_recorded(dialect: str) -> None:
    watching = Watching()
    async with staged(streams(dialect), dialect, rollout={"recorder": watching}) as stage:
        async with stage.asking(dialect, stream=True) as answered:
            async for data in answered.aiter_raw():
                watching.seen += data
    (before,) = watching.when_recorded
    assert b"Hel" in before
    assert ENDS[dialect] not in before
    assert ENDS[dialect] in watching.seen


@pytest.mark.parametrize("dialect", ALL)
async def test_an_event_reaches_the_agent_before_the_provider_sends_the_next_one(dialect: str) -> None:
    got = trio.Event()
    pieces = wire_stream(dialect)
    hel = next(number for number, piece in enumerate(pieces) if b"Hel" in piece)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(pieces[: hel + 1])))
        await got.wait()
        await stream.send_all(chunk(b"".join(pieces[hel + 1 :])) + END)

    async with staged(answer, dialect) as stage, stage.asking(dialect, stream=True) as answered:
        async for data in answered.aiter_raw():
            if b"Hel" in data:
                got.set()
    assert got.is_set()


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What agents were given before it was read."""
    given: list[bytes] = []
    write_early = _Streamed.write_early

    def spy(stream: _Streamed, data: bytes) -> bool:
        done = write_early(stream, data)
        given.extend([data] if done else [])
        return done

    monkeypatch.setattr(_Streamed, "write_early", spy)
    return given


@pytest.mark.parametrize("dialect", ALL)
async def test_content_reaches_the_agent_before_it_is_read(dialect: str, early: list[bytes]) -> None:
    pieces = wire_stream(dialect)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        for piece in pieces:
            await stream.send_all(chunk(piece))
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(END)

    async with staged(answer, dialect) as stage:
        answered = await stage.ask(dialect, stream=True)
    assert answered.content == b"".join(pieces)
    assert len(early) >= 3
    assert set(early) <= set(pieces)
    (turn,) = stage.rollout.trace
    assert turn.response.text == "Hello, world."


async def test_content_without_a_word_in_it_takes_nothing_from_what_follows(early: list[bytes]) -> None:
    *pieces, end = wire_stream(CHAT)
    empty = pieces[-1].replace(b'"content":"."', b'"content":""')

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        for piece in [*pieces, empty]:
            await stream.send_all(chunk(piece))
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(chunk(end) + END)

    async with staged(answer, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True)
    assert early[-1] == empty
    assert answered.content == b"".join([*pieces, empty, end])


async def test_content_that_proves_to_be_none_is_followed_by_a_visible_break(early: list[bytes]) -> None:
    *pieces, _, _ = wire_stream(CHAT)
    bad = b'data: {"choices": 5}\n\n'

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, pieces)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(chunk(bad))
        await trio.sleep_forever()

    async with staged(answer, CHAT) as stage:
        data, complete = await ask_roughly(stage, CHAT)
    assert early == [bad]
    assert data.startswith(b"".join([*pieces, bad]))
    assert data.count(bad) == 1
    assert b'"error"' in data
    assert not complete
    assert stage.rollout.trace[0].error is not None


async def test_an_agent_that_reads_slowly_gets_every_byte_once(early: list[bytes]) -> None:
    text = "".join(f"<{number}>" for number in range(200_000))
    renderer = DIALECTS[CHAT].stream_renderer(Request(dialect=CHAT, model="m", messages=(), stream=True))
    events = events_of(Response((Text(text),), id="i", model="m", dialect=CHAT, usage=USAGE))
    start, part, _, *end = events
    deltas = [PartDelta(0, text[at : at + 700]) for at in range(0, len(text), 700)]
    pieces = [renderer.render(event) for event in (start, part, *deltas, *end)]

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        for piece in pieces:
            await stream.send_all(chunk(piece))
        await stream.send_all(END)

    decoder, data = ChunkedDecoder(), bytearray()
    async with staged(answer, CHAT) as stage:
        agent = trio.socket.socket()
        agent.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await agent.connect(("127.0.0.1", stage.endpoint.port))
        async with trio.SocketStream(agent) as stream:
            body = json.dumps(body_of(CHAT, stream=True)).encode()
            await stream.send_all(raw_request(stage.rollout, body))
            came = await stream.receive_some(200)
            _, _, came = came.partition(b"\r\n\r\n")
            while not decoder.ended:
                data += decoder.feed(came)
                if len(data) % 3 == 0:
                    await trio.sleep(0.002)
                came = b"" if decoder.ended else await stream.receive_some(16_384)
    assert bytes(data) == b"".join(pieces)
    assert early
    (turn,) = stage.rollout.trace
    assert turn.response.text == text


async def test_what_the_agents_connection_did_not_take_at_once_comes_without_another_event() -> None:
    *pieces, end = wire_stream(CHAT)
    large, came = pieces[-1].replace(b".", b"." * 16_000_000), trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, pieces)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(chunk(large))
        await came.wait()
        await stream.send_all(chunk(end) + END)

    expected = b"".join([*pieces, large])
    async with staged(answer, CHAT) as stage, stage.asking(CHAT, stream=True) as answered:
        size = 0
        async for piece in answered.aiter_raw():
            size += len(piece)
            if size == len(expected):
                came.set()
    assert size == len(expected) + len(end)


async def test_an_agent_that_asks_again_in_the_middle_gets_every_byte_too(early: list[bytes]) -> None:
    pieces, joined = wire_stream(MESSAGES), trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        for number, piece in enumerate(pieces):
            if number == 5:
                await joined.wait()
            await stream.send_all(chunk(piece))
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(END)

    contents: list[bytes] = []

    async def ask_once(stage: Stage, attempt: str) -> None:
        headers = {"x-stainless-retry-count": attempt}
        contents.append((await stage.ask(MESSAGES, stream=True, headers=headers)).content)

    async with staged(answer, MESSAGES) as stage, trio.open_nursery() as nursery:
        nursery.start_soon(ask_once, stage, "0")
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.start_soon(ask_once, stage, "1")
        await trio.testing.wait_all_tasks_blocked(0.1)
        joined.set()
    assert early
    assert contents == [b"".join(pieces)] * 2
    assert len(stage.provider.asked) == len(stage.rollout.trace) == 1


async def test_a_server_that_says_no_done_and_stays_open_has_ended_all_the_same() -> None:
    *pieces, done = wire_stream(CHAT)
    done = done.replace(b"data: [DONE]\n\n", b"")

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, [*pieces, done])))
        await trio.sleep_forever()

    async with staged(answer, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True)
        assert answered.content == b"".join([*pieces, done]) + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "left", [b"", b"data: [DONE]", b"data: [DONE]\n", b'data: {"usage": {"pro', b"data: [DONE]\r\r"]
)
@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS])
async def test_an_agent_gets_the_whole_end_of_its_dialect_where_the_provider_left_it_out(
    dialect: str, left: bytes
) -> None:
    *pieces, done = wire_stream(dialect)
    assert done.endswith(b"data: [DONE]\n\n")
    pieces.append(done.removesuffix(b"data: [DONE]\n\n"))

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, filter(None, [*pieces, left]))) + END)

    async with staged(answer, dialect) as stage:
        answered = await stage.ask(dialect, stream=True)
    whole_end = left if left.endswith(b"\r\r") else b"data: [DONE]\n\n"
    assert answered.content == b"".join(pieces) + whole_end
    assert [turn.outcome for turn in stage.rollout.trace] == ["answered"]


async def test_of_two_ends_the_agent_gets_one() -> None:
    pieces = wire_stream(MESSAGES)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, [*pieces, pieces[-1]])) + END)

    async with staged(answer, MESSAGES) as stage:
        answered = await stage.ask(MESSAGES, stream=True)
        assert answered.content == b"".join(pieces)
        assert (await stage.ask(MESSAGES, stream=True)).content == b"".join(pieces)


async def test_unknown_events_are_passed_on_and_read_over() -> None:
    unknown = b'event: brand_new\ndata: {"type":"brand_new","a":[1]}\n\n'
    first, *rest = wire_stream(MESSAGES)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(first + unknown) + b"".join(map(chunk, rest)) + END)

    async with staged(answer, MESSAGES) as stage:
        answered = await stage.ask(MESSAGES, stream=True)
    assert answered.content == b"".join([first, unknown, *rest])


async def test_a_connection_is_used_again() -> None:
    async with staged(answers(CHAT), CHAT) as stage:
        for stream in (False, True) * 3:
            await stage.ask(CHAT, stream=stream)
    assert stage.provider.connections == 1


async def test_a_stream_that_is_asked_for_again_without_one_is_told_whole() -> None:
    """Claude Code re-sends a stream that broke on its way as a call without `stream`."""
    pieces = wire_stream(MESSAGES)
    gone = trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(pieces[:4])))
        await gone.wait()
        await stream.send_all(b"".join(map(chunk, pieces[4:])) + END)

    async with staged(answer, MESSAGES, rollout={"on_hangup": "finish"}) as stage:
        await begin_to_read(stage, MESSAGES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_soon, gone)
            again = await stage.ask(MESSAGES)
    assert again.json()["content"] == [{"type": "text", "text": "Hello, world."}]
    assert again.json()["stop_reason"] == "end_turn"
    assert len(stage.provider.asked) == len(stage.rollout.trace) == 1


async def _set_soon(event: trio.Event) -> None:
    await trio.sleep(0.1)
    event.set()


async def test_a_gemini_stream_without_sse_is_a_json_array() -> None:
    async with staged(answers(GEMINI), GEMINI) as stage:
        url = stage.rollout.base_url(GEMINI) + "/v1beta/models/asked:streamGenerateContent"
        async with httpx2.AsyncClient() as client:
            key = {"x-goog-api-key": stage.rollout.api_key}
            answered = await client.post(url, json=body_of(GEMINI), headers=key)
    parts = [p for each in answered.json() for p in each["candidates"][0].get("content", {}).get("parts", ())]
    assert "".join(part["text"] for part in parts) == "Hello, world."


async def test_a_provider_that_sends_the_whole_in_place_of_a_stream_is_understood() -> None:
    async with staged(says(whole(wire_whole(CHAT))), CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True)
    assert answered.headers["content-type"] == "text/event-stream"
    assert answered.text.endswith("data: [DONE]\n\n")
    assert "Hello, world." in answered.text


async def test_three_endpoints_deep_the_answer_is_the_same() -> None:
    call = Response(
        (Text("See:"), ToolCall("ls", '{"path":"."}', "call_1")), usage=Usage(input_tokens=3, output_tokens=4)
    )

    async def model(exchange: Any) -> None:
        async with exchange.open_stream() as stream:
            for event in events_of(call):
                await stream.send(event)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as first:
        base = first.base_url(CHAT)
        async with open_upstream(base, dialect=CHAT, api_key=first.api_key) as up_one:
            async with endpoint.open_rollout(up_one) as second:
                base = second.base_url(MESSAGES)
                async with open_upstream(base, dialect=MESSAGES, api_key=second.api_key) as up_two:
                    async with endpoint.open_rollout(up_two) as third:
                        answered = await ask(third, dialect=MESSAGES, stream=True)
    assert answered.text.count("message_stop") == 2  # its name and its type
    for rollout in (first, second, third):
        (turn,) = rollout.trace
        assert turn.response.tool_calls[0].parsed() == {"path": "."}
        assert turn.response.usage == Usage(input_tokens=3, output_tokens=4)


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_wherever_the_bytes_are_cut_the_pieces_are_the_same(dialect: str, ending: bytes) -> None:
    data = b"".join(wire_stream(dialect)).replace(b"\n", ending)
    for size in (1, 2, 7, len(data)):
        relay = Relay(DIALECTS[dialect].stream_parser())
        pieces = [relay.feed(data[at : at + size]) for at in range(0, len(data), size)]
        relay.close()
        kept = [piece for piece in pieces if piece is not None]
        last = relay.last()
        assert b"".join([*(piece.data for piece in kept), last.data]) == data
        assert last.last
        assert not any(piece.last for piece in kept)


def test_only_content_of_an_answer_under_way_goes_on_before_it_is_read() -> None:
    first, role, text, *_, finish, _, _ = Frames().feed(b"".join(wire_stream(CHAT)))
    relay = Relay(DIALECTS[CHAT].stream_parser())
    assert not relay.is_plain_content(text), "nothing has begun"
    assert relay.feed(first + role) is not None
    assert relay.is_plain_content(text)
    relay.feed(text[:9])
    assert not relay.is_plain_content(text), "an event is not whole"
    assert relay.feed(text[9:]) is not None
    assert relay.is_plain_content(text)
    relay.feed(b": a comment\n\n")
    assert not relay.is_plain_content(text), "something that was read waits"
    assert relay.feed(text) is not None
    assert not relay.is_plain_content(finish)
    relay.feed(finish)
    assert not relay.is_plain_content(text), "the answer has ended"
    rewritten = Relay(DIALECTS[CHAT].stream_parser(), lambda frame: (frame, frame))
    assert rewritten.feed(first + role) is not None
    assert not rewritten.is_plain_content(text), "the agent gets other bytes than came"


def test_what_came_before_a_failure_goes_on_before_it() -> None:
    first, role, *texts, _, _ = wire_stream(CHAT)
    error = b'data: {"error":{"message":"it broke"}}\n\n'
    relay = Relay(DIALECTS[CHAT].stream_parser())
    piece = relay.feed(first + role + texts[0] + error)
    assert piece.data == first + role + texts[0]
    assert isinstance(relay.failure, UpstreamError)


def test_a_failure_behind_no_content_is_the_whole_answer() -> None:
    first, *_ = wire_stream(MESSAGES)
    error = b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    relay = Relay(DIALECTS[MESSAGES].stream_parser())
    with pytest.raises(UpstreamError, match="Overloaded"):
        relay.feed(first + error)


def test_frames_end_behind_every_empty_line() -> None:
    frames = Frames()
    assert frames.feed(b"data: 1\n\ndata: 2\r\n\r\ndata: 3") == [b"data: 1\n\n", b"data: 2\r\n\r\n"]
    assert frames.feed(b" and") == []
    assert frames.feed(b" more\n") == []
    assert frames.feed(b"\nx") == [b"data: 3 and more\n\n"]
    assert frames.rest() == b"x"
    assert frames.rest() == b""


@pytest.mark.parametrize("size", [10, 1_000])
def test_a_frame_has_an_end_within_its_bytes(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_EVENT", 5_000)
    frames = Frames()
    with pytest.raises(DialectError, match="a frame of the stream is larger than the maximum of 5000 bytes"):
        for _ in range(10_000):
            assert frames.feed(b"data: " + b"x" * size + b"\n") == []
