"""The benchmark's own tools: a ratio is worth what its load generator is worth."""

import json

import pytest

from bench.bodies import make_body
from bench.dialects import NAMES, make_dialect_body, path_in
from bench.load import Job, make_requests
from bench.report import Report
from bench.targets import OURS, Target
from bench.wire import BadResponse, ResponseReader, make_request
from triocept.dialects import DIALECTS

pytestmark = pytest.mark.once

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"9\r\ndata: a\n\n\r\n" * 3 + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [2048, 4096, 65536, 5 * 2**20])
def test_a_body_has_the_size_that_was_asked_for_to_the_byte(size: int) -> None:
    body = make_body(size, stream=True)

    assert len(body) == size
    document = json.loads(body)
    assert document["stream"] is True
    assert [message["role"] for message in document["messages"]][:2] == ["system", "user"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [4096, 65536, 5 * 2**20])
@pytest.mark.parametrize("dialect", NAMES)
def test_a_body_is_the_same_conversation_of_the_same_size_in_every_dialect(
    dialect: str, size: int, stream: bool
) -> None:
    body = make_dialect_body(size, dialect, stream=stream)
    path, _, query = path_in("/v1/chat/completions", dialect, stream=stream).partition("?")

    assert len(body) == size
    target = DIALECTS[dialect].match(path, query)
    assert target is not None
    request = DIALECTS[dialect].parse_request(json.loads(body), target)
    assert (request.model, request.stream) == ("bench", stream)
    results = sum(len(message.tool_results) for message in request.messages)
    assert (results > 0) == (dialect != "openai_completions")
    assert "Find out why, and mend it." in "".join(message.text for message in request.messages)


def test_a_path_in_another_dialect_is_that_of_the_same_rollout() -> None:
    path = path_in("/rollout/7/v1/chat/completions", "gemini", stream=True)
    assert path == "/rollout/7/v1beta/models/bench:streamGenerateContent?alt=sse"


def test_a_body_that_cannot_be_so_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        make_body(100)


def test_requests_that_wait_are_each_a_conversation_of_their_own() -> None:
    job = Job(port=1, routes=[["/a", "key a"], ["/b", "key b"]], connections=5, body=4096)

    requests = make_requests(job)

    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
    assert len(set(bodies)) == 5
    assert {len(body) for body in bodies} == {4096}
    assert [request.split()[1] for request in requests] == [b"/a", b"/b", b"/a", b"/b", b"/a"]
    assert all(b"x-bench: hold" in request for request in requests)


def test_a_request_says_how_long_its_body_is_and_whether_it_is_to_be_held() -> None:
    request = make_request("/v1/chat/completions", "key", b"{}", hold=True)

    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert b"content-length: 2" in head
    assert b"x-bench: hold" in head
    assert b"x-bench" not in make_request("/", "key", b"{}")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("wire", "events"), [(WHOLE, 0), (CHUNKED, 3)])
def test_a_response_ends_with_its_last_byte_however_it_is_cut(wire: bytes, events: int, step: int) -> None:
    reader = ResponseReader()

    for _ in range(2):  # a connection is used again
        pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
        assert [reader.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert reader.events == 2 * events


@pytest.mark.parametrize("wire", [b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", HEAD + b"\r\nhello"])
def test_a_response_that_says_no_or_does_not_say_where_it_ends_is_never_counted(wire: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader().feed(wire)


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    report = Report()
    for number, (ours, theirs) in enumerate([(10.0, 10.0), (2.0, 1.0), (30.0, 10.0)]):
        report.add(OURS, number, {"calls/CPU s c=1 4KB": ours})
        report.add("vf_legacy", number, {"calls/CPU s c=1 4KB": theirs})

    row = report.rows()[0]

    assert row.name == "calls/CPU s c=1 4KB vs vf_legacy"
    assert row.ratio == 2.0
    assert row.met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {row.met for row in Report().rows()} == {None}


def test_a_target_knows_in_which_direction_it_is_good() -> None:
    assert Target("req/s", "x", 1.0).met(1.0)
    assert not Target("ms", "x", 0.3, more_is_better=False).met(0.4)
