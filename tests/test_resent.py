"""Of a body that repeats an earlier one only the new part is decoded; the document equals that of a plain decode."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
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
from triocept._canonical.memory import Memory
from triocept._canonical.resent import BodyReader, Conversation
from triocept._server import intake

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resent, "ENABLED", True)
    monkeypatch.setattr(resent, "LEAST", 0)
    monkeypatch.setattr(resent, "LEAST_ITEM", 0)
    monkeypatch.setattr(resent, "LEAST_FIELD", 16)
    monkeypatch.setattr(resent, "LEAST_TEXT", 16)
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
    lists = []
    for count in range(3, 8):
        written = json.dumps({"messages": turns(count), "tools": []}, separators=separators).encode()
        by_reader(reader, written, "messages")
        (known,) = reader._alive()
        lists.append(known.items)
    for earlier, later in pairwise(lists):
        assert all(one is other for one, other in zip(earlier, later, strict=False))


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
        b'{"messages":["a","b"],"x":"\xff","x":2}',
        b'{"messages":["a","b"],"y":[\xff,1],"\\u0079":2}',
        b'{"messages":["a"]}}',
        b'\xef\xbb\xbf{"messages":["a","b"]}',
        b'{"messages":["b"],"x":1}',
        b'{"messages":[ ],"x":1}',
        b'{"messages":[1,],"x":1}',
        b'{"messages":["b"]],"x":1}',
        b'{"messages":["b"],"messages":["c"],"x":1}',
        b'{"messages":["b"],"\\u006dessages":["c"],"x":1}',
        b'{"messages":["\\ud83d"],"x":1}',
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["", "the other fields are known, too"])
def test_a_body_that_repeats_an_item_is_read_as_it_is_and_not_as_it_seems(
    reader: BodyReader, second: bytes, known: bool
) -> None:
    bodies = [b'{"messages":["a"],"x":2}', b'{"messages":["a"],"x":1}'][
        known:
    ]  # a field that has changed is unknown
    for number, first in enumerate(bodies):
        assert by_reader(reader, first, "messages") == (plain(first), number > 0)
    assert (reader._alive()[0].rest is not None) == known
    assert by_reader(reader, second, "messages")[0] == plain(second)


@pytest.mark.parametrize("second", [["other"], ["other", *turns(5)], [[], {}], turns(3)[1:]])
def test_a_body_that_repeats_no_item_but_all_other_fields_is_not_decoded_whole(
    reader: BodyReader, second: list[object]
) -> None:
    tools = [{"name": "t", "schema": {"messages": []}}]
    by_reader(reader, body(turns(5), tools=tools), "messages")
    found = by_reader(reader, body(second, tools=tools), "messages")
    assert found == (plain(body(second, tools=tools)), True)
    assert by_reader(reader, body(turns(6), tools=tools), "messages") == (
        plain(body(turns(6), tools=tools)),
        True,
    )
    assert by_reader(reader, body(["different"], tools=[]), "messages") == (
        plain(body(["different"], tools=[])),
        False,
    )


def test_other_fields_that_are_repeated_are_the_same_read_only_objects(reader: BodyReader) -> None:
    tools = [[{"name": "t", "schema": {"a": []}}], [{"name": "other"}]]
    documents: list[Any] = []
    for number, used in enumerate((0, 0, 0, 1, 1, 1)):
        written = body(turns(3 + number), tools=tools[used])
        found = reader.read(written, "messages")
        document: Any = json.loads(written) if found is None else found[0]
        known = reader.begin(written, "messages", document, Memory()) if found is None else found[1]
        assert known is not None
        reader.keep(known)
        assert document == json.loads(written)
        assert [*document] == [*json.loads(written)]  # in the same order
        documents.append(document)
    assert documents[0]["tools"] is documents[1]["tools"]
    assert documents[1]["tools"] is documents[2]["tools"]
    assert documents[4]["tools"] is documents[5]["tools"]
    for document in (documents[2], documents[5]):
        with pytest.raises(TypeError, match="read-only"):
            document["tools"].append({})
        document["tools"] = "changed"  # the document is not shared


def test_a_long_field_that_is_repeated_is_the_same_object_although_another_field_changes(
    reader: BodyReader,
) -> None:
    tools = [[{"name": "t", "text": "x" * resent.LEAST_FIELD}], [{"name": "other", "text": "ü" * 2000}]]
    documents: list[Any] = []
    for number, used in enumerate((0, 0, 0, 1, 1, 0)):
        written = body(turns(3 + number), tools=tools[used], more=number)
        found = reader.read(written, "messages")
        document: Any = json.loads(written) if found is None else found[0]
        known = reader.begin(written, "messages", document, Memory()) if found is None else found[1]
        assert known is not None
        reader.keep(known)
        assert document == json.loads(written)
        assert [*document] == [*json.loads(written)]  # in the same order
        documents.append(document)
    first, *others = (document["tools"] for document in documents[1:])
    assert [each is first for each in others] == [True, False, False, False]
    assert others[1] is others[2]


@pytest.mark.parametrize("end", ['"', '"]', '"],"x":1,"x":2', '"]}', "", '\\"]', '\\ud83d"]'])
def test_a_long_field_whose_bytes_differ_at_the_end_is_decoded_again(reader: BodyReader, end: str) -> None:
    long = '"tools":["' + "x" * resent.LEAST_FIELD
    messages = [f"message {number}" for number in range(9)]
    for count in range(3, 7):
        part = json.dumps(messages[:count]) + f',{long}"],"n":{count}' + "}"
        assert by_reader(reader, f'{{"messages":{part}'.encode(), "messages")[0] is not None
    for more in (end, '"]'):
        written = f'{{"messages":{json.dumps(messages[:8])},{long}{more},"n":0}}'.encode()
        assert by_reader(reader, written, "messages")[0] == plain(written)


def test_a_body_of_one_reader_is_never_used_for_another(reader: BodyReader) -> None:
    other = BodyReader()
    by_reader(reader, body(turns(5)), "messages")
    assert other.read(body(turns(6)), "messages") is None
    assert reader.read(body(turns(6)), "messages") is not None


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


def test_a_change_of_the_fields_or_the_list_of_a_document_changes_no_later_document(
    reader: BodyReader,
) -> None:
    for count in range(2, 5):
        found = reader.read(body(turns(count)), "messages")
        document: Any = json.loads(body(turns(count))) if found is None else found[0]
        known = (
            reader.begin(body(turns(count)), "messages", document, Memory()) if found is None else found[1]
        )
        assert document == json.loads(body(turns(count)))
        assert known is not None
        reader.keep(known)
        document["messages"].clear()
        document["model"] = "changed"


def test_a_conversation_is_used_by_one_call_at_a_time(reader: BodyReader) -> None:
    by_reader(reader, body(turns(5)), "messages")
    found = reader.read(body(turns(6)), "messages")  # a call that is parsed in a thread
    assert found is not None
    assert reader.read(body(turns(6)), "messages") is None  # the agent's retry meanwhile
    document = json.loads(body(turns(6)))
    begun = reader.begin(body(turns(6)), "messages", document, Memory())
    assert begun is not None
    assert begun.memory is not found[1].memory
    reader.keep(begun)
    reader.keep(found[1])
    assert by_reader(reader, body(turns(7)), "messages") == (plain(body(turns(7))), True)


def test_what_was_found_before_another_call_continued_the_conversation_is_found_again(
    reader: BodyReader,
) -> None:
    by_reader(reader, body(turns(5)), "messages")
    repeat = reader.find(body(turns(7)), "messages")
    assert repeat is not None
    by_reader(reader, body(turns(6)), "messages")
    (known,) = reader._alive()
    assert known is not repeat.conversation
    found = reader.read(body(turns(7)), "messages", repeat)
    assert found is not None
    assert found[0] == json.loads(body(turns(7)))
    assert found[1].items[:6] == known.items
    assert found[1].items[5] is known.items[5]


@pytest.mark.parametrize("second", [turns(6), [*turns(2), "other", *turns(5)]])
def test_a_call_whose_conversation_is_evicted_meanwhile_has_its_document(
    reader: BodyReader, monkeypatch: pytest.MonkeyPatch, second: list[object]
) -> None:
    by_reader(reader, body(turns(9)), "messages")
    repeated = Conversation.repeated

    def evict(self: Conversation, *arguments: Any) -> int:
        count = repeated(self, *arguments)
        resent._SHELF.discard(self)  # by a reader in another thread
        return count

    monkeypatch.setattr(Conversation, "repeated", evict)
    assert by_reader(reader, body(second), "messages") == (plain(body(second)), True)


def test_the_estimated_bytes_of_a_conversation_that_grows_count_its_body_and_all_values_once(
    reader: BodyReader,
) -> None:
    for count in (3, 5, 6):
        assert by_reader(reader, body(turns(count)), "messages")[1] == (count > 3)
    (known,) = reader._alive()
    assert known.size == 2 * len(body(turns(6))) + 100 * (6 + 2 * 6 + 2)  # items, their fields, other fields
    assert resent._SHELF.bytes == known.size


def test_a_body_of_the_least_or_the_most_bytes_is_kept_and_read(
    reader: BodyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = body([*turns(3), *turns(6)])
    for least, most in ((len(body(turns(3))), len(second)), (len(second), len(second))):
        by_reader(reader, body(turns(3)), "messages")
        monkeypatch.setattr(resent, "LEAST", least)
        monkeypatch.setattr(resent, "MOST", most)
        assert by_reader(reader, second, "messages")[1]
    assert reader.begin(second, "messages", json.loads(second), Memory()) is not None


def test_a_body_whose_parse_failed_is_not_kept(reader: BodyReader) -> None:
    by_reader(reader, body(turns(5)), "messages")
    assert (
        reader.read(body([*turns(5), 1]), "messages") is not None
    )  # parsed with an error: not passed to keep
    assert reader._alive() == []
    assert reader.begin(body([1, 2]), "messages", {"messages": [1, 2]}, Memory()) is not None
    assert reader._alive() == []


def test_all_readers_together_keep_a_bounded_number_of_bytes_and_drop_all_that_a_conversation_holds(
    reader: BodyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resent._SHELF.bytes
    monkeypatch.setattr(resent, "MOST_BYTES", before + 40_000)
    readers = [reader, *(BodyReader() for _ in range(50))]
    for number, each in enumerate(readers):
        by_reader(each, body([f"{number} {'x' * 5000}", "a"]), "messages")
        assert resent._SHELF.bytes <= before + 40_000
    assert readers[-1].read(body([f"50 {'x' * 5000}", "a", "b"]), "messages") is not None
    assert reader.read(body([f"0 {'x' * 5000}", "a", "b"]), "messages") is None
    assert reader._alive() == []  # nothing else holds the conversation
    for each in readers:
        each.clear()
    assert resent._SHELF.bytes <= before


@pytest.mark.parametrize(
    ("limit", "most", "second"),
    [
        ("MOST", 300, turns(4)),
        ("MOST_ITEMS", 5, turns(6)),
        ("MOST_CONTAINERS", 5, [*turns(3), *turns(6)]),
        ("MOST_NEW", 1_000, turns(30)),
        ("MOST_NEW", 10, turns(4)),
    ],
)
def test_what_would_take_too_long_in_one_step_is_decoded_whole(
    reader: BodyReader, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, second: list[object]
) -> None:
    by_reader(reader, body(turns(3)), "messages")
    monkeypatch.setattr(resent, limit, most)
    assert by_reader(reader, body(second), "messages") == (plain(body(second)), False)
    assert all(known.body != body(second) for known in reader._alive()) or limit == "MOST_NEW"


def test_a_prompt_of_token_ids_is_decoded_whole_because_that_takes_less_time(
    reader: BodyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resent, "LEAST_ITEM", 64)
    for count in (3_000, 3_001):
        written = json.dumps({"prompt": [*range(count)]}).encode()
        assert by_reader(reader, written, "prompt") == (plain(written), False)
        assert reader._alive() == []


@pytest.mark.parametrize("field", ["chat-log", "a/b", "messages2", "m\u00fc", ""])
def test_a_field_whose_name_json_can_write_in_many_forms_is_always_decoded_whole(
    reader: BodyReader, field: str
) -> None:
    for count in (3, 4):
        written = json.dumps({field: turns(count)}).encode()
        assert by_reader(reader, written, field) == (plain(written), False)


def test_a_rollout_whose_bodies_never_repeat_anything_keeps_few_of_them(reader: BodyReader) -> None:
    kept = 0
    for number in range(80):
        written = json.dumps({"date": number, "messages": turns(2)}).encode()
        by_reader(reader, written, "messages")
        kept += reader._alive()[0].body == written
    assert kept == 8 + 9
    grown = json.dumps({"date": 79, "messages": turns(3)}).encode()
    kept_again = [by_reader(reader, grown, "messages")[1] for _ in range(10)]
    assert kept_again[-1]


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
            assert bool(rollout._core.bodies._alive()) == enabled
        assert rollout._core.bodies._alive() == []
    texts = [[one["content"] for one in messages] for messages in sent]
    assert seen == [*zip(sent, texts, strict=True)]
    assert [[message.text for message in turn.request.messages] for turn in rollout.trace] == texts


async def test_the_document_of_a_call_that_is_first_read_late_is_as_it_was_sent() -> None:
    exchanges: list[Exchange] = []
    all_there = trio.Event()

    async def answer(exchange: Exchange) -> None:
        exchanges.append(exchange)
        if len(exchanges) == 4:
            resent._SHELF.discard(rollout._core.bodies._alive()[0])  # evicted
            all_there.set()
        await all_there.wait()
        assert len(exchange.raw["messages"]) == len(exchange.request.messages)
        exchange.raw["messages"].clear()  # a copy
        await exchange.respond("ok")

    sent = [
        [*turns(number), {"role": "user", "content": "now", "more": {"a": [number]}}] for number in range(4)
    ]
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
            async with trio.open_nursery() as nursery:
                for messages in sent:
                    nursery.start_soon(partial(ask, rollout, messages=messages))
    documents = [exchange._core.raw["messages"] for exchange in exchanges]
    assert sorted(documents, key=len) == sent


async def test_a_text_that_is_sent_again_without_its_cache_mark_is_in_memory_once() -> None:
    def item(number: int, **mark: Any) -> dict[str, Any]:
        text = f"{number}: a result of a tool \u2013 " * 20
        return {"role": "user", "content": [{"type": "text", "text": text, **mark}]}

    mark = {"cache_control": {"type": "ephemeral"}}
    tools = [
        {"type": "function", "function": {"name": f"t{number}", "parameters": {}}} for number in range(9)
    ]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel(["ok"] * 4)) as rollout:
        for count in range(2, 6):
            messages = [*map(item, range(count - 1)), item(count - 1, **mark)]
            assert (await ask(rollout, messages=messages, tools=tools)).status_code == 200
        (known,) = rollout._core.bodies._alive()
    for before, after in pairwise(rollout.trace):
        (marked,), (unmarked,) = (
            turn.request.messages[len(before.request.messages) - 1].content for turn in (before, after)
        )
        assert (marked.extra, unmarked.extra) == (mark, None)
        assert marked.text is unmarked.text
    assert [latest.written for latest in known.memory._requests.values()] == [None]


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
