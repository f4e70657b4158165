"""Of a body that repeats an earlier one only the new part is decoded; the document equals that of a plain decode."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asking import ask
from tests.resent import by_reader, differences, plain
from tests.seeds import first_seed
from triocept import EndpointLimits, Exchange, ScriptedModel, serve_endpoint
from triocept._canonical import resent
from triocept._canonical.resent import BodyReader
from triocept._server import intake
from triocept.dialects import dialect

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resent, "ENABLED", True)
    monkeypatch.setattr(resent, "LEAST", 0)
    monkeypatch.setattr(intake, "LEAST", 0)


@pytest.fixture
def reader() -> Iterator[BodyReader]:
    reader = BodyReader()
    yield reader
    reader.clear()


def body(messages: list[object], **more: object) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **more}, separators=(",", ":")).encode()


def turns(count: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"message {number} " + "x" * 50} for number in range(count)]


def test_any_body_valid_or_not_has_the_document_or_the_error_of_a_plain_decode() -> None:
    seed = first_seed()
    found, _, read = differences(seed, 20_000)
    assert (seed, found) == (seed, [])
    assert read > 2_000  # otherwise the reader has read nothing


@given(
    st.lists(JSON, min_size=1, max_size=6),
    st.lists(JSON, max_size=3),
    st.dictionaries(st.text(), JSON, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_a_conversation_that_grows_has_the_documents_of_a_plain_decode(
    items: list[object], new: list[object], more: dict[str, object]
) -> None:
    reader = BodyReader()
    more.pop("messages", None)
    for messages in (items, [*items, *new], [*items, *new, "last"], [*items[:-1], "changed", *new]):
        for ascii_only in (True, False):
            document = {**more, "messages": messages, "tools": more}
            written = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            assert by_reader(reader, written, "messages")[0] == plain(written)
    reader.clear()


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (",\n", " : ")])
def test_repeated_items_are_the_same_objects_whatever_white_space_is_between_them(
    reader: BodyReader, separators: tuple[str, str]
) -> None:
    documents = []
    for count in range(3, 8):
        written = json.dumps({"messages": turns(count), "tools": []}, separators=separators).encode()
        found = reader.read(written, "messages", 10**6)
        document = json.loads(written) if found is None else found[0]
        if found is None:
            reader.keep(written, "messages", document, len(written))
        documents.append(document)
    for earlier, later in pairwise(documents):
        assert all(one is other for one, other in zip(earlier["messages"], later["messages"], strict=False))


@pytest.mark.parametrize(
    "second",
    [
        b'{"messages":["a","b"],"messages":["b"]}',
        b'{"messages":["a","b"],"\\u006dessages":["b"]}',
        b'{"messages":["a",],"x":1}',
        b'{"messages":["a","b"],"x":{"messages":["b"]}}',
        b'{"messages":["a" ,"b"]}',
        b'{"messages":["a"1]}',
        b'{"messages":["a"]]}',
        b'{"messages":["a","\\ud83d"]}',
        b'{"messages":["a"]',
        b'{"messages":["a"]}}',
        b'\xef\xbb\xbf{"messages":["a","b"]}',
    ],
)
def test_a_body_that_repeats_an_item_is_read_as_it_is_and_not_as_it_seems(
    reader: BodyReader, second: bytes
) -> None:
    assert by_reader(reader, b'{"messages":["a"],"x":1}', "messages") == (
        plain(b'{"messages":["a"],"x":1}'),
        False,
    )
    assert by_reader(reader, second, "messages")[0] == plain(second)


def test_a_body_of_one_reader_is_never_used_for_another(reader: BodyReader) -> None:
    first, other = body(turns(5)), BodyReader()
    reader.keep(first, "messages", json.loads(first), len(first))
    assert other.read(body(turns(6)), "messages", 10**6) is None
    assert reader.read(body(turns(6)), "messages", 10**6) is not None


def test_two_conversations_in_turns_are_both_kept(reader: BodyReader) -> None:
    rng, read = random.Random(1), 0
    for number in range(1, 20):
        one = body([*turns(2), {"role": "user", "content": "one"}, *turns(number)])
        other = body([*turns(2), {"role": "user", "content": "other"}, *turns(number)])
        for each in rng.sample([one, other], 2):
            given, was_read = by_reader(reader, each, "messages")
            assert given == plain(each)
            read += was_read
    assert read >= 36


def test_an_item_that_a_program_has_changed_in_place_is_decoded_again(reader: BodyReader) -> None:
    item = {
        "role": "user",
        "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
    }
    written = body([item, *turns(2)], max_tokens=5)
    document = json.loads(written)
    known = reader.keep(written, "messages", document, len(written))
    assert known is not None
    request = dialect("anthropic_messages").parse_request(document, memory=known.memory)
    extra = request.messages[0].content[0].extra  # type: ignore[union-attr]
    extra["cache_control"]["type"] = "changed"  # type: ignore[index, call-overload]
    longer = body([item, *turns(3)], max_tokens=5)
    assert by_reader(reader, longer, "messages") == (plain(longer), False)
    assert by_reader(reader, body([item, *turns(4)], max_tokens=5), "messages")[1]


def test_all_readers_together_keep_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resent, "MOST_BYTES", 40_000)
    before = resent._SHELF.bytes
    readers = [BodyReader() for _ in range(100)]
    for number, each in enumerate(readers):
        written = body([f"{number} {'x' * 5000}", "a"])
        each.keep(written, "messages", json.loads(written), len(written))
        assert resent._SHELF.bytes <= 40_000
    written = body([f"99 {'x' * 5000}", "a", "b"])
    assert readers[99].read(written, "messages", 10**6) is not None
    assert readers[0].read(body([f"0 {'x' * 5000}", "a", "b"]), "messages", 10**6) is None
    for each in readers:
        each.clear()
    assert resent._SHELF.bytes <= before


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_call_has_the_same_request_and_document_whether_its_body_was_read_in_part_or_whole(
    monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    monkeypatch.setattr(resent, "ENABLED", enabled)
    seen: list[tuple[Any, list[str]]] = []

    async def answer(exchange: Exchange) -> None:
        raw: Any = exchange.raw
        seen.append((deepcopy(raw["messages"]), [message.text for message in exchange.request.messages]))
        raw["messages"][0]["content"] = "changed by the program"
        await exchange.respond("ok")

    sent = [[*turns(number), {"role": "user", "content": "now"}] for number in range(1, 6)]
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
            for messages in sent:
                assert (await ask(rollout, messages=messages)).status_code == 200
            assert bool(rollout._core.bodies._known) == enabled
        assert rollout._core.bodies._known == []
    texts = [[one["content"] for one in messages] for messages in sent]
    assert seen == [*zip(sent, texts, strict=True)]
    assert [[message.text for message in turn.request.messages] for turn in rollout.trace] == texts


async def test_a_repeated_body_is_refused_for_too_many_values_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statuses = {True: list[int](), False: list[int]()}
    for enabled in statuses:
        monkeypatch.setattr(resent, "ENABLED", enabled)
        async with (
            serve_endpoint(limits=EndpointLimits(document_items=120)) as endpoint,
            endpoint.open_rollout(ScriptedModel(["ok"] * 60)) as rollout,
        ):
            for number in range(1, 60):
                statuses[enabled].append((await ask(rollout, messages=turns(number))).status_code)
    assert statuses[True] == statuses[False]
    assert set(statuses[True]) == {200, 413}
