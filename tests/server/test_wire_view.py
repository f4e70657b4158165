"""`record_wire=True`: what a turn keeps of how it went over the wire is what the agent sent, and what it got.

Rules of these tests: an agent over a real socket keeps the bytes that it got; the turn is looked at afterwards. It was
recorded before the last of them left.
"""

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import PATHS, STREAM_PATHS, bearer, document
from triocept import (
    Exchange,
    JSONLRecorder,
    Response,
    Rollout,
    ToolCall,
    Turn,
    open_upstream,
    read_traces,
    serve_endpoint,
)
from triocept._server import delivery
from triocept._trace import wire
from triocept.traces import Redaction, WireView


async def post(rollout: Rollout, dialect: str, *, stream: bool, **more: str) -> httpx2.Response:
    path = (STREAM_PATHS if stream else PATHS)[dialect]
    url = rollout.base_url("openai_chat").removesuffix("/v1") + path
    body = document(dialect, stream=stream)
    body["stream"] = stream
    async with httpx2.AsyncClient(timeout=None, verify=False) as client:
        return await client.post(url, json=body, headers={**bearer(rollout), **more})


def view_of(turn: Turn) -> WireView:
    assert turn.wire is not None
    return turn.wire


def check_same(turn: Turn, got: httpx2.Response) -> None:
    view = view_of(turn)
    assert view.status == got.status_code
    assert view.answer == got.content
    assert view.answer_size == len(got.content)
    assert view.answer_headers.items() <= dict(got.headers).items()
    assert (view.body, view.body_size) == (got.request.content, len(got.request.content))


async def say_whole(exchange: Exchange) -> None:
    await exchange.respond(Response.of("hello", *([ToolCall.of("t", a=1)] if exchange.request.tools else [])))


async def say_in_pieces(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        for piece in ("hel", "lo", " there"):
            await stream.send(piece)


async def refuse(exchange: Exchange) -> None:
    await exchange.refuse(429, "later", retry_after=3)


async def break_off(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("hel")
        await exchange.refuse(500, "no more")


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", [say_whole, say_in_pieces, refuse])
@pytest.mark.parametrize("dialect", PATHS)
async def test_what_is_kept_is_what_the_agent_sent_and_got(dialect: str, answer: Any, stream: bool) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, record_wire=True) as rollout:
        got = await post(rollout, dialect, stream=stream)
    (turn,) = rollout.trace
    check_same(turn, got)
    view = view_of(turn)
    assert view.method == "POST"
    assert view.url == f"/rollout/{rollout.id}{(STREAM_PATHS if stream else PATHS)[dialect]}"


async def test_a_stream_that_breaks_is_kept_with_its_error() -> None:
    got = b""
    async with serve_endpoint() as endpoint, endpoint.open_rollout(break_off, record_wire=True) as rollout:
        url = rollout.base_url("anthropic_messages") + "/v1/messages"
        body = document("anthropic_messages", stream=True)
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            async with client.stream("POST", url, json=body, headers=bearer(rollout)) as response:
                with pytest.raises(httpx2.RemoteProtocolError):
                    async for data in response.aiter_raw():
                        got += data
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert view_of(turn).status == 200
    assert view_of(turn).answer == got
    assert b"no more" in got


async def test_what_a_provider_sent_is_kept_as_it_was_passed_on() -> None:
    async with serve_endpoint() as there, there.open_rollout(say_in_pieces) as provider:
        url, key = provider.base_url("openai_chat"), provider.api_key
        async with (
            serve_endpoint() as endpoint,
            open_upstream(url, dialect="openai_chat", api_key=key) as upstream,
            endpoint.open_rollout(upstream, record_wire=True) as rollout,
        ):
            for stream in (False, True):
                check_same_after = await post(rollout, "openai_chat", stream=stream)
                check_same(rollout.trace[-1], check_same_after)


async def test_an_agent_that_reads_slowly_gets_what_is_kept() -> None:
    """Increments wait for it while the turn is recorded: they are made beforehand, and sent in their order."""
    pieces = ["x" * 200_000, "y" * 200_000, "z" * 200_000]

    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for piece in pieces:
                await stream.send(piece)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, record_wire=True) as rollout:
        got = await post(rollout, "openai_responses", stream=True)
    (turn,) = rollout.trace
    check_same(turn, got)


async def test_no_key_is_kept() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(say_whole, record_wire=True) as rollout:
        key = rollout.api_key
        base = rollout.base_url("gemini").removesuffix("/v1")
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            await client.post(
                f"{base}{PATHS['gemini']}?a={key}&key=another-key",
                json=document("gemini"),
                headers={**bearer(rollout), "x-mine": f"of {key}"},
            )
    view = view_of(rollout.trace[0])
    assert key not in repr(view)
    assert "another-key" not in repr(view)
    assert view.url.endswith("?a=[redacted]&key=[redacted]")
    assert view.headers["authorization"] == view.headers["x-mine"] == "[redacted]"


async def test_a_body_is_cut_where_it_is_too_long_and_its_size_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MOST", 10)
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(say_in_pieces, record_wire=True) as rollout:
            got = await post(rollout, "openai_chat", stream=True)
    view = view_of(rollout.trace[0])
    assert (view.body, view.body_size) == (got.request.content[:10], len(got.request.content))
    assert (view.answer, view.answer_size) == (got.content[:10], len(got.content))


async def test_a_silence_is_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HEAD_AFTER", 0.05)
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 0.05)

    async def answer(exchange: Exchange) -> None:
        await trio.sleep(0.3)
        await exchange.respond("late")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, record_wire=True) as rollout:
        for stream in (False, True):
            got = await post(rollout, "anthropic_messages", stream=stream)
            check_same(rollout.trace[-1], got)


class Failing:
    """A recorder that keeps nothing, once it has been let."""

    async def record(self, turn: Turn) -> None:
        raise OSError("the disk is full")

    async def seal(self, trace: Any) -> None:
        pass

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", [say_whole, say_in_pieces])
async def test_an_answer_that_cannot_be_recorded_is_not_given_though_it_was_made(
    answer: Any, stream: bool
) -> None:
    got = bytearray()

    async def ask(url: str, headers: dict[str, str]) -> None:
        body = document("anthropic_messages", stream=stream)
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            async with client.stream("POST", url, json=body, headers=headers) as response:
                with suppress(httpx2.RemoteProtocolError):
                    async for data in response.aiter_raw():
                        got.extend(data)

    async with serve_endpoint(recorder=Failing()) as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="disk is full"):
            async with endpoint.open_rollout(answer, record_wire=True) as rollout:
                url = rollout.base_url("anthropic_messages") + "/v1/messages"
                nursery.start_soon(ask, url, bearer(rollout))
                await trio.sleep_forever()
    assert b"message_stop" not in got
    assert b"end_turn" not in got
    assert b"error" in got


async def test_without_it_a_turn_keeps_nothing_and_a_child_does_as_its_parent() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(say_whole) as rollout:
            await post(rollout, "openai_chat", stream=False)
        async with endpoint.open_rollout(say_whole, record_wire=True) as parent:
            async with parent.open_child(say_whole) as child:
                await post(child, "openai_chat", stream=False)
    assert rollout.trace[0].wire is None
    assert child.trace[0].wire is not None


async def test_it_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    async with serve_endpoint(recorder=JSONLRecorder(path)) as endpoint:
        async with endpoint.open_rollout(say_in_pieces, record_wire=True) as rollout:
            got = await post(rollout, "openai_chat", stream=True)
    (trace,) = read_traces(path)
    assert trace == rollout.trace
    check_same(trace[0], got)
    assert json.loads(view_of(trace[0]).body)["model"] == "m"


async def test_what_is_to_be_out_of_the_record_is_in_no_wire_view() -> None:
    async with serve_endpoint() as endpoint:
        redaction = Redaction(["hello"])
        async with endpoint.open_rollout(say_whole, record_wire=True, redact=redaction) as rollout:
            got = await post(rollout, "openai_chat", stream=False, **{"x-note": "hello there"})
    view = view_of(rollout.trace[0])
    assert "hello" not in repr(view)
    assert view.headers["x-note"] == "[redacted] there"
    assert (view.body, view.answer) == (b"", b"")
    assert (view.body_size, view.answer_size) == (len(got.request.content), len(got.content))


async def test_a_key_that_stands_in_a_body_is_not_kept() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(f"it is {exchange.rollout.api_key}")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, record_wire=True) as rollout:
        got = await post(rollout, "openai_chat", stream=True)
    assert rollout.api_key in got.text
    assert rollout.api_key.encode() not in view_of(rollout.trace[0]).answer


async def test_a_body_that_came_compressed_is_not_kept() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(say_whole, record_wire=True) as rollout:
        body = gzip.compress(json.dumps(document("openai_chat")).encode())
        url = rollout.base_url("openai_chat") + "/chat/completions"
        headers = {**bearer(rollout), "content-encoding": "gzip"}
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            assert (await client.post(url, content=body, headers=headers)).status_code == 200
    view = view_of(rollout.trace[0])
    assert (view.body, view.body_size) == (b"", len(body))
