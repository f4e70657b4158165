"""Server-sent events, as WHATWG HTML has them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triocept._util.sse import SSE, SSEDecoder, encode_sse
from triocept.errors import DialectError

from .strategies import splits

CASES = {
    "one event": (b"data: a\n\n", [SSE(b"a")]),
    "a name": (b"event: ping\ndata: a\n\n", [SSE(b"a", "ping")]),
    "an id": (b"id: 7\ndata: a\n\n", [SSE(b"a", id="7")]),
    "an id stays": (b"id: 7\ndata: a\n\ndata: b\n\n", [SSE(b"a", id="7"), SSE(b"b", id="7")]),
    "an id with a NUL is none": (b"id: 7\0\ndata: a\n\n", [SSE(b"a")]),
    "several data lines": (b"data: a\ndata: b\n\n", [SSE(b"a\nb")]),
    "no space": (b"data:a\n\n", [SSE(b"a")]),
    "only one space is cut": (b"data:  a\n\n", [SSE(b" a")]),
    "no colon": (b"data\n\n", [SSE(b"")]),
    "a comment": (b": OPENROUTER PROCESSING\n\ndata: a\n\n", [SSE(b"a")]),
    "an unknown field": (b"retry: 5\ndata: a\n\n", [SSE(b"a")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [SSE(b"a")]),
    "carriage returns": (b"data: a\r\rdata: b\r\r", [SSE(b"a"), SSE(b"b")]),
    "both": (b"data: a\r\n\r\ndata: b\r\n\r\n", [SSE(b"a"), SSE(b"b")]),
    "mixed": (b"data: a\r\n\ndata: b\n\r\n", [SSE(b"a"), SSE(b"b")]),
    "a name without data is no event": (b"event: x\n\ndata: a\n\n", [SSE(b"a")]),
    "what the end cuts is no event": (b"data: a\n\ndata: b\n", [SSE(b"a")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("body", "events"), CASES.values(), ids=CASES.keys())
def test_these_bytes_are_these_events(body: bytes, events: list[SSE]) -> None:
    assert SSEDecoder().feed(body) == events


@pytest.mark.parametrize(("body", "events"), CASES.values(), ids=CASES.keys())
def test_byte_by_byte_they_are_the_same(body: bytes, events: list[SSE]) -> None:
    decoder = SSEDecoder()
    assert [sse for i in range(len(body)) for sse in decoder.feed(body[i : i + 1])] == events


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_any_split_gives_the_same_events(data: st.DataObject) -> None:
    pieces = st.sampled_from([b"data: a", b"data:", b"event: e", b": c", b"id: 1", b"\n", b"\r", b"\r\n"])
    body = b"".join(data.draw(st.lists(pieces, max_size=20)))
    decoder = SSEDecoder()
    split = [sse for piece in data.draw(splits(body)) for sse in decoder.feed(piece)]
    assert split == SSEDecoder().feed(body)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r")), st.sampled_from([None, "e"])
)
def test_what_is_encoded_is_decoded(data: str, event: str | None) -> None:
    assert SSEDecoder().feed(encode_sse(data, event)) == [SSE(data.encode(), event or "")]


def test_an_event_that_is_too_large_is_an_error() -> None:
    decoder = SSEDecoder(max_event=100)
    with pytest.raises(DialectError, match="larger than the maximum of 100 bytes"):
        for _ in range(200):
            decoder.feed(b"x")


def test_many_small_lines_of_one_event_are_counted_too() -> None:
    with pytest.raises(DialectError, match="larger"):
        SSEDecoder(max_event=100).feed(b"data:\n" * 20)


def test_comments_may_come_for_ever() -> None:
    decoder = SSEDecoder(max_event=100)
    for _ in range(100):
        assert decoder.feed(b": still here\n") == []


def test_events_may_come_for_ever() -> None:
    decoder = SSEDecoder(max_event=20)
    assert sum(len(decoder.feed(b"data: 123456\n\n")) for _ in range(50)) == 50
