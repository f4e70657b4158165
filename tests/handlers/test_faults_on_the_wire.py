"""Every fault in every dialect, whole and streamed, judged by that dialect's own parser: what is right is read as it
was meant, and of what is broken no answer is made."""

from contextlib import suppress
from typing import Any

import httpx2
import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.asking import PATHS, STREAM_PATHS, bearer, document
from tests.server.test_websocket import create, dialled
from triocept import Exchange, Response, Rollout, ToolCall, serve_endpoint
from triocept._canonical.events import assemble
from triocept.dialects import dialect
from triocept.errors import DialectError, UpstreamError
from triocept.handlers import Fault

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
EVERY = pytest.mark.parametrize("name", PATHS)

RIGHT = [
    Fault.drip(0.001, size=500),
    Fault.split_letters(),
    Fault.crlf(),
    Fault.comments(),
    Fault.double_end(),
    Fault.finish("length"),
]
"""A client should not mind them."""
BROKEN = [
    Fault.close(),
    Fault.reset(),
    Fault.reset(2),
    Fault.cut(),
    Fault.cut(0),
    Fault.noise(),
    Fault.html(),
    Fault.html(200),
    Fault.html(429, retry_after=1),
    Fault.redirect(),
    Fault.empty(),
    Fault.error_body(),
    Fault.cut_json(),
    Fault.wrong_length(),
    Fault.not_gzip(),
    Fault.unended(),
    Fault.unended(framing="chunked"),
    Fault.garbage(),
    Fault.error_event(),
    Fault.error_event(3),
    Fault.status(529),
    Fault.context_length(),
    Fault.too_large(),
]
"""No answer can be made of them."""


async def got(rollout: Rollout, name: str, *, stream: bool, port: int) -> Response | str:
    """What a client makes of a call: the answer, or the name of an error."""
    spoken = dialect(name)
    url = f"http://127.0.0.1:{port}{(STREAM_PATHS if stream else PATHS)[name]}"
    async with httpx2.AsyncClient(timeout=5, verify=False) as client:
        try:
            asked = document(name, stream=stream)
            async with client.stream("POST", url, json=asked, headers=bearer(rollout)) as answered:
                await answered.aread()
        except httpx2.HTTPError as exc:
            return type(exc).__name__
    if answered.status_code != 200:
        return str(answered.status_code)
    try:
        if not stream:
            return spoken.parse_response(msgspec.json.decode(answered.content))
        parser = spoken.stream_parser()
        return assemble([*parser.feed(answered.content), *parser.close()])
    except (DialectError, UpstreamError, msgspec.DecodeError) as exc:
        return type(exc).__name__


@EVERY
@BOTH
async def test_what_is_right_is_read_in_every_dialect(name: str, stream: bool) -> None:
    async with serve_endpoint() as endpoint:
        for fault in RIGHT:
            async with endpoint.open_rollout(fault) as rollout:
                answer = await got(rollout, name, stream=stream, port=endpoint.port)
            turn = rollout.trace[0]
            assert isinstance(answer, Response), (fault, answer)
            assert answer.text == turn.response.text, fault
            assert turn.outcome == "answered", fault


@pytest.mark.filterwarnings(  # httpx2 2.16 leaves its generator behind where it cannot decompress a body
    "ignore:Exception ignored in. <async_generator object PoolByteStream:pytest.PytestUnraisableExceptionWarning"
)
@EVERY
@BOTH
async def test_of_what_is_broken_no_answer_is_made_in_any_dialect(name: str, stream: bool) -> None:
    async with serve_endpoint() as endpoint:
        for fault in BROKEN:
            async with endpoint.open_rollout(fault) as rollout:
                answer = await got(rollout, name, stream=stream, port=endpoint.port)
            turn = rollout.trace[0]
            assert isinstance(answer, str), (fault, answer)
            assert turn.outcome == "refused", fault
            assert (turn.raw is None) == (fault.name in ("status", "context_length", "too_large")), fault


@EVERY
@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_cut_stream_is_the_beginning_of_the_real_one(name: str, after: int) -> None:
    """To the letter, ids and times aside, which are made anew."""

    async def sent(fault: Fault) -> bytes:
        async with endpoint.open_rollout(fault) as rollout:
            await got(rollout, name, stream=True, port=endpoint.port)
        raw = rollout.trace[0].raw
        return b"".join(data for _, data in raw.pieces)

    async with serve_endpoint() as endpoint:
        cut, whole = await sent(Fault.cut(after)), await sent(Fault.drip(0))
    said = b"The quick brown fox".split(b" ")
    assert len(cut) < len(whole)
    assert cut.count(b'"delta":{"content":"') or name != "openai_chat" or not after
    assert all(word in cut for word in said[:after])
    assert not any(word in cut for word in said[after:])


@EVERY
async def test_all_of_the_pieces_are_not_the_end(name: str) -> None:
    fault = Fault.unended(after=2, answer="one two")
    async with serve_endpoint() as endpoint, endpoint.open_rollout(fault) as rollout:
        assert isinstance(await got(rollout, name, stream=True, port=endpoint.port), str)
    turn = rollout.trace[0]
    assert turn.response.text == "one two"


@EVERY
async def test_what_came_of_a_cut_stream_stands_in_the_turn(name: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(Fault.cut(after=2)) as rollout:
        await got(rollout, name, stream=True, port=endpoint.port)
    (turn,) = rollout.trace
    assert turn.response.text == "The quick"
    assert turn.raw.end == "close"


@pytest.mark.parametrize(
    "name", ["openai_chat", "anthropic_messages", "openai_responses", "gemini", "ollama"]
)
@BOTH
async def test_a_tool_call_can_be_cut_as_a_text_can(name: str, stream: bool) -> None:
    fault = Fault.cut(after=1, answer=ToolCall.of("search", query="the quick brown fox"))
    async with serve_endpoint() as endpoint, endpoint.open_rollout(fault) as rollout:
        answer = await got(rollout, name, stream=stream, port=endpoint.port)
    assert answer == "RemoteProtocolError"


@EVERY
async def test_an_answer_without_its_last_frame_is_one_of_whatever_ends_this_dialects_streams(
    name: str,
) -> None:
    last = {
        "openai_chat": b"[DONE]",
        "openai_completions": b"[DONE]",
        "openai_responses": b"response.completed",
        "anthropic_messages": b"message_stop",
        "gemini": b"finishReason",
        "ollama": b'"done":true',
    }[name]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(Fault.no_done()) as rollout:
        await got(rollout, name, stream=True, port=endpoint.port)
    raw = rollout.trace[0].raw
    body = b"".join(data for _, data in raw.pieces)
    assert last not in body
    assert b"all." in body


@EVERY
@BOTH
async def test_an_answer_without_a_reason_says_null(name: str, stream: bool) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(Fault.no_finish()) as rollout:
        await got(rollout, name, stream=stream, port=endpoint.port)
    raw = rollout.trace[0].raw
    body = b"".join(data for _, data in raw.pieces)
    assert b'n":null' in body or b'"in_progress"' in body
    assert b'"stop"' not in body
    assert b'"STOP"' not in body
    assert b'"end_turn"' not in body
    assert b'"status":"completed"' not in body


@pytest.mark.parametrize("name", ["anthropic_messages", "openai_responses"])
async def test_parts_that_never_began_go_on(name: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(Fault.no_start()) as rollout:
        await got(rollout, name, stream=True, port=endpoint.port)
    raw = rollout.trace[0].raw
    body = b"".join(data for _, data in raw.pieces)
    assert b"delta" in body
    assert b"content_block_start" not in body
    assert b"output_item.added" not in body


@EVERY
async def test_the_other_form_is_a_document_for_a_stream_and_a_stream_for_a_document(name: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(Fault.other_form()) as rollout:
        for stream in (True, False):
            await got(rollout, name, stream=stream, port=endpoint.port)
    document, streamed = (turn.raw for turn in rollout.trace)
    assert document.headers["content-type"] == "application/json"
    assert isinstance(msgspec.json.decode(b"".join(data for _, data in document.pieces)), dict)
    assert streamed.headers["content-type"] == dialect(name).stream_types[0]


@pytest.mark.parametrize("fault", [Fault.stall(), Fault.stall(2), Fault.stalled_head()])
@BOTH
async def test_what_stalls_says_nothing_more(fault: Fault, stream: bool) -> None:
    async def wait(rollout: Rollout) -> Any:
        url = f"http://127.0.0.1:{endpoint.port}{PATHS['openai_chat']}"
        async with httpx2.AsyncClient(timeout=1, verify=False) as client:
            return await client.post(
                url, json=document("openai_chat", stream=stream), headers=bearer(rollout)
            )

    async with serve_endpoint() as endpoint, endpoint.open_rollout(fault) as rollout:
        with pytest.raises(httpx2.ReadTimeout):
            await wait(rollout)
    raw = rollout.trace[0].raw
    assert raw.end == "stall"


async def test_over_a_websocket_a_fault_is_said_in_frames_or_refused_with_a_word() -> None:
    """Of those that need a status, or bytes without a frame, the program hears."""
    said: dict[str, str] = {}

    async def handler(exchange: Exchange) -> None:
        try:
            await fault(exchange)
        except ValueError as exc:
            said[fault.name] = str(exc)
            await exchange.respond("ok")

    async with serve_endpoint() as endpoint:
        for fault in (*RIGHT, *BROKEN, Fault.no_done(), Fault.no_start()):
            async with endpoint.open_rollout(handler) as rollout, dialled(rollout) as agent:
                await agent.send(create())
                with trio.move_on_after(1), suppress(ConnectionClosed, ValueError, KeyError):
                    frames = await agent.until("response.completed", "error")
                    right = fault in RIGHT or fault.name in (*said, "no_start")
                    assert frames[-1]["type"] == "error" or right, fault
            assert len(rollout.trace) == 1, fault
    assert set(said) == {"noise", "html", "redirect", "wrong_length", "not_gzip"}
