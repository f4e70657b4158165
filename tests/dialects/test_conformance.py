"""What every dialect must do, for any request, any response and any stream.

Documented normalisations, which is why some properties speak of the second reading:

* A list of one plain text and the string are one content; texts that the wire cannot hold apart become one.
* Anthropic refuses text without a visible character, and thinking that it did not sign: both are left out.
* Chat completions and Responses have no words for an error of a tool: it is written into the result's text.
* Responses must have every number of the usage: one that nobody counted is written as 0.
* Gemini has no words for the user, for strict tools and for tokens written to a cache; completions have none for
  tools; Ollama has none for the user, for a choice of tools, and for any numbers but two: `some.sayable` leaves them
  out.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triocept._canonical.content import Message, Reasoning, Text, ToolCall
from triocept._canonical.events import (
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)
from triocept._canonical.memory import Memory
from triocept._canonical.request import Request
from triocept._canonical.response import Response
from triocept._upstream.relay import Frames
from triocept.dialects import DIALECTS, Dialect, Failure
from triocept.errors import DialectError, UpstreamError, UpstreamTruncated

from . import strategies as some

pytestmark = pytest.mark.once

few = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(params=sorted(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


def asked(dialect: Dialect, **fields: Any) -> Request:
    messages = (Message("user", (Text("hi"),)),)
    return Request(dialect=dialect.name, model="m", messages=messages, stream=True, **fields)


def streamed(dialect: Dialect, events: Any, request: Request) -> bytes:
    renderer = dialect.stream_renderer(request)
    return b"".join(renderer.render(event) for event in events)


def read(dialect: Dialect, *pieces: bytes) -> list[Any]:
    parser = dialect.stream_parser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


def essence(response: Response) -> Any:
    """What must be the same, streamed or whole: ids are made anew, JSON may be spaced otherwise."""
    content = []
    for part in response.content:
        if isinstance(part, ToolCall):
            part = msgspec.structs.replace(part, id="", arguments=meaning(part.arguments))
        content.append(part)
    return msgspec.structs.replace(response, content=tuple(content), id="", usage=None), response.usage


def meaning(arguments: str) -> Any:
    """Arguments without their spaces; what Anthropic's wire had to wrap is unwrapped in a whole answer only."""
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments
    return meaning(value["_raw"]) if isinstance(value, dict) and value.keys() == {"_raw"} else value


@few
@given(data=st.data())
def test_a_document_read_and_written_again_is_the_same_document(
    dialect: Dialect, data: st.DataObject
) -> None:
    document = dialect.render_request(data.draw(some.any_request(dialect.name)))
    once = dialect.render_request(dialect.parse_request(document))
    assert dialect.render_request(dialect.parse_request(once)) == once
    assert once.keys() == document.keys()


@few
@given(data=st.data())
def test_a_request_written_and_read_again_says_the_same(dialect: Dialect, data: st.DataObject) -> None:
    request = data.draw(some.any_request(dialect.name))
    again = dialect.parse_request(dialect.render_request(request))
    assert dialect.parse_request(dialect.render_request(again)) == again
    assert (again.model, again.tools, again.user) == (request.model, request.tools, request.user)
    assert calls_of(again) == calls_of(request)
    assert again.extra is None or request.extra is None or again.extra.items() >= request.extra.items()


@few
@given(data=st.data())
def test_what_is_remembered_of_earlier_calls_changes_nothing(dialect: Dialect, data: st.DataObject) -> None:
    """Each call is read as if it were the first: a longer conversation, a cut one, another head, another call."""
    memory = Memory()
    one, two = (data.draw(some.any_request(dialect.name)) for _ in range(2))
    calls = [
        one,
        msgspec.structs.replace(one, messages=(*one.messages, *two.messages)),
        one,
        msgspec.structs.replace(one, messages=(*two.messages[:1], *one.messages[1:])),
        msgspec.structs.replace(two, messages=one.messages),
        two,
    ]
    for call in calls:
        document = dialect.render_request(call)
        wire = msgspec.json.encode(document)
        assert dialect.parse_request(document, memory=memory) == dialect.parse_request(document)
        assert msgspec.json.encode(document) == wire, "the document is as it was"


@pytest.mark.parametrize(("before", "now"), [(True, 1), (False, 0), (True, 1.0)])
def test_a_number_is_not_the_boolean_of_the_call_before(before: bool, now: float) -> None:
    """In Python they are equal."""
    codec, memory = DIALECTS["openai_chat"], Memory()
    call = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    codec.parse_request({**call, "stream": before}, memory=memory)
    with pytest.raises(DialectError, match="stream: must be a boolean"):
        codec.parse_request({**call, "stream": now}, memory=memory)
    options = codec.parse_request({**call, "x": {"deep": before}}, memory=memory)
    again = codec.parse_request({**call, "x": {"deep": now}}, memory=memory)
    assert (options.extra, again.extra) == ({"x": {"deep": before}}, {"x": {"deep": now}})
    assert type(again.extra["x"]["deep"]) is type(now)  # type: ignore[index]


@few
@given(data=st.data())
def test_a_request_of_any_dialect_can_be_written(dialect: Dialect, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*sorted(DIALECTS), "another"]))
    request = some.sayable(data.draw(some.any_request(name)), dialect.name)
    again = dialect.parse_request(dialect.render_request(request))
    assert calls_of(again) == calls_of(request)
    if name != dialect.name:
        assert "x_" not in str(again.extra)


def calls_of(request: Request) -> list[Any]:
    return [call.name for message in request.messages for call in message.tool_calls]


@few
@given(data=st.data())
def test_a_response_written_and_read_again_is_the_same(dialect: Dialect, data: st.DataObject) -> None:
    response, request = data.draw(some.any_response(dialect.name)), asked(dialect)
    once = dialect.parse_response(dialect.render_response(response, request))
    again = dialect.parse_response(dialect.render_response(once, request))
    assert again == once
    assert [call.name for call in once.tool_calls] == [call.name for call in response.tool_calls]
    assert once.extra == response.extra
    assert response.usage is None or counted(once) == counted(response)


def counted(response: Response) -> Any:
    """The usage; Responses writes 0 for a number that nobody counted."""
    names = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return response.usage and msgspec.structs.replace(
        response.usage, **{name: getattr(response.usage, name) or 0 for name in names}
    )


@few
@given(data=st.data())
def test_a_stream_folded_is_the_whole_response(dialect: Dialect, data: st.DataObject) -> None:
    response, request = data.draw(some.any_response(dialect.name)), asked(dialect)
    whole = dialect.parse_response(dialect.render_response(response, request))
    # A whole document may hold parts apart less well than a stream does: so both are written from what it held.
    folded = assemble(read(dialect, streamed(dialect, events_of(whole), request)))
    assert essence(folded)[0] == essence(whole)[0]
    assert whole.usage is None or folded.usage == whole.usage


@few
@given(data=st.data())
def test_interleaved_parts_are_all_there(dialect: Dialect, data: st.DataObject) -> None:
    response, events = data.draw(some.interleaved(dialect.name))
    request = asked(dialect)
    straight = assemble(read(dialect, streamed(dialect, events_of(response), request)))
    mixed = assemble(read(dialect, streamed(dialect, events, request)))
    assert calls_and_texts(mixed) == calls_and_texts(straight)
    assert mixed.stop_reason == straight.stop_reason


def calls_and_texts(response: Response) -> Any:
    calls = [(call.name, str(meaning(call.arguments))) for call in response.tool_calls]
    return (
        sorted(calls),
        sorted(response.text),
        sorted(char for part in response.content if isinstance(part, Reasoning) for char in part.text),
    )


@few
@given(data=st.data())
def test_any_split_of_the_bytes_gives_the_same_events(dialect: Dialect, data: st.DataObject) -> None:
    body = streamed(dialect, events_of(data.draw(some.any_response(dialect.name))), asked(dialect))
    body = body.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r", b"\r\n"])))
    events = read(dialect, body)
    assert read(dialect, *data.draw(some.splits(body))) == events


def test_byte_by_byte_gives_the_same_events(dialect: Dialect) -> None:
    answer = Response.of(Reasoning("hm é"), "hello 😀", ToolCall.of("ls", path="/"))
    response = some.sayable_answer(answer, dialect.name)
    body = streamed(dialect, events_of(response), asked(dialect))
    assert read(dialect, *(body[i : i + 1] for i in range(len(body)))) == read(dialect, body)


@few
@given(data=st.data())
def test_what_may_go_on_before_it_is_read_neither_ends_nor_fails(
    dialect: Dialect, data: st.DataObject
) -> None:
    response = data.draw(some.any_response(dialect.name))
    body = streamed(dialect, events_of(response), asked(dialect))
    body = body.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r", b"\r\n"])))
    parser = dialect.stream_parser()
    for frame in Frames(parser.frame_end).feed(body):
        is_plain_content = parser.is_plain_content(frame) and not parser.ending
        assert parser.is_plain_content(frame) == parser.is_plain_content(frame + frame)  # each is looked at
        events = parser.feed(frame)
        assert not is_plain_content or not (
            parser.ending or any(isinstance(event, ResponseEnd) for event in events)
        )
    assert not parser.is_plain_content(body)


def test_text_may_go_on_before_it_is_read(dialect: Dialect) -> None:
    events = [
        ResponseStart(id="i", model="m"),
        PartStart(0, Text("")),
        PartDelta(0, "a"),
        PartDelta(0, '"error" é'),
    ]
    renderer = dialect.stream_renderer(asked(dialect))
    *_, frame = [renderer.render(event) for event in events]
    parser = dialect.stream_parser()
    assert parser.is_plain_content(frame)
    assert parser.is_plain_content(frame * 3)
    assert parser.is_plain_content(frame.replace(b"\n", b"\r\n"))


def test_what_is_no_whole_content_may_not_go_on_before_it_is_read(dialect: Dialect) -> None:
    renderer, parser = dialect.stream_renderer(asked(dialect)), dialect.stream_parser()
    renderer.render(ResponseStart(id="i", model="m"))
    renderer.render(PartStart(0, Text("")))
    *_, frame = Frames(parser.frame_end).feed(renderer.render(PartDelta(0, "a")))
    error = renderer.fail(Failure(status=500, message="it broke"))
    assert not any(parser.is_plain_content(frame[:size]) for size in range(len(frame)))
    assert not any(
        parser.is_plain_content(frame[start:])
        for start in range(1, len(frame))
        if not frame[start:].startswith(b"data")
    )
    for other in (
        error,
        b": a comment\n\n",
        b"data: [DONE]\n\n",
        b"\n\n",
        b"retry: 5\n\n",
        b"data: {}\ndata: {}\n\n",
    ):
        assert not parser.is_plain_content(other)
        assert not parser.is_plain_content(frame + other)
        assert not parser.is_plain_content(other + frame)


def test_content_with_an_error_in_it_may_not_go_on_before_it_is_read(dialect: Dialect) -> None:
    events = [ResponseStart(id="i", model="m"), PartStart(0, Text("")), PartDelta(0, "a")]
    *before, frame = Frames(dialect.stream_parser().frame_end).feed(streamed(dialect, events, asked(dialect)))
    document = frame.rstrip(b"\n")
    failing = document.removesuffix(b"}") + b',"error":{"message":"it broke"}}' + frame[len(document) :]
    parser = dialect.stream_parser()
    parser.feed(b"".join(before))
    if dialect.name == "anthropic_messages":  # there the type alone counts
        assert parser.feed(failing) == [PartDelta(0, "a")]
        return
    assert not parser.is_plain_content(failing)
    with pytest.raises(UpstreamError, match="it broke"):
        parser.feed(failing)


ENDS = {
    "openai_chat": b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]',
    "openai_completions": b'"choices":[{"index":0,"text":"","finish_reason":"stop"}]',
    "openai_responses": b'"type":"response.completed","response":{"status":"completed"}',
    "anthropic_messages": b'"type":"message_delta","delta":{"stop_reason":"end_turn"}',
    "gemini": b'"candidates":[{"finishReason":"STOP"}]',
    "ollama": b'"done":true',
}
HIDES = {
    "openai_chat": ("finish_reason", "finish_reaso\\u006e"),
    "openai_completions": ("finish_reason", "finish\\u005freason"),
    "openai_responses": ('"type"', '"t\\u0079pe"'),
    "anthropic_messages": ('"type"', '"\\u0074ype"'),
    "gemini": ("finishReason", "finish\\u0052eason"),
    "ollama": ("done", "don\\u0065"),
}


@pytest.mark.parametrize("hidden", [False, True])
def test_an_end_that_does_not_look_like_one_may_not_go_on_before_it_is_read(
    dialect: Dialect, hidden: bool
) -> None:
    """Of two fields of one name, the second counts; and letters may be escaped."""
    events = [ResponseStart(id="i", model="m"), PartStart(0, Text("")), PartDelta(0, "a")]
    *before, frame = Frames(dialect.stream_parser().frame_end).feed(streamed(dialect, events, asked(dialect)))
    parser = dialect.stream_parser()
    parser.feed(b"".join(before))
    end = ENDS[dialect.name]
    if hidden:
        name, written = HIDES[dialect.name]
        end = end.replace(name.encode(), written.encode())
        assert b"\\u00" in end
    document = frame.rstrip(b"\n")
    ending = document.removesuffix(b"}") + b"," + end + b"}" + frame[len(document) :]
    assert not parser.is_plain_content(ending)
    assert parser.is_plain_content(frame)
    parser.feed(ending)
    assert parser.ending, "it is one"


@pytest.mark.parametrize(
    "text", ["\\u003cb\\u003e \\u0026", '{\\"type\\":\\"message_stop\\"}', "\\u4f60\\u00e9"]
)
def test_text_that_is_escaped_may_go_on_before_it_is_read(dialect: Dialect, text: str) -> None:
    """As Go writes HTML, Python what is not ASCII, and all of them JSON in a text."""
    renderer = dialect.stream_renderer(asked(dialect))
    started = [ResponseStart(id="i", model="m"), PartStart(0, Text("")), PartDelta(0, "a")]
    *_, frame = [renderer.render(event) for event in [*started, PartDelta(0, "abc")]]
    assert dialect.stream_parser().is_plain_content(frame.replace(b'"abc"', b'"%b"' % text.encode()))


@few
@given(data=st.data())
def test_a_truncated_stream_is_never_a_success(dialect: Dialect, data: st.DataObject) -> None:
    response, request = data.draw(some.any_response(dialect.name)), asked(dialect)
    body = streamed(dialect, events_of(response), request)
    whole = assemble(read(dialect, body))
    cut = data.draw(st.integers(0, len(body) - 1))
    try:
        folded = assemble(read(dialect, body[:cut]))
    except UpstreamTruncated:
        return
    assert (folded.content, folded.stop_reason) == (whole.content, whole.stop_reason)  # only the tail was cut


@few
@given(document=some.any_json)
def test_any_json_is_a_request_or_an_error_with_words(dialect: Dialect, document: Any) -> None:
    with pytest.raises(DialectError):
        dialect.parse_request(document)
    assert 400 <= dialect.parse_error(500, document).status <= 599


@few
@given(data=st.data())
def test_a_malformed_document_gives_a_path_into_it(dialect: Dialect, data: st.DataObject) -> None:
    document = dialect.render_request(data.draw(some.any_request(dialect.name)))
    spoilt, path = spoil(data, document)
    error = error_of(lambda: dialect.parse_request(spoilt))
    if error is not None:  # it may be something that nobody reads
        assert isinstance(error, DialectError)
        shorter, longer = sorted((error.path, path), key=len)
        assert longer.startswith(shorter)
        assert error.path


@few
@given(data=st.data())
def test_a_malformed_answer_is_an_error_of_ours(dialect: Dialect, data: st.DataObject) -> None:
    response, request = data.draw(some.any_response(dialect.name)), asked(dialect)
    spoilt, _ = spoil(data, dialect.render_response(response, request))
    assert is_none_or_ours(error_of(lambda: dialect.parse_response(spoilt)))


@few
@given(data=st.data())
def test_a_malformed_stream_is_an_error_of_ours(dialect: Dialect, data: st.DataObject) -> None:
    body = streamed(dialect, events_of(data.draw(some.any_response(dialect.name))), asked(dialect))
    lines = body.split(b"\n\n")
    number = data.draw(st.integers(0, len(lines) - 1))
    head, _, payload = lines[number].rpartition(b"data: ")
    try:
        spoilt, _ = spoil(data, msgspec.json.decode(payload))
    except msgspec.DecodeError:
        return
    lines[number] = head + b"data: " + msgspec.json.encode(spoilt)
    assert is_none_or_ours(error_of(lambda: read(dialect, b"\n\n".join(lines))))


def error_of(parse: Callable[[], Any]) -> Exception | None:
    try:
        parse()
    except Exception as exc:
        return exc
    return None


def is_none_or_ours(error: Exception | None) -> bool:
    """What is spoilt may be something that nobody reads; if it is read, its error is told in our words."""
    return error is None or isinstance(error, DialectError | UpstreamError)


@pytest.mark.parametrize("wrong", [None, 0, "", "text", [0], {"type": 0}])
def test_an_answer_that_is_none_and_an_event_that_is_none_are_refused(dialect: Dialect, wrong: Any) -> None:
    """That the two tests before this one can fail: something is refused, and where it is, as an error of ours."""
    event = b"data: " + msgspec.json.encode(wrong) + b"\n\n"
    errors = [error_of(lambda: dialect.parse_response(wrong)), error_of(lambda: read(dialect, event))]
    assert [type(error) for error in errors if not isinstance(error, DialectError | UpstreamError)] == []


def spoil(data: st.DataObject, document: Any, path: str = "") -> tuple[Any, str]:
    """The document with one value of another kind somewhere, and where."""
    places = []
    if isinstance(document, dict):
        places = [(name, f"{path}.{name}" if path else name) for name in document]
    elif isinstance(document, list):
        places = [(number, f"{path}[{number}]") for number in range(len(document))]
    if not places or (path and data.draw(st.integers(0, 3)) == 0):
        return data.draw(some.any_json), path
    key, inner = data.draw(st.sampled_from(places))
    spoilt, where = spoil(data, document[key], inner)
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[key] = spoilt
    return copy, where


def test_the_memory_of_a_parser_is_that_of_one_event(dialect: Dialect) -> None:
    renderer, parser = dialect.stream_renderer(asked(dialect)), dialect.stream_parser()
    parser.feed(renderer.render(ResponseStart()) + renderer.render(PartStart(0, Text(""))))
    for _ in range(100):
        parser.feed(renderer.render(PartDelta(0, "x" * 100)))
    pieces = [
        renderer.render(PartDelta(0, "x" * 100)) for _ in range(3000)
    ]  # a renderer may have to keep them
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for piece in pieces:
        parser.feed(piece)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000


def test_a_keepalive_is_nothing_to_the_reader(dialect: Dialect) -> None:
    renderer = dialect.stream_renderer(asked(dialect))
    answer = some.sayable_answer(Response.of("hello", ToolCall.of("ls")), dialect.name)
    body = b"".join(renderer.keepalive() + renderer.render(event) for event in events_of(answer))
    response = assemble(read(dialect, body))
    names = [call.name for call in answer.tool_calls]
    assert (response.text, [call.name for call in response.tool_calls]) == ("hello", names)


def test_a_failure_in_a_stream_is_an_error_to_the_reader(dialect: Dialect) -> None:
    renderer = dialect.stream_renderer(asked(dialect))
    body = renderer.render(ResponseStart()) + renderer.fail(Failure(status=503, message="no capacity"))
    with pytest.raises(UpstreamError, match="no capacity"):
        read(dialect, body)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 502, 503, 529])
def test_an_error_written_and_read_again_keeps_its_words(dialect: Dialect, status: int) -> None:
    document = dialect.render_error(Failure(status=status, message="the reason"))
    failure = dialect.parse_error(status, document)
    assert (failure.status, failure.message) == (status, "the reason")


def test_an_error_in_place_of_an_answer_is_raised(dialect: Dialect) -> None:
    with pytest.raises(UpstreamError, match="the reason"):
        dialect.parse_response(dialect.render_error(Failure(status=500, message="the reason")))


def test_no_event_follows_the_end(dialect: Dialect) -> None:
    body = streamed(dialect, events_of(Response.of("a")), asked(dialect))
    events = read(dialect, body, body)
    assert [type(event) for event in events] == [ResponseStart, PartStart, PartDelta, PartEnd, ResponseEnd]
