"""What a program gives as an answer is checked where it comes in, and mended so that turn, wire and file agree."""

import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import count
from operator import methodcaller
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import PATHS, STREAM_PATHS, ask, bearer, document, echo
from triocept import (
    Exchange,
    JSONLRecorder,
    Message,
    Refusal,
    Request,
    Response,
    Rollout,
    ScriptedModel,
    Text,
    ToolCall,
    UpstreamError,
    Usage,
    read_traces,
    serve_endpoint,
    serve_pool,
    testing,
)
from triocept.errors import AlreadySettled, DialectError, Unanswered
from triocept.handlers import fallback, route
from triocept.types import (
    Blob,
    Media,
    Opaque,
    PartBlob,
    PartDelta,
    PartEnd,
    PartStart,
    Reasoning,
    ResponseEnd,
    ResponseStart,
)


def _counted(tokens: Any) -> Response:
    return Response((Text("x"),), usage=Usage(input_tokens=tokens, output_tokens=1))


NO_ANSWERS: dict[str, tuple[Any, str]] = {
    "a dict": ({"content": "x"}, "respond takes a str, a part (Text, Reasoning, ToolCall"),
    "None": (None, "not None"),
    "a number": (5, "not int: 5"),
    "a list": (["a", "b"], "for several parts, use Response.of(…)"),
    "bytes": (b"x", "not bytes"),
    "a message": (Message("assistant", (Text("x"),)), "not Message"),
    "a picture": (Media(kind="image", url="x"), "not Media"),
    "a content that is text": (Response(content="x"), "Response.content must be a tuple of parts, not str: 'x'"),
    "a text in the content": (Response(("x",)), "use Response.of(…), which accepts str"),
    "a text of a number": (Text(5), "Text.text must be a str, not int: 5"),
    "no reasoning": (Reasoning(None), "Reasoning.text must be a str, not None"),
    "arguments that are a dict": (
        ToolCall("bash", {"command": "ls"}),  # type: ignore[arg-type]
        "ToolCall.arguments must be a str, not dict: {'command': 'ls'}; it must be JSON as text: ToolCall.of(",
    ),
    "a call without a name": (ToolCall(None), "ToolCall.name must be a str"),
    "such a call in a response": (Response.of("x", ToolCall("t", {})), "ToolCall.arguments must be a str"),
    "extra that is a list": (Text("x", []), "Text.extra must be a dict"),
    "extra that is no JSON": (Text("x", {"a": object()}), "Text has a value that JSON cannot encode"),
    "such an extra behind a surrogate": (Text("\ud83d", {"a": object()}),
     "Text has a value that JSON cannot encode"),
    "blobs that are text": (Reasoning("x", ("sig",)), "Reasoning.blobs must be a tuple of Blobs"),
    "blobs that are None": (Reasoning("x", None), "Reasoning.blobs must be a tuple of Blobs, not None"),
    "blobs that are one": (Reasoning("x", Blob("a", "b", "c")),
     "Reasoning.blobs must be a tuple of Blobs, not Blob"),
    "usage that is a dict": (Response((), usage={"input_tokens": 1}), "usage must be a Usage, not dict"),
    "a stop reason of the wire": (Response((), stop_reason="stop"),
     "unknown stop reason 'stop'; the stop reasons are end,"),
    "tokens that are no number": (_counted(float("nan")), "Usage.input_tokens must be an int, not float: nan"),
    "tokens that are no whole number": (_counted(0.1), "Usage.input_tokens must be an int, not float: 0.1"),
    "tokens that are true": (_counted(True), "Usage.input_tokens must be an int, not bool: True"),
    "more tokens than a file can say": (_counted(2**63),
     "Usage.input_tokens must be from 0 to 9223372036854775807, not"),
    "less tokens than none": (_counted(-1), "Usage.input_tokens must be from 0 to 9223372036854775807, not -1"),
    "cached tokens that are a text": (
        Response((), usage=Usage(input_tokens=1, output_tokens=1, cached_tokens="1")),  # type: ignore[arg-type]
        "Usage.cached_tokens must be an int, not str: '1'",
    ),
    "tokens that nobody counted": (_counted(None), "Usage.input_tokens must be an int, not None"),
    "an estimate that is a text": (
        Response((), usage=Usage(input_tokens=1, output_tokens=1, estimated="no")),  # type: ignore[arg-type]
        "Usage.estimated must be a bool, not str: 'no'",
    ),
    "usage with an extra that is a list": (
        Response((), usage=Usage(input_tokens=1, output_tokens=1, extra=[])),  # type: ignore[arg-type]
        "Usage.extra must be a dict, not list",
    ),
    "an id that is a number": (Response((), id=5), "Response.id must be a str, not int: 5"),
    "a model that is None": (Response((), model=None), "Response.model must be a str, not None"),
    "an answer's extra that must be a list": (Response((), extra=[]), "Response.extra must be a dict, not list"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_what_is_no_answer_is_said_at_respond_and_the_exchange_can_still_be_answered(
    answer: Any, words: str
) -> None:
    said: list[Exception] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.respond(answer)
        except (TypeError, ValueError) as exc:
            said.append(exc)
            assert not exchange.settled
            await exchange.respond("after all")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        got = (await ask(rollout)).json()
    assert got["choices"][0]["message"]["content"] == "after all"
    assert [turn.outcome for turn in rollout.trace] == ["answered"]
    assert words in str(said[0])
    assert "NoneType" not in str(said[0])
    assert [frame.name for frame in traceback.extract_tb(said[0].__traceback__)] == ["handler", "respond"]


NO_INCREMENTS: dict[str, tuple[Any, str]] = {
    "a dict": ({"type": "text"}, "send takes a str, a part (Text, Reasoning, ToolCall"),
    "None": (None, "not None"),
    "a list": (["a"], "not list"),
    "a response": (Response.of("x"), "not Response"),
    "a text of a number": (Text(5), "Text.text must be a str"),
    "a delta of a number": (PartDelta(0, 5), "a field of this event has the wrong type"),
    "a start of a text": (PartStart(0, "x"), "a part of an answer must be one of"),
    "an end with a word of the wire": (ResponseEnd("stop"), "unknown stop reason 'stop'"),
    "a call with a dict": (ToolCall("t", {"a": 1}), "ToolCall.arguments must be a str"),
    "an end with tokens that are no number": (
        ResponseEnd(usage=Usage(input_tokens=1, output_tokens=float("nan"))),  # type: ignore[arg-type]
        "Usage.output_tokens must be an int, not float: nan",
    ),
    "a start with such tokens": (ResponseStart(usage=Usage(input_tokens=True, output_tokens=0)),
     "Usage.input_tokens must be an int, not bool: True"),
    "a start with an id that is a number": (ResponseStart(id=5), "ResponseStart.id must be a str, not int: 5"),
    "a start with an extra that is a list": (ResponseStart(extra=[]),
     "ResponseStart.extra must be a dict, not list"),
    "an end with a stop sequence that is a number": (
        ResponseEnd(stop_sequence=5),  # type: ignore[arg-type]
        "ResponseEnd.stop_sequence must be a str, not int: 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("item", "words"), NO_INCREMENTS.values(), ids=NO_INCREMENTS.keys())
async def test_what_is_no_increment_is_said_at_send_and_nothing_of_it_is_sent(item: Any, words: str) -> None:
    said: list[Exception] = []

    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            try:
                await stream.send(item)
            except (TypeError, ValueError) as exc:
                said.append(exc)
            await stream.send("hello")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        got = (await ask(rollout)).json()
    assert got["choices"][0]["message"]["content"] == "hello"
    assert rollout.trace[0].response.content == (Text("hello"),)
    assert words in str(said[0])
    assert [frame.name for frame in traceback.extract_tb(said[0].__traceback__)] == ["handler", "send"]


def _sync(exchange: Exchange) -> None:
    exchange.annotate(a=1)


async def _generator(exchange: Exchange) -> AsyncIterator[str]:
    yield "hello"


async def _of_none() -> None:
    """Takes nothing."""


class _Callable:
    async def __call__(self, exchange: Exchange) -> None:
        await exchange.respond("hello")

    async def method(self, exchange: Exchange) -> None:
        await exchange.respond("hello")

    def hands_on(self, exchange: Exchange) -> Awaitable[None]:
        return exchange.respond("hello")


class _SyncCallable:
    def __call__(self, exchange: Exchange) -> None:
        exchange.annotate(a=1)


async def _with_two(text: str, exchange: Exchange) -> None:
    await exchange.respond(text)


NO_HANDLERS: dict[str, tuple[Any, str]] = {
    "a text": (
        "hello",
        "a handler must be `async def handler(exchange)`; 'hello' is a str: for a fixed answer, use S",
    ),
    "a number": (5, "a handler must be `async def handler(exchange)`; 5 cannot be called"),
    "a function that is not async": (_sync, "`_sync` is not async"),
    "one in a partial": (partial(_sync), "is not async"),
    "a method that is not async": (_SyncCallable().__call__, "is not async"),
    "an object of such a method": (_SyncCallable(), "is not async"),
    "a class": (_Callable, "`_Callable` is a class: pass an instance of it"),
    "a generator": (_generator, "is a generator"),
    "a function of nothing": (_of_none, "does not take one argument, the exchange"),
    "a function of two": (_with_two, "does not take one argument, the exchange"),
    "its coroutine": (None, "pass _of_none, not _of_none(…)"),
}


@pytest.mark.parametrize(("handler", "words"), NO_HANDLERS.values(), ids=NO_HANDLERS.keys())
async def test_what_is_no_handler_is_said_where_it_is_given(handler: Any, words: str) -> None:
    handler = _of_none() if handler is None else handler
    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError) as caught:
            endpoint.open_rollout(handler)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        async with endpoint.open_rollout() as rollout:
            with pytest.raises(TypeError, match="a handler must be"):
                rollout.open_child(handler)
            with pytest.raises(TypeError, match="a handler must be"):
                await rollout.serve(handler)
    async with serve_pool() as pool:
        with pytest.raises(TypeError, match="a handler must be"):
            async with pool.open_rollout(handler):
                pass
    with pytest.raises(TypeError, match="a handler must be"):
        route({"*": handler})
    with pytest.raises(TypeError, match="a handler must be"):
        fallback([echo, handler])


HANDLERS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "a function": echo,
    "a lambda that hands on": lambda exchange: exchange.respond("hello"),
    "a lambda that hands on this or a constant": lambda exchange: exchange.respond("hello") or "",
    "a function that is written in C": methodcaller("respond", "hello"),
    "a partial": partial(_with_two, "hello"),
    "an object": _Callable(),
    "a method": _Callable().method,
    "a method that hands on": _Callable().hands_on,
    "a partial of an object": partial(_Callable()),
    "a script": ScriptedModel(["hello"]),
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS.keys())
async def test_whatever_gives_something_to_await_is_a_handler(
    handler: Callable[[Exchange], Awaitable[None]],
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        got = (await ask(rollout, "hello")).json()
    assert got["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize(
    ("returned", "words"),
    [("hello", "the handler returned 'hello'"), (None, "call `await exchange.respond(…)`, for example")],
)
async def test_a_handler_that_returns_its_answer_is_told_how_to_give_it(returned: Any, words: str) -> None:
    async def handler(exchange: Exchange) -> Any:
        return returned

    with pytest.raises(Unanswered) as caught:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            await ask(rollout)
            await trio.sleep_forever()
    assert words in str(caught.value)
    assert "await exchange.respond(…)" in str(caught.value)


@pytest.mark.parametrize("replies", ["hello", b"hello", ToolCall.of("t"), Response.of("x"), 5])
def test_a_script_that_is_no_list_is_refused(replies: Any) -> None:
    with pytest.raises(
        TypeError, match=r"a script must be a list of replies, not .*: write ScriptedModel\(\["
    ):
        ScriptedModel(replies)


@pytest.mark.parametrize("replies", [None, {"a": 1}])
def test_no_advice_follows_what_a_list_would_not_make_a_script(replies: Any) -> None:
    with pytest.raises(TypeError, match=r"a script must be a list of replies, not (None|dict: {'a': 1})$"):
        ScriptedModel(replies)


def test_a_text_in_a_dict_is_to_be_written_alone() -> None:
    with pytest.raises(TypeError, match=r"is not a reply: {'text': 'hi'}; write the text alone: 'hi'"):
        ScriptedModel(["a", {"text": "hi"}])  # type: ignore[list-item]


def test_a_script_says_the_place_of_a_reply_that_cannot_be_given() -> None:
    with pytest.raises(TypeError, match=r"replies\[1\]: ToolCall.arguments must be a str"):
        ScriptedModel(["a", ToolCall("t", {"a": 1})])  # type: ignore[arg-type]


# Surrogates

CUT = "\ud83d"  # the first half of an emoji
EMOJI = "\U0001f600"
LOST = "\ufffd"


async def calls_of(rollout: Rollout, dialect: str, *, stream: bool) -> str:
    """What an agent reads of an answer, as text."""
    url = rollout.base_url("openai_chat").removesuffix("/v1")
    path = (STREAM_PATHS if stream else PATHS)[dialect]
    async with httpx2.AsyncClient(timeout=None) as client:
        answer = await client.post(url + path, json=document(dialect, stream=stream), headers=bearer(rollout))
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", PATHS)
async def test_a_surrogate_in_an_answer_is_mended_in_the_turn_on_the_wire_and_in_the_file(
    tmp_path: Path, dialect: str, stream: bool
) -> None:
    answers = {
        "text": f"a{CUT}",
        "reasoning": Response.of(Reasoning(f"b{CUT}", (Blob("x", "y", f"z{CUT}"),)), "x"),
        "a call": ToolCall.of("t", path="c\udcff"),
        "whole arguments": ToolCall("t", '{"path": "d\udcff"}', id=f"i{CUT}"),
        "what stands beside": Response.of(Text("x", {f"k{CUT}": ["\udcff"]}), Opaque("x", {"e": CUT})),
        "an id": Response((Text("x"),), id=f"f{CUT}", stop_sequence=CUT),
        "what was counted": Response(
            (Text("x"),), usage=Usage(input_tokens=1, output_tokens=1, extra={"k": CUT})
        ),
    }
    if dialect == "openai_completions":
        del answers["a call"], answers["whole arguments"]
    left = list(answers.values())

    async def handler(exchange: Exchange) -> None:
        exchange.annotate(note=f"n{CUT}")
        await exchange.respond(left.pop(0))  # type: ignore[arg-type]

    recorder = JSONLRecorder(tmp_path / "t.jsonl")
    async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(handler) as rollout:
        read = [await calls_of(rollout, dialect, stream=stream) for _ in answers]
    assert not any("\\ud8" in text or "\\udc" in text for text in read)
    assert all(turn.outcome == "answered" and turn.notes == {"note": f"n{LOST}"} for turn in rollout.trace)
    first = rollout.trace[0].response
    assert first.text == f"a{LOST}"
    (written,) = read_traces(tmp_path / "t.jsonl")
    assert [turn.response for turn in written] == [turn.response for turn in rollout.trace]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_emoji_that_is_cut_between_two_sends_is_joined(tmp_path: Path, stream: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send(
                "a" + EMOJI.encode("utf-16-le", "surrogatepass")[:2].decode("utf-16-le", "surrogatepass")
            )
            await out.send("")
            await out.send("\ude00b")
            await out.send(CUT)
            await out.send(ToolCall.of("t", a=CUT))
            await out.send(f"\udcffc{CUT}")

    recorder = JSONLRecorder(tmp_path / "t.jsonl")
    async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(handler) as rollout:
        got = await ask(rollout, stream=stream)
    response = rollout.trace[0].response
    texts = [part.text for part in response.content if isinstance(part, Text)]
    assert texts == [f"a{EMOJI}b{LOST}", f"{LOST}c{LOST}"]
    assert response.tool_calls[0].parsed() == {"a": LOST}
    if stream:
        chunks = [json.loads(line[6:]) for line in got.text.splitlines() if line.startswith("data: {")]
        sent = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    else:
        sent = got.json()["choices"][0]["message"]["content"]
    assert sent == "".join(texts)
    (written,) = read_traces(tmp_path / "t.jsonl")
    assert written[0].response == response


async def test_a_cancelled_send_leaves_the_held_half_of_an_emoji_for_the_next_send() -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send("a\ud83d")
            with trio.CancelScope() as scope:
                scope.cancel()
                await out.send("\ude00b")
            assert scope.cancelled_caught
            await out.send("\ude00c")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        await ask(rollout, stream=True)
    assert rollout.trace[0].response.text == f"a{EMOJI}c"


@pytest.mark.parametrize("first", ["refused", "cancelled", "a part"])
@pytest.mark.parametrize("dialect", PATHS)
async def test_a_stream_begins_with_its_start_whatever_the_program_sends_first(
    dialect: str, first: str
) -> None:
    usual, caught = True, []

    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            if usual:
                await out.send(ResponseStart())
            elif first == "refused":
                with pytest.raises(DialectError, match="never started"):
                    await out.send(PartDelta(7, "x"))
                for text in (f"x{CUT}", CUT):
                    with pytest.raises(DialectError, match="never started"):
                        await out.send(PartDelta(7, text))
            elif first == "cancelled":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await out.send(ResponseStart())
                caught.append(scope.cancelled_caught)
            await out.send(PartStart(0, Text("")))
            await out.send(PartDelta(0, "hello"))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        expected = await calls_of(rollout, dialect, stream=True)
        usual = False
        read = await calls_of(rollout, dialect, stream=True)
    assert all(caught)
    assert [turn.outcome for turn in rollout.trace] == ["answered", "answered"]
    assert rollout.trace[1].response.text == "hello"
    assert _fields_of(read) == _fields_of(expected)


@pytest.mark.parametrize("dialect", PATHS)
async def test_an_event_for_a_part_that_has_ended_is_refused_and_leaves_the_stream_unchanged(
    dialect: str,
) -> None:
    late = False

    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send(PartStart(0, Text("")))
            await out.send(PartDelta(0, "hello"))
            await out.send(PartEnd(0))
            for event in (
                (PartDelta(0, "x"), PartDelta(0, CUT), PartDelta(0, "\ude00"), PartEnd(0)) if late else ()
            ):
                with pytest.raises(DialectError, match="part 0, which has already ended"):
                    await out.send(event)
            await out.send(PartStart(1, Text("")))
            await out.send(PartDelta(1, " there"))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        expected = await calls_of(rollout, dialect, stream=True)
        late = True
        read = await calls_of(rollout, dialect, stream=True)
    assert [turn.outcome for turn in rollout.trace] == ["answered", "answered"]
    assert rollout.trace[1].response.text == "hello there"
    assert _fields_of(read) == _fields_of(expected)


def _fields_of(stream: str) -> list[list[str]]:
    """Return the names of the fields of each event of a stream; start and first part may be in one event or in two."""
    lines = [line.removeprefix("data: ") for line in stream.splitlines()]
    documents = [json.loads(line) for line in lines if line.startswith("{")]
    return [sorted(document) for document in documents]


async def test_half_a_surrogate_after_the_end_of_an_answer_is_refused() -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send("a")
            await out.end()
            for late in (CUT, PartDelta(0, CUT)):
                with pytest.raises(AlreadySettled):
                    await out.send(late)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        await ask(rollout, stream=True)
    assert rollout.trace[0].response.text == "a"


async def test_parts_of_one_stream_are_joined_each_for_itself() -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send(ResponseStart())
            await out.send(PartStart(0, Text("")))
            await out.send(PartStart(1, ToolCall("t", "")))
            await out.send(PartDelta(0, CUT))
            await out.send(PartDelta(1, '{"a": "' + CUT))
            await out.send(PartDelta(0, "\ude00"))
            await out.send(PartDelta(1, '\ude01"}'))
            await out.send(PartEnd(1))
            await out.send(PartDelta(0, CUT))
            await out.send(ResponseEnd())

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        await ask(rollout, stream=True)
    response = rollout.trace[0].response
    assert response.text == EMOJI + LOST
    assert response.tool_calls[0].parsed() == {"a": "\U0001f601"}


async def test_a_surrogate_in_what_stands_around_the_parts_of_a_stream_is_mended(tmp_path: Path) -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send(ResponseStart(id=f"i{CUT}", model=f"m{CUT}"))
            await out.send(PartStart(0, Reasoning("x")))
            await out.send(PartBlob(0, Blob("x", "y", f"z{CUT}")))
            await out.send(PartEnd(0))
            await out.send(ResponseEnd("stop_sequence", f"s{CUT}"))

    recorder = JSONLRecorder(tmp_path / "t.jsonl")
    async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(handler) as rollout:
        got = await ask(rollout, stream=True)
    assert got.text.endswith("data: [DONE]\n\n")
    response = rollout.trace[0].response
    assert (response.id, response.model, response.stop_sequence) == (f"i{LOST}", f"m{LOST}", f"s{LOST}")
    assert response.content == (Reasoning("x", (Blob("x", "y", f"z{LOST}"),)),)
    (written,) = read_traces(tmp_path / "t.jsonl")
    assert written[0].response == response


@pytest.mark.parametrize("how", ["refuse", "a Refusal", "an error", "stop"])
async def test_a_surrogate_in_what_is_said_of_a_failure_is_mended(tmp_path: Path, how: str) -> None:
    async def handler(exchange: Exchange) -> None:
        match how:
            case "refuse":
                await exchange.refuse(400, f"no{CUT}")
            case "a Refusal":
                raise Refusal(400, f"no{CUT}")
            case "an error":
                raise FileNotFoundError(f"no{CUT}")
            case "stop":
                await rollout.stop(f"no{CUT}")

    recorder = JSONLRecorder(tmp_path / "t.jsonl")
    try:
        async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(handler) as rollout:
            await ask(rollout)
    except FileNotFoundError:
        assert how == "an error"
    error = rollout.trace[0].error
    assert error.message == f"no{LOST}"
    (written,) = read_traces(tmp_path / "t.jsonl")
    assert written[0].error == error


async def test_a_surrogate_in_what_the_program_asks_itself_is_mended(tmp_path: Path) -> None:
    recorder = JSONLRecorder(tmp_path / "t.jsonl")
    async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(echo) as rollout:
        answers = [
            await rollout.ask(f"a{CUT}"),
            await rollout.ask([Message("user", (Text(f"b{CUT}"),))]),
            await rollout.ask(
                Request(dialect="openai_chat", model="m", messages=(Message("user", (Text(CUT),)),))
            ),
        ]
    assert [answer.text for answer in answers] == [f"a{LOST}", f"b{LOST}", LOST]
    (written,) = read_traces(tmp_path / "t.jsonl")
    assert [turn.request for turn in written] == [turn.request for turn in rollout.trace]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", PATHS)
async def test_a_surrogate_in_the_code_of_a_refusal_is_mended_and_the_rollout_goes_on(
    dialect: str, stream: bool
) -> None:
    calls = count()

    async def handler(exchange: Exchange) -> None:
        match next(calls):
            case 0:
                await exchange.refuse(429, "no", code=f"c{CUT}")
            case 1:
                raise Refusal(429, "no", code=f"c{CUT}")
            case 2:
                code, headers = f"c{CUT}", {"x-a": "\x85", "x-b": CUT, "retry-after": f"1{CUT}"}
                raise UpstreamError("no", status=429, code=code, headers=headers, dialect=dialect)
            case _:
                await exchange.respond("hello")

    path = (STREAM_PATHS if stream else PATHS)[dialect]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        url = rollout.base_url("openai_chat").removesuffix("/v1") + path
        async with httpx2.AsyncClient(timeout=None) as client:
            for number in range(4):
                body = document(dialect, f"{number}", stream=stream)
                answer = await client.post(url, json=body, headers=bearer(rollout))
                assert answer.status_code == (200 if number == 3 else 429)
                if number < 3 and dialect.startswith("openai"):
                    assert answer.json()["error"]["code"] == f"c{LOST}"
    assert [turn.outcome for turn in rollout.trace] == ["refused"] * 3 + ["answered"]


@pytest.mark.parametrize("value", ["\x85", "\x80", "\xe9", "\u20ac", CUT, "a\nb", 5])
def test_a_header_of_a_refusal_that_no_client_can_read_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="a refusal cannot have the header 'x-a'"):
        Refusal(429, "no", headers={"x-a": value})


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1])
def test_seconds_that_nobody_can_wait_are_a_value_error(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^retry_after must be (0 or more|finite), not"):
        Refusal(429, "no", retry_after=seconds)


@pytest.mark.parametrize("code", [5, b"x", {}])
def test_a_code_that_is_no_text_is_a_type_error(code: Any) -> None:
    with pytest.raises(TypeError, match="a refusal's code must be a str"):
        Refusal(429, "no", code=code)
    with pytest.raises(TypeError, match="a refusal's code must be a str"):
        UpstreamError("no", code=code)


async def test_a_note_is_what_its_line_says_whatever_becomes_of_it_later(tmp_path: Path) -> None:
    steps: list[Any] = [("a", float("inf"))]

    async def answer(exchange: Exchange) -> None:
        exchange.annotate(steps=steps)
        await exchange.respond("hello")
        steps.append(("b", 0.0))

    async with testing.open_rollout(answer, recorder=JSONLRecorder(tmp_path / "t.jsonl")) as rollout:
        await rollout.ask(Request(dialect="openai_chat", model="m", messages=(Message("user", "hi"),)))
    assert rollout.trace[0].notes == {"steps": [["a", None]]}
    assert read_traces(tmp_path / "t.jsonl") == [rollout.trace]


@pytest.mark.parametrize("dialect", PATHS)
async def test_what_a_program_changes_in_the_document_changes_no_record_and_no_later_call(
    tmp_path: Path, dialect: str
) -> None:
    seen: list[str] = []

    async def answer(exchange: Exchange) -> None:
        seen.append(json.dumps(exchange.raw) + repr(exchange.request))
        _spoil(exchange.raw)
        assert "SPOILED" in json.dumps(exchange.raw), "it is the program's"
        await exchange.respond("hello")

    body = document(dialect, "hi") | TOOLS.get(dialect, {}) | {"from_the_future": {"a": [1]}}
    async with serve_endpoint(recorder=JSONLRecorder(tmp_path / "t.jsonl")) as endpoint:
        async with endpoint.open_rollout(answer) as rollout, httpx2.AsyncClient() as client:
            for _ in range(2):
                url = f"{endpoint.url}{PATHS[dialect]}"
                assert (await client.post(url, json=body, headers=bearer(rollout))).status_code == 200
    assert "SPOILED" not in "".join(seen)
    assert "SPOILED" not in (tmp_path / "t.jsonl").read_text() + repr([*rollout.trace])
    assert read_traces(tmp_path / "t.jsonl") == [rollout.trace]


TOOLS: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]
    },
    "anthropic_messages": {"tools": [{"name": "t", "input_schema": {"type": "object"}}]},
    "openai_responses": {"tools": [{"type": "function", "name": "t", "parameters": {"type": "object"}}]},
}


def _spoil(value: Any) -> None:
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _spoil(inner)
        value.update(SPOILED=1) if isinstance(value, dict) else value.append("SPOILED")
