"""The JSON in a parsed request is read-only, so that no program changes what a later call of the rollout gets."""

import pickle
from copy import copy, deepcopy
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
import trio
import yaml

from tests.asking import ask
from triocept import Exchange, Message, Request, Text, Tool, serve_endpoint
from triocept._canonical.content import Opaque
from triocept._canonical.frozen import _FIELDS, FrozenDict, FrozenList, count_members, frozen
from triocept._canonical.memory import Memory
from triocept.dialects import dialect
from triocept.types import ToolResult

PLAIN = {"a": [1, {"b": [], "c": "text"}, [[None]]], "d": {"e": {}}}
READING = {
    dict: {"copy", "fromkeys", "get", "items", "keys", "values"},
    list: {"copy", "count", "index"},
}
CHANGING = {"__setitem__", "__delitem__", "__ior__", "__iadd__", "__imul__"}


def changers(kind: type) -> list[str]:
    """Return the names of all methods that change a dict or list: all but those that are known to read."""
    public = {name for name in dir(kind) if not name.startswith("_")}
    return sorted((public - READING[kind]) | (CHANGING & {*dir(kind)}))


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (dict, list) for name in changers(kind)], ids=str
)
def test_every_method_that_changes_a_dict_or_list_is_refused(kind: type, name: str) -> None:
    made = {dict: FrozenDict({"a": 1}), list: FrozenList([1])}[kind]
    with pytest.raises(TypeError, match="read-only"):
        getattr(made, name)()
    assert made == {dict: {"a": 1}, list: [1]}[kind]


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, repr])
def test_read_only_json_equals_the_plain_json_and_is_written_the_same(encode: Any) -> None:
    made = frozen(PLAIN)
    assert made == PLAIN
    assert encode(made) == encode(PLAIN)


@pytest.mark.parametrize(
    "copied", [deepcopy, lambda value: pickle.loads(pickle.dumps(value)), msgspec.to_builtins]
)
def test_a_deep_copy_is_plain_at_every_level(copied: Any) -> None:
    found = copied(frozen(PLAIN))
    assert found == PLAIN
    left = [found]
    for value in left:
        assert type(value) not in (FrozenDict, FrozenList)
        if isinstance(value, dict | list):
            left += value.values() if isinstance(value, dict) else value


def test_a_shallow_copy_can_be_changed() -> None:
    made = frozen({"a": 1})
    assert {type(copy(made)), type({**made}), type(made.copy()), type(made | {})} == {dict}
    assert {type(copy(frozen([1]))), type(frozen([1])[:]), type([*frozen([1])])} == {list}


@pytest.mark.parametrize(
    "dumper", [yaml.SafeDumper, yaml.Dumper, getattr(yaml, "CSafeDumper", yaml.SafeDumper)]
)
def test_yaml_writes_read_only_json_as_plain_json(dumper: Any) -> None:
    class Own(dumper):  # type: ignore[misc]
        """A dumper of a program's own."""

    Own.add_representer(complex, lambda self, data: self.represent_str(str(data)))
    wanted = yaml.dump(PLAIN, Dumper=yaml.SafeDumper)
    assert yaml.dump(frozen(PLAIN), Dumper=dumper) == wanted
    assert yaml.dump({"extra": frozen(PLAIN)}, Dumper=Own) == yaml.dump({"extra": PLAIN}, Dumper=Own)


def test_a_value_without_json_stays_the_same_object() -> None:
    message = Message("user", (Text("a"), ToolResult(id="c", content=(Text("b"),))))
    assert frozen(message) is message
    assert frozen((message, 1, "a")) == (message, 1, "a")
    once = frozen(Message("user", (Text("a", {"b": {}}),)))
    assert frozen(once) is once


def test_json_of_any_depth_is_made_read_only() -> None:
    deep: Any = "end"
    for _ in range(20_000):
        deep = [{"a": deep}]
    made, depth = frozen(deep), 0
    while made != "end":
        assert (type(made), type(made[0])) == (FrozenList, FrozenDict)
        made, depth = made[0]["a"], depth + 1
    assert depth == 20_000


def test_json_within_every_part_of_a_message_is_read_only() -> None:
    raw = {"x": [1]}
    message = frozen(
        Message(
            "user",
            (
                Opaque("d", raw),
                ToolResult(id="c", content=(Text("t", {"y": {}}), Opaque("d", [raw])), extra={"z": []}),
            ),
            extra={"w": {}},
        )
    )
    assert (raw, type(raw)) == ({"x": [1]}, dict)
    assert plain_json_in(message) == []


def may_hold_json(kind: Any) -> bool:
    if kind is Any or kind in _FIELDS or get_origin(kind) in (dict, list):
        return True
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any(may_hold_json(field.type) for field in msgspec.structs.fields(kind))
    return get_origin(kind) is not Literal and any(map(may_hold_json, get_args(kind)))


@pytest.mark.parametrize("kind", _FIELDS, ids=lambda kind: kind.__name__)
def test_each_field_that_can_hold_json_is_made_read_only_and_no_other_is_looked_at(kind: Any) -> None:
    fields = [field.name for field in msgspec.structs.fields(kind) if may_hold_json(field.type)]
    assert [*_FIELDS[kind]] == fields


def test_members_are_counted_at_all_levels_up_to_a_number_of_dicts_and_lists() -> None:
    assert count_members([PLAIN, frozen(PLAIN), "text"], 100) == 3 + 2 * (2 + 3 + 2 + 1 + 1 + 1)
    value = [{"a": []}, 1]
    assert [count_members(value, most) for most in (2, 3)] == [None, 3]


def test_json_within_a_list_of_tools_is_read_only() -> None:
    tools = frozen([Tool(name="t", parameters={"a": {}})])
    assert plain_json_in(tools) == []
    assert frozen(tools) == [Tool(name="t", parameters={"a": {}})]


def plain_json_in(value: Any) -> list[Any]:
    """Return all dicts and lists in a request that are not read-only."""
    if isinstance(value, msgspec.Struct):
        return plain_json_in(msgspec.structs.astuple(value))
    found = [value] if type(value) in (dict, list) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return found + [each for member in inner for each in plain_json_in(member)]


MARK = {"cache_control": {"type": "ephemeral"}}
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b"]}}}
DOCUMENTS: dict[str, Any] = {
    "anthropic_messages": {
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", **MARK}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a", **MARK}], "more": {"b": []}}],
        "tools": [{"name": "t", "input_schema": SCHEMA, **MARK}],
        "tool_choice": {"type": "auto", "more": [1]},
        "metadata": {"user_id": "u", "more": {"c": []}},
    },
    "openai_chat": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "more": [{}]}]}],
        "tools": [{"type": "function", "function": {"name": "t", "parameters": SCHEMA}, "more": {"c": []}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "more": {"d": []},
    },
    "openai_responses": {
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a", "more": []}]},
            {"type": "web_search_call", "id": "w", "status": "completed", "action": {"queries": ["q"]}},
        ],
        "instructions": "s",
        "tools": [{"type": "function", "name": "t", "parameters": SCHEMA, "more": {"c": []}}],
        "more": {"d": []},
    },
    "gemini": {
        "contents": [{"role": "user", "parts": [{"text": "a", "more": {"b": []}}]}],
        "tools": [{"functionDeclarations": [{"name": "t", "parameters": SCHEMA}]}],
        "generationConfig": {"more": {"d": []}},
    },
    "ollama": {
        "messages": [{"role": "user", "content": "a", "more": {"b": []}}],
        "tools": [{"type": "function", "function": {"name": "t", "parameters": SCHEMA}}],
        "options": {"more": {"d": []}},
    },
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_request_that_later_calls_share_holds_no_json_that_a_program_can_change(name: str) -> None:
    document = {"model": "m", **DOCUMENTS[name]}
    memory, parse = Memory(), dialect(name).parse_request
    first, second = (parse(deepcopy(document), memory=memory) for _ in range(2))
    assert first == second == parse(deepcopy(document))
    assert first.messages[-1] is second.messages[-1]  # shared
    assert (plain_json_in(first), plain_json_in(second)) == ([], [])
    assert first.tools != ()
    assert first.extra is not None


SPACE = {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "t", "parameters": SCHEMA}]}


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("openai_completions", {"prompt": [1, 2], "more": {"a": []}}),
        ("openai_completions", {"prompt": [[1, 2]], "more": {"a": []}}),
        ("openai_responses", {**DOCUMENTS["openai_responses"], "tools": [SPACE]}),
        ("openai_responses", {"input": [{"type": "additional_tools", "tools": [SPACE]}], "more": [{}]}),
    ],
)
def test_a_request_that_no_later_call_shares_is_read_only_too(name: str, document: dict[str, Any]) -> None:
    request = dialect(name).parse_request({"model": "m", **document})
    assert plain_json_in(request) == []
    assert request.extra is not None


async def test_a_program_cannot_change_what_a_later_call_gets_nor_what_is_recorded() -> None:
    seen: list[Request] = []

    async def answer(exchange: Exchange) -> None:
        request = exchange.request
        for change in (request.extra, request.messages[0].extra, request.messages[0].extra["more"]):  # type: ignore[index]
            with pytest.raises(TypeError, match="read-only"):
                change["added"] = 1  # type: ignore[index]
        seen.append(deepcopy(request))
        await exchange.respond("ok")

    message = {"role": "user", "content": "a", "more": {"b": []}}
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
            for _ in range(3):
                assert (await ask(rollout, messages=[message], more={"d": []})).status_code == 200
    assert [request.messages[0].extra for request in seen] == [{"more": {"b": []}}] * 3
    assert [turn.request for turn in rollout.trace] == seen
