"""Bodies of any size are read as JSON is, and a large one lets others run meanwhile."""

import json
import random
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asking import ask, ask_body, connected, echo, raw_request
from tests.resent import FIELDS, conversation
from tests.seeds import first_seed
from triocept import EndpointLimits, Refusal, serve_endpoint
from triocept._canonical import resent
from triocept._canonical.memory import Memory
from triocept._canonical.resent import BodyReader, Conversation, Marks
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
        counted, _ = trio.run(documents._count_outside, body, 0, len(body), most)
    assert (counted > most) == (marks > most or strings > 2 * most)
    assert counted == marks or counted > most


@settings(max_examples=300, derandomize=True, deadline=None)
@given(value=quotes, at=st.integers(0, 60), step=st.integers(2, 7))
def test_a_part_of_a_body_is_counted_up_to_its_end_where_a_string_may_be_open(
    value: object, at: int, step: int
) -> None:
    body = json.dumps([value]).encode()
    end = min(at + 1, len(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_PIECE", step)
        counted = trio.run(documents._count_outside, body, 1, end, len(body))
    assert counted == lexed(body[1:end])


def lexed(body: bytes) -> tuple[int, bool]:
    """Return the marks outside of strings, byte by byte, and whether no string is open at the end.

    A backslash outside of a string ends the count, because a decoder fails there.
    """
    marks, is_open, escaped = 0, False, False
    for each in body:
        if escaped:
            escaped = False
        elif each == ord("\\"):
            if not is_open:
                break
            escaped = True
        elif each == ord('"'):
            is_open = not is_open
        else:
            marks += not is_open and each in b",[{"
    return marks, not is_open


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


@pytest.fixture
def small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resent, "ENABLED", True)
    monkeypatch.setattr(resent, "LEAST", 0)
    monkeypatch.setattr(resent, "LEAST_ITEM", 0)


async def counted(reader: BodyReader, body: bytes, field: str, most: int) -> Marks | None:
    """Count the values of a body, and keep the body, as an endpoint does. Return None if the body is refused."""
    repeat = reader.find(body, field)
    try:
        marks = await check_values(body, most, repeat)
    except Refusal:
        return None
    if (found := reader.read(body, field, repeat)) is not None:
        known: Conversation | None = found[1]
    elif (document := await documents.read_unrepaired(body)) is not None:
        known = reader.begin(body, field, document, Memory())
    else:
        known = None
    if known is not None:
        known.marks = marks
        reader.keep(known)
    return marks


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


@pytest.mark.usefixtures("small_bodies")
async def test_a_repeated_body_has_no_more_values_than_were_counted_whatever_is_new_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "_STEP", 64)
    monkeypatch.setattr(documents, "_PIECE", 7)
    seed = first_seed()
    rng = random.Random(seed)
    whole = documents._count
    counts = {True: 0, False: 0}

    async def note_whole(body: bytes, start: int, end: int) -> int:
        counts[start == 0 and end == len(body)] += 1
        return await whole(body, start, end)

    monkeypatch.setattr(documents, "_count", note_whole)
    repeated = 0
    for number in range(600):
        field, most, reader = rng.choice(FIELDS), rng.choice((5, 20, 40, 60)), BodyReader()
        several = [conversation(rng, field) for _ in range(rng.choice((1, 2)))]
        while several:
            if (body := next(one := rng.choice(several), None)) is None:
                several.remove(one)
                continue
            if len(body) <= most:
                continue
            before = counts[True]
            marks = await counted(reader, body, field, most)
            repeated += counts[True] == before
            case = (seed, number, body)
            is_refused = await has_more(body, most)
            if marks is None:
                assert is_refused, case
                continue
            assert lexed(body)[0] <= marks.number <= most, case
            if is_json(body):
                assert not is_refused, case
                exact = lexed(body)[0] if marks.outside else count_marks(body, 0, len(body))
                assert marks.number == exact, case
        reader.clear()
    assert repeated > 300, "otherwise nothing was counted in part"


FEW, MANY = b'{"messages":["a"],"x":"' + b"," * 30 + b'"}', b'{"messages":["a"' + b",[]" * 30
EVASIONS = {
    "many new values": (FEW, MANY + b'],"x":1}'),
    "many new values, and the same end": (FEW, MANY + FEW[16:]),
    "the text of the end becomes values": (FEW, b'{"messages":["a","' + FEW[16:]),
    "the same, behind an escape": (FEW, b'{"messages":["a","\\' + FEW[16:]),
    "the text of the end becomes values, and the end is another one": (
        FEW,
        b'{"messages":["a"],"x":' + b"[" * 40 + b"]" * 40 + b"}",
    ),
    "other values between the same fields": (FEW, b'{"messages":[' + b"[]," * 30 + b'"b"' + FEW[16:]),
}


@pytest.mark.usefixtures("small_bodies")
@pytest.mark.parametrize("evasion", EVASIONS)
@pytest.mark.parametrize("outside", [False, True], ids=["all marks", "marks outside of strings"])
async def test_no_body_has_too_many_values_because_it_begins_or_ends_as_an_earlier_one(
    evasion: str, outside: bool
) -> None:
    first, second = EVASIONS[evasion]
    most = 10 if outside else 36  # 10: fewer than the first body's text has commas
    reader = BodyReader()
    for body in (first, first.replace(b'"a"', b'"a","b"')):
        marks = await counted(reader, body, "messages", most)
        assert marks is not None
        assert marks.outside == outside
    assert lexed(second)[0] > most or not is_json(second)
    marks = await counted(reader, second, "messages", most)
    assert marks is None or lexed(second)[0] <= marks.number <= most
    reader.clear()


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of bytes in which marks are counted, inside and outside of strings or only outside."""
    sizes: list[int] = []
    count, whole_escapes = documents.count_marks, documents._whole_escapes

    def count_all(body: bytes, start: int, end: int) -> int:
        sizes.append(min(end, len(body)) - start)
        return count(body, start, end)

    def count_outside(piece: bytes) -> bytes:
        sizes.append(len(piece))
        return whole_escapes(piece)

    monkeypatch.setattr(documents, "count_marks", count_all)
    monkeypatch.setattr(documents, "_whole_escapes", count_outside)
    return sizes


@pytest.mark.parametrize("text", ["x" * 1_000, "a, [b], {c}, " * 80], ids=["prose", "code"])
@pytest.mark.parametrize("enabled", [True, False])
async def test_of_a_turn_of_a_long_conversation_only_the_new_values_are_counted(
    text: str, enabled: bool, looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resent, "ENABLED", enabled)
    limits = EndpointLimits(document_items=12_000)
    messages: list[Any] = []
    sizes: list[int] = []
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
        for number in range(60):
            messages.append({"role": "user", "content": f"{number} {text}"})
            looked_at.clear()
            assert (await ask(rollout, messages=messages, tools=TOOLS)).status_code == 200
            sizes.append(sum(looked_at))
    assert sizes[0] == 0
    late = max(sizes[40:])
    assert late < 5_000 if enabled else late > 60_000


TOOLS = [{"type": "function", "function": {"name": f"t{number}", "parameters": {}}} for number in range(100)]
