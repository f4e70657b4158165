"""Errors, breaks, pieces and times: what an agent got of a real model it gets again."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.asking import ask_body, connected, raw_request, read_to_end
from tests.ports import refusing_port
from tests.testing.recorded_agents import Heard, asking, asks, real_model, texts
from triocept import (
    Exchange,
    Handler,
    Refusal,
    Response,
    Text,
    ToolCall,
    UpstreamError,
    Usage,
    open_upstream,
    serve_endpoint,
)
from triocept.errors import ContextLengthError, RecordingFailed, ReplayMiss
from triocept.testing import Cassette, RecordMode, forward_to, open_cassette, open_memory_agent
from triocept.types import Blob, Opaque, PartDelta, PartEnd, PartStart, Reasoning, RefusalText, ResponseStart

ALL = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")


async def twice(
    path: Path, upstream: Handler, *, stream: bool, dialects: tuple[str, str] = ("openai_chat", "openai_chat")
) -> tuple[Heard, Heard]:
    """What an agent gets when it is recorded, and afterwards."""
    async with open_cassette(path, record="rewrite", upstream=upstream) as cassette:
        (before,) = await asking(cassette, asks(), dialect=dialects[0], stream=stream)
    async with open_cassette(path) as cassette:
        (now,) = await asking(cassette, asks(), dialect=dialects[1], stream=stream)
    return before, now


def refusing(**arguments: Any) -> Handler:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(**arguments)

    return refuse


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_429_of_a_provider_comes_again_with_its_words_and_its_time(
    stream: bool, tmp_path: Path
) -> None:
    handler = refusing(status=429, message="slow down", retry_after=2.0, code="rate_limit_exceeded")
    async with real_model(handler) as upstream:
        before, now = await twice(tmp_path / "run.yaml", upstream, stream=stream)
    assert before.status == now.status == 429
    assert before.body == now.body
    assert now.headers["retry-after"] == "2"
    text = (tmp_path / "run.yaml").read_text()
    assert "retry_after: 2.0" in text
    assert "x-request-id" not in text


@pytest.mark.parametrize("dialect", ALL)
async def test_an_error_is_told_in_each_dialect(dialect: str, tmp_path: Path) -> None:
    async with real_model(
        refusing(status=529, message="overloaded, sorry"), "anthropic_messages"
    ) as upstream:
        _, now = await twice(
            tmp_path / "run.yaml", upstream, stream=False, dialects=("anthropic_messages", dialect)
        )
    assert now.status == 529
    assert b"overloaded, sorry" in now.body


async def test_a_prompt_that_is_too_long_is_so_again(tmp_path: Path) -> None:
    async def full(exchange: Exchange) -> None:
        raise ContextLengthError("the prompt has 9 tokens more than 8", status=400)

    before, now = await twice(tmp_path / "run.yaml", full, stream=False)
    assert before.status == now.status == 400
    assert b"context_length_exceeded" in now.body


REFUSALS_OF_A_KEY = {
    "401": UpstreamError("Incorrect API key", status=401),
    "403": UpstreamError("not yours", status=403),
    "Google's 400": UpstreamError("API key not valid.", status=400,
     body='{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}', dialect="gemini"),
    "a handler's own": Refusal(401, "no key"),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("mode", ["once", "new", "rewrite"])
@pytest.mark.parametrize("case", REFUSALS_OF_A_KEY)
async def test_a_refusal_of_the_key_is_an_error_and_nothing_is_written(
    case: str, mode: RecordMode, stream: bool, tmp_path: Path
) -> None:
    async def refuse(exchange: Exchange) -> None:
        if exchange.request.messages[0].text == "wrong":
            raise REFUSALS_OF_A_KEY[case]
        await exchange.respond("ok")

    path, before = tmp_path / "run.yaml", None
    if mode != "once":
        async with open_cassette(path, record="once", upstream=refuse) as cassette:
            await asking(cassette, asks("before"))
        before = path.read_bytes()
    with pytest.raises(RecordingFailed, match=r"refused the API key \(4.*; nothing was recorded"):
        async with open_cassette(path, record=mode, upstream=refuse) as cassette:
            await asking(cassette, asks("right"), asks("wrong"), stream=stream)
    assert not cassette.write()
    assert (path.read_bytes() if path.exists() else None) == before


async def test_a_provider_that_was_not_reached_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with refusing_port() as port:
        upstream = forward_to(f"http://127.0.0.1:{port}/v1", dialect="openai_chat")
        with pytest.raises(
            RecordingFailed, match=r"was not reached \(no connection .*; nothing was recorded"
        ):
            async with open_cassette(path, record="once", upstream=upstream) as cassette:
                await asking(cassette, asks())
    assert not path.exists()

    async def fail(exchange: Exchange) -> None:
        raise UpstreamError("no connection")

    _, now = await twice(path, fail, stream=False)
    assert now.status == 502


async def test_a_refusal_of_the_key_is_recorded_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with real_model(refusing(status=401, message="no key")) as upstream:
        async with open_cassette(path, record="once", upstream=upstream, record_auth_errors=True) as cassette:
            (before,) = await asking(cassette, asks())
    async with open_cassette(path) as cassette:
        (now,) = await asking(cassette, asks())
    assert (before.status, before.body) == (now.status, now.body) == (401, now.body)


async def test_a_recording_that_is_cancelled_behind_a_refusal_of_the_key_writes_nothing(
    tmp_path: Path,
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(401, "no key")
        await trio.sleep_forever()

    cassette = Cassette(tmp_path / "run.yaml", record="once", upstream=refuse)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(cassette) as rollout:
        with pytest.raises(Refusal):
            await rollout.ask("hi")
    assert not cassette.write()


async def test_a_refusal_of_a_handler_comes_again(tmp_path: Path) -> None:
    async def refuse(exchange: Exchange) -> None:
        raise Refusal(451, "not here", should_retry=False, code="law")

    before, now = await twice(tmp_path / "run.yaml", refuse, stream=False)
    assert (before.status, before.body) == (now.status, now.body) == (451, now.body)
    assert now.headers["x-should-retry"] == "false"


async def test_a_date_after_which_it_may_be_asked_is_seconds_from_then(tmp_path: Path) -> None:
    async def later(exchange: Exchange) -> None:
        raise UpstreamError("later", status=503, headers={"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"})

    _, now = await twice(tmp_path / "run.yaml", later, stream=False)
    assert int(now.headers["retry-after"]) > 70 * 365 * 86400


async def breaking(exchange: Exchange) -> None:
    """Says something, begins something else, and is gone."""
    async with exchange.open_stream() as stream:
        for event in (ResponseStart(), *_text(0, "whole"), *_text(1, "and ", "the", " re")[:-1]):
            await stream.send(event)
        raise UpstreamError("gone")


def _anonymous_events(heard: Heard) -> list[Any]:
    """Without the ids that an answer has."""
    return [
        PartStart(event.index, Text("")) if isinstance(event, PartStart) else event
        for event in heard.events[1:]
    ]


def _text(index: int, *pieces: str) -> list[Any]:
    return [PartStart(index, Text("")), *[PartDelta(index, piece) for piece in pieces], PartEnd(index)]


@pytest.mark.parametrize("dialect", ALL)
async def test_a_stream_that_broke_breaks_there_again(dialect: str, tmp_path: Path) -> None:
    before, now = await twice(tmp_path / "run.yaml", breaking, stream=True, dialects=(dialect, dialect))
    assert (before.response, before.error, before.broke) == (now.response, now.error, now.broke)
    assert now.response is None
    assert _anonymous_events(before) == _anonymous_events(now)
    assert [event.text for event in now.events if isinstance(event, PartDelta)] == [
        "whole",
        "and ",
        "the",
        " re",
    ]


@asynccontextmanager
async def cut_after(*pieces: bytes) -> AsyncIterator[str]:
    """The base URL of a provider that begins an answer."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
            await stream.send_all(head + b"".join(pieces))
            await stream.send_eof()
            await read_to_end(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.cancel_scope.cancel()


def chunk(delta: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": "1", "choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


async def test_a_stream_of_a_provider_that_is_cut_is_cut_again(tmp_path: Path) -> None:
    async with cut_after(chunk({"content": "he"}), b'data: {"choi') as url:
        async with open_upstream(url, dialect="openai_chat") as upstream:
            before, now = await twice(tmp_path / "run.yaml", upstream, stream=True)
    assert (before.response, before.error, before.broke) == (now.response, now.error, now.broke)
    assert now.error == "the provider's stream ended without a finish reason"
    assert before.events[1:] == now.events[1:]
    assert "kind: truncated" in (tmp_path / "run.yaml").read_text()


@pytest.mark.parametrize("holds", [True, False])
async def test_half_a_call_is_seen_again_if_it_was_seen(holds: bool, tmp_path: Path) -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a'}}
    async with cut_after(chunk({"content": "he"}), chunk({"tool_calls": [call]})) as url:
        async with open_upstream(url, dialect="openai_chat", hold_calls=holds) as upstream:
            before, now = await twice(tmp_path / "run.yaml", upstream, stream=True)
    for heard in (before, now):
        calls = [
            each for each in heard.events if isinstance(each, PartStart) and isinstance(each.part, ToolCall)
        ]
        assert len(calls) == (0 if holds else 1)


async def in_pieces(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        for piece in ("Hel", "lo, ", "é😀", "\nworld"):
            await stream.send(piece)
            await trio.sleep(0.5)


@pytest.mark.parametrize("dialect", ALL)
async def test_an_answer_comes_in_the_pieces_in_which_it_came(dialect: str, tmp_path: Path) -> None:
    before, now = await twice(tmp_path / "run.yaml", in_pieces, stream=True, dialects=(dialect, dialect))
    assert [event.text for event in now.events if isinstance(event, PartDelta)] == [
        "Hel",
        "lo, ",
        "é😀",
        "\nworld",
    ]
    assert now.response.text == before.response.text


async def test_an_answer_that_was_given_whole_is_given_in_a_stream_too_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    async with real_model(in_pieces) as upstream:
        for stream in (False, True):
            path = tmp_path / f"{stream}.yaml"
            async with open_cassette(path, record="once", upstream=upstream) as cassette:
                await asking(cassette, asks(), stream=stream)
            async with open_cassette(path) as cassette:
                assert texts(await asking(cassette, asks(), stream=not stream)) == ["Hello, é😀\nworld"]


RICH = Response(
    (
        Reasoning("I think", (Blob("anthropic_messages", "signature", "c2lnbmF0dXJl"),)),
        Reasoning("", (Blob("anthropic_messages", "redacted", "b3BhcXVl"),)),
        Text("Hm.", {"citations": None}),
        Opaque(
            "anthropic_messages", {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web", "input": {}}
        ),
        ToolCall("write", '{"path":"a","lines":["x\\ny","2"]}'),
        ToolCall("write", '{"path": "a", "n": 1.0}'),
        ToolCall("write", '{"cut": "'),
        ToolCall("shell", "ls\n-l", kind="text"),
    ),
    stop_reason="max_tokens",
    usage=Usage(input_tokens=11, output_tokens=7, cached_tokens=3, extra={"service_tier": "standard"}),
    model="claude-x",
    extra={"container": {"id": "c"}},
    dialect="anthropic_messages",
)


async def test_what_nobody_else_can_read_survives(tmp_path: Path) -> None:
    async def rich(exchange: Exchange) -> None:
        await exchange.respond(RICH)

    path = tmp_path / "run.yaml"
    dialects = ("anthropic_messages", "anthropic_messages")
    before, now = await twice(path, rich, stream=False, dialects=dialects)
    assert [_anonymous(part) for part in now.response.content] == [
        _anonymous(part) for part in before.response.content
    ]
    assert (now.response.usage, now.response.extra, now.response.model, now.response.stop_reason) == (
        before.response.usage,
        before.response.extra,
        "claude-x",
        "max_tokens",
    )
    assert "arguments:\n            path: a\n" in path.read_text()
    assert (
        'arguments:\n            path: a\n            "n": 1.0\n          spaced: true\n' in path.read_text()
    )


def _anonymous(part: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(part, id="") if isinstance(part, ToolCall) else part


async def test_a_models_own_refusal_comes_again(tmp_path: Path) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.respond(RefusalText("I cannot."))

    _, now = await twice(tmp_path / "run.yaml", refuses, stream=False)
    assert now.response.content == (RefusalText("I cannot."),)


async def test_a_handler_that_fails_is_not_recorded_and_its_error_is_its_own(tmp_path: Path) -> None:
    async def fails(exchange: Exchange) -> None:
        raise ZeroDivisionError

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=fails) as cassette:
        with pytest.raises(ZeroDivisionError):
            await asking(cassette, asks())
        assert cassette.recorded == ()
    assert not path.exists()


async def hang_up_in_the_middle(handler: Handler) -> bytes:
    """What an agent has read that goes in the middle of a stream."""
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            got = b""
            async with connected(endpoint.port) as stream:
                await stream.send_all(raw_request(rollout, json.dumps(ask_body(stream=True)).encode()))
                while b"begin" not in got:
                    got += await stream.receive_some()
            while not len(rollout.trace):
                await trio.lowlevel.checkpoint()
            assert rollout.trace[0].outcome == "abandoned"
            return got


async def test_an_application_that_leaves_a_stream_may_leave_it_again(tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("begin")
            await trio.sleep_forever()

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=endless) as cassette:
        await hang_up_in_the_middle(cassette)
    assert "hung_up: true" in path.read_text()
    async with open_cassette(path) as cassette:
        assert b"begin" in await hang_up_in_the_middle(cassette)
        assert cassette.unused == ()


async def test_an_application_that_stays_where_it_had_left_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._recording.play.HANG_UP", 0.0)
    path = tmp_path / "run.yaml"
    path.write_text(
        "cassette: 1\ncalls:\n  - call: 1\n    request: {model: m, messages: [user: hi]}\n"
        "    answer: {content: begin, hung_up: true}\n...\n"
    )
    async with open_cassette(path) as cassette:
        with pytest.raises(
            ReplayMiss,
            match=rf"no complete recorded answer: .* disconnected from call 1 \({path}:3\)",
        ):
            await asking(cassette, asks(), stream=True)


@pytest.mark.parametrize(("timing", "seconds"), [("none", 0.0), ("recorded", 90.0), (0.5, 45.0), (2, 180.0)])
async def test_times_are_recorded_and_given_again_where_that_is_asked(
    timing: Any, seconds: float, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(30)
        async with exchange.open_stream() as stream:
            for piece in ("a", "b", "c"):
                await stream.send(piece)
                await trio.sleep(20)

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=slow) as cassette:
        async with open_memory_agent(cassette) as agent:
            await agent.ask("hi", stream=True)
    assert trio.current_time() == 90
    text = path.read_text()
    assert "characters: [1, 1, 1]\n      waits: [30000, 20000, 20000]" in text
    assert "seconds: 90.0\n      first: 30.0" in text
    async with open_cassette(path, timing=timing) as cassette, open_memory_agent(cassette) as agent:
        begun = trio.current_time()
        assert (await agent.ask("hi", stream=True)).text == "abc"
        assert trio.current_time() - begun == seconds


async def test_an_application_that_gives_up_before_its_answer_gets_it_when_it_asks_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(30)
        await exchange.respond("at last")

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=slow) as cassette:
        async with open_memory_agent(cassette) as agent:
            await agent.ask("hi")
    async with open_cassette(path, timing="recorded") as cassette, open_memory_agent(cassette) as agent:
        with trio.move_on_after(10):
            await agent.ask("hi")
        await trio.testing.wait_all_tasks_blocked()
        assert len(cassette.unused) == 1
        assert (await agent.ask("hi")).text == "at last"


async def test_an_answer_that_was_hung_up_on_is_hung_up_on_before_the_next(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    calls = 0

    async def slow_at_first(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        await trio.sleep(30 if calls == 1 else 1)
        await exchange.respond("at last")

    async def impatient(cassette: Handler) -> None:
        async with open_memory_agent(cassette) as agent:
            with trio.move_on_after(10) as scope:
                await agent.ask("hi")
            assert scope.cancelled_caught
            await trio.testing.wait_all_tasks_blocked()
            assert (await agent.ask("hi")).text == "at last"

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=slow_at_first) as cassette:
        await impatient(cassette)
    async with open_cassette(path, timing="recorded") as cassette:
        await impatient(cassette)
        assert cassette.unused == ()


async def test_an_application_hangs_up_by_its_own_clock(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Its time limit is as long in each run, whatever the times of the answers are."""
    path = tmp_path / "run.yaml"
    path.write_text(
        "cassette: 1\ncalls:\n  - call: 1\n    request: {model: m, messages: [user: hi]}\n"
        "    answer: {content: begin, hung_up: true, seconds: 60}\n...\n"
    )
    async with open_cassette(path, compare_model=False) as cassette, open_memory_agent(cassette) as agent:
        with trio.move_on_after(60) as scope:
            await agent.ask("hi", stream=True)
    assert scope.cancelled_caught
