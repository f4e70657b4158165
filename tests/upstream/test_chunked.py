"""The chunked coding is read as h11 reads it, however it comes."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocept._upstream.chunked import ChunkedDecoder

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
# No space before a semicolon: RFC 9112 (7.1.1) has a recipient accept it, and h11 refuses it.
PIECES = [
    b"\r\n", b"\n", b"\r", b"0", b"5", b"a", b"A", b" \r\n", b";", b"x: y\r\n", b"0\r\n\r\n", b"3\r\nabc\r\n",
]  # fmt: skip


def coded(chunks: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    lines = [b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
    return b"".join([*lines, b"0", extension, b"\r\n", trailers, b"\r\n"])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def read(data: list[bytes]) -> tuple[bytes, bool, bytes] | None:
    """The body, whether it has ended, and what is behind it; None: it is none."""
    decoder, body = ChunkedDecoder(), b""
    try:
        for piece in data:
            body += decoder.feed(piece)
    except ValueError:
        return None
    if decoder.fault is not None:
        return None
    return body, decoder.ended, decoder.rest if decoder.ended else b""


def read_by_h11(data: bytes) -> tuple[bytes, bool, bytes] | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(HEAD + data)
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, True, connection.trailing_data[0]
        elif event is h11.NEED_DATA:
            return body, False, b""


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";a=b", b" ;a", b"  "]),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc: d\r\n"]),
    st.binary(max_size=9),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_however_it_is_cut_the_body_is_the_same(
    chunks: list[bytes], extension: bytes, trailers: bytes, behind: bytes, cuts: list[int]
) -> None:
    data = coded(chunks, extension, trailers) + behind
    assert read(pieces(data, cuts)) == (b"".join(chunks), True, behind)


def test_a_body_that_is_cut_anywhere_has_not_ended() -> None:
    data = coded([b"abc", b"\r\n0\r\n\r\n", b"x" * 20], b";e", b"a: b\r\n")
    for at in range(len(data)):
        found = read([data[:at]])
        assert not found[1]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.lists(st.integers(0, 60), max_size=4))
def test_what_is_almost_the_coding_is_read_as_h11_reads_it_or_refused(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    found = read(pieces(data, cuts))
    if found is not None and found[1]:
        assert found == read_by_h11(data)


@pytest.mark.parametrize("data", [
    b"x\r\n",
    b"-1\r\n",
    b"+5\r\nabcde\r\n",
    b"0x5\r\n",
    b"\r\n",
    b"5\n",
    b"3\r\nabcd\r\n",
    b"3\r\nabc\n",
    b"f" * 16,
])  # fmt: skip
def test_what_is_not_the_coding_is_an_error(data: bytes) -> None:
    assert read([data + b"\r\n\r\n"]) is None
    assert read([bytes([byte]) for byte in data + b"\r\n\r\n"]) is None


@pytest.mark.parametrize("start", [b"5;", b"0\r\na: ", b"3\r\nabc"])
def test_no_line_is_kept_for_ever(start: bytes) -> None:
    assert read([start, b"x" * 20_000]) is None


@pytest.mark.parametrize("fault", [b"x\r\n", b"3\r\nabcd\r\n", b"\r\n", b"0\r\nno header\r\n\r\n"])
def test_what_came_before_a_fault_counts_however_it_comes_and_nothing_behind_it(fault: bytes) -> None:
    data = coded([b"abc", b"de"])[: -len(b"0\r\n\r\n")] + fault + b"2\r\nzz\r\n0\r\n\r\n"
    for size in (1, 3, len(data)):
        decoder, body = ChunkedDecoder(), b""
        with pytest.raises(ValueError, match="chunk"):
            for piece in [*(data[at : at + size] for at in range(0, len(data), size)), b"0\r\n\r\n"]:
                body += decoder.feed(piece)
        assert body in (b"abcde", b"abcdeabc")
        assert not decoder.ended
