"""Bodies of any size are read as JSON is, and a large one lets others run meanwhile."""

import json
import re
import tracemalloc

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asking import ask_body, connected, echo, raw_request
from triocept import Refusal, serve_endpoint
from triocept._server import documents
from triocept._server.documents import check_values, count_marks, read_body
from triocept.errors import DialectError

LARGE = 3 * 1024 * 1024


async def has_more(body: bytes, most: int) -> bool:
    """Whether a body is refused because it has more values."""
    try:
        await check_values(body, most)
    except Refusal:
        return True
    return False


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@pytest.mark.once
@settings(max_examples=200, derandomize=True, deadline=None)
@given(value=values, spaces=st.sampled_from([None, 1]))
def test_a_document_read_in_pieces_is_the_document(value: object, spaces: int | None) -> None:
    body = json.dumps(value, indent=spaces).encode()

    async def read() -> object:
        return await read_body(body, 10 * LARGE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "LARGE", 0)
        assert trio.run(read) == value


quotes = st.recursive(
    st.text('\\\\",[{a', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('\\\\",{', max_size=3), inner, max_size=4)
    ),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(value=quotes, most=st.integers(0, 12), step=st.integers(2, 7))
def test_what_stands_in_a_string_is_no_value_wherever_it_is_cut(value: object, most: int, step: int) -> None:
    body = json.dumps(value).encode()
    outside, strings = re.subn(rb'"(?:[^"\\]|\\.)*"', b"", body)
    marks = sum(outside.count(mark) for mark in (b",", b"[", b"{"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_PIECE", step)
        assert trio.run(documents._has_more_outside, body, most) == (marks > most or strings > 2 * most)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": [1, 2, ' + b" " * LARGE, "truncated"),
        (b'{"a": [1, 2, nope]}' + b" " * LARGE, "byte 17"),
        (b"[" * LARGE, "nested too deeply"),
        (b'{"a": "\xff"}' + b" " * LARGE, "(?i:utf-8)"),  # as each version of msgspec writes it
    ],
)
async def test_a_large_body_that_is_no_json_is_an_error_with_its_place(body: bytes, says: str) -> None:
    with pytest.raises(DialectError, match=f"the body is not valid JSON: .*{says}"):
        await read_body(body, 10 * LARGE)


async def test_a_large_body_lets_others_run_while_it_is_read() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 1000}] * 5000}).encode()
    turns = 0

    async def run_meanwhile() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_meanwhile)
        await trio.lowlevel.checkpoint()
        await read_body(body, 10 * LARGE)
        nursery.cancel_scope.cancel()
    assert turns >= len(body) // documents.LARGE


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("filler", [0, LARGE])
async def test_half_an_emoji_does_not_cost_an_agent_its_call(filler: int) -> None:
    """JavaScript's JSON.stringify writes one where a text was cut between the halves."""
    body = json.dumps(ask_body("?", filler="x" * filler)).replace('"?"', '"cut \\ud83d"').encode()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, body))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    assert rollout.trace[0].request.last.text == "cut \ufffd"


@settings(max_examples=200, derandomize=True, deadline=None)
@given(value=values, most=st.integers(0, 30))
def test_the_values_of_a_document_are_counted_outside_of_its_strings(value: object, most: int) -> None:
    body = json.dumps(value).encode()
    plain = json.dumps(_without_text(value)).encode()
    marks = count_marks(plain, 0, len(plain))

    async def count(step: int) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "_STEP", step)
            return await has_more(body, most)

    for step in (2, 7, 1 << 20):
        over = trio.run(count, step)
        assert over == (marks > most) or (over and body.count(b'"') > 4 * most)


def _without_text(value: object) -> object:
    if isinstance(value, str):
        return ""
    if isinstance(value, dict):
        return {str(number): _without_text(inner) for number, inner in enumerate(value.values())}
    return [_without_text(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", [
    b'{"messages": [' + b"[]," * (16 * 1024 * 1024 // 3) + b"[]]}",
    b'["' + b'","' * 100_000 + b'"]',
], ids=["lists", "texts"])  # fmt: skip
async def test_a_document_of_too_many_values_is_refused_before_it_is_decoded(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="more than 50,000 JSON values") as refused:
            await read_body(body, 50_000)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


async def test_a_text_of_many_commas_is_one_value() -> None:
    body = json.dumps({"text": 'a, "b", \\\\ [c], {d}' * 40_000}).encode()
    assert await read_body(body, 100_000) == json.loads(body)


@pytest.mark.parametrize("text", [False, True], ids=["values", "one text"])
async def test_others_have_a_turn_while_the_values_are_counted(text: bool) -> None:
    body = b'["' + b"a," * 4_000_000 + b'"]' if text else b"[" + b"1," * 4_000_000 + b"1]"
    turns = 0

    async def run_meanwhile() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_meanwhile)
        await trio.lowlevel.checkpoint()
        assert await has_more(body, 3_900_000) != text
        nursery.cancel_scope.cancel()
    assert turns >= 2 * len(body) // documents._STEP - 3, "each byte is counted twice"


async def test_texts_without_end_and_without_a_value_between_them_are_not_told_apart_to_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole_escapes, seen = documents._whole_escapes, 0

    def look(piece: bytes) -> bytes:
        nonlocal seen
        seen += len(piece)
        return whole_escapes(piece)

    monkeypatch.setattr(documents, "_whole_escapes", look)
    with pytest.raises(Refusal, match="more than 1,000 JSON values"):
        await read_body(b'"a,"' * 100_000, 1_000)
    assert seen < 20_000
