"""An answer that fits the JSON that its request asks for: the same one each time."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocept import Message, Request, Text, Tool, ToolCall
from triocept.handlers import AskedJSON
from triocept.handlers.script.instance import NoInstance, instance_of
from triocept.types import OutputFormat, ToolChoice

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "number"}, "note": {"type": "string"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}


def asking(**fields: Any) -> Request:
    return Request(dialect="openai_chat", model="m", messages=(Message("user", (Text("go"),)),), **fields)


def by_schema(schema: dict[str, Any]) -> Request:
    return asking(output_format=OutputFormat(kind="json_schema", name="n", schema=schema))


def test_a_request_for_json_of_a_schema_gets_a_text_that_fits() -> None:
    assert AskedJSON()(by_schema(CITY)) == '{"city":"city","degrees":0}'
    assert AskedJSON(city="Oslo", note="x")(by_schema(CITY)) == '{"city":"Oslo","degrees":0,"note":"x"}'


def test_a_request_for_any_json_gets_an_object() -> None:
    assert AskedJSON(a=1)(asking(output_format=OutputFormat(kind="json_object"))) == '{"a":1}'
    assert AskedJSON()(asking(output_format=OutputFormat(kind="json_object"))) == "{}"


def test_a_request_that_demands_a_tool_gets_a_call_of_it() -> None:
    tools = (Tool(name="answer", parameters=CITY), Tool(name="search"))
    called = AskedJSON(city="Oslo")(asking(tools=tools, tool_choice=ToolChoice(mode="tool", name="answer")))
    assert called == ToolCall("answer", '{"city":"Oslo","degrees":0}')
    called = AskedJSON()(asking(tools=tools[:1], tool_choice=ToolChoice(mode="required")))
    assert called == ToolCall("answer", '{"city":"city","degrees":0}')
    called = AskedJSON()(asking(tools=tools, tool_choice=ToolChoice(mode="tool", name="search")))
    assert called == ToolCall("search", "{}")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asking(), "does not ask for JSON"),
        (asking(tools=(Tool(name="a"),), tool_choice=ToolChoice(mode="auto")), "does not ask for JSON"),
        (
            asking(tools=(Tool(name="a"), Tool(name="b")), tool_choice=ToolChoice(mode="required")),
            r"several .*a, b",
        ),
        (
            asking(tools=(Tool(name="a"),), tool_choice=ToolChoice(mode="tool", name="b")),
            "demands the tool 'b'",
        ),
        (by_schema({"type": "string", "pattern": "^(?=.*q)x{3}!$"}), r"schema at \$: cannot generate a text"),
        (
            by_schema({"properties": {"a": {"not": {}}}, "required": ["a"]}),
            r"schema at \$.a: the keyword 'not' is not supported",
        ),
        (by_schema({"$ref": "#/$defs/x"}), r"the schema does not contain #/\$defs/x"),
        (by_schema({"$ref": "other.json"}), "points to another document"),
        (by_schema({"enum": []}), "no entry of the enum"),
        (by_schema({"type": "integer", "minimum": 3, "maximum": 2}), "between 3 and 2"),
        (
            by_schema({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
            r"\$.*a: .* # would contain itself",
        ),
        (
            by_schema({"anyOf": [False, {"type": "x"}]}),
            r"no branch .*anyOf\[0\].*anyOf\[1\]: \$: the type 'x' is unknown",
        ),
        (
            by_schema({"type": "array", "items": {"type": "null"}, "minItems": 2, "uniqueItems": True}),
            "cannot generate 2",
        ),
    ],
)
def test_what_asks_for_nothing_that_is_known_is_told(request_: Request, words: str) -> None:
    with pytest.raises(ValueError, match=f"^AskedJSON: .*{words}"):
        AskedJSON()(request_)


def test_a_field_that_is_given_needs_no_value_that_is_known() -> None:
    schema = {"type": "object", "properties": {"code": {"pattern": "^(?=.*q)x{3}!$"}}, "required": ["code"]}
    assert AskedJSON(code="any")(by_schema(schema)) == '{"code":"any"}'
    with pytest.raises(TypeError, match="is not JSON"):
        AskedJSON(a=object())


INTEGER = {"type": "integer", "minimum": 2}
FORMATS = ["date", "date-time", "time", "email", "ipv4", "ipv6", "uuid", "uri", "unheard-of"]
NUMBER = {"a": {"type": "number"}}
KNOWN: list[tuple[Any, Any]] = [
    ({"type": ["null", "string"]}, "text"),
    ({"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}, "required": ["a"]}, {"a": 0}),
    ({"const": None}, None),
    ({"type": "string", "enum": [1, "b"]}, "b"),
    ({"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True}, ["a", "b", "c"]),
    ({"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True}, ["text", "text 2"]),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": False}, [0, True]),
    ({"type": "array", "items": False}, []),
    ({"type": "array", "maxItems": 0}, []),
    ({"type": "string", "minLength": 6}, "text.."),
    ({"type": "string", "maxLength": 2}, "te"),
    ({"type": "string", "pattern": r"^\d{5}$"}, "00000"),
    ({"type": "string", "pattern": "^[A-Z]{2}$"}, "AA"),
    ({"type": "string", "format": "date"}, "2026-01-01"),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"type": "number", "minimum": 5, "exclusiveMinimum": True}, 6),
    ({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}, 5),
    ({"type": "integer", "maximum": -3, "multipleOf": 2.5}, -5),
    ({"properties": {"a": {"minimum": 3}}, "minProperties": 2}, {"a": 3, "key1": "key1"}),
    ({"required": ["x"], "additionalProperties": {"type": "integer"}}, {"x": 0}),
    ({"allOf": [{"properties": NUMBER}, {"properties": {"a": INTEGER}, "required": ["a"]}]}, {"a": 2}),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}, False),
    ({"$ref": "#/$defs/a", "minimum": 7, "$defs": {"a": {"type": "integer"}}}, 7),
    (True, "text"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), KNOWN, ids=[json.dumps(schema) for schema, _ in KNOWN])
def test_a_value_is_the_small_one_that_fits(schema: Any, value: Any) -> None:
    assert instance_of(schema) == value


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_of_a_format_is_one(name: str) -> None:
    schema = {"type": "string", "format": name}
    jsonschema.validate(
        instance_of(schema), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    assert instance_of(schema) == instance_of(schema)


TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {"Node": {"type": "object", "properties": {"value": {"$ref": "#/$defs/Expression"},
       "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
       "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
      "required": ["value", "next", "children"]},
     "Expression": {"oneOf": [
       {"type": "object", "properties": {"not_": {"$ref": "#/$defs/Expression"}}, "required": ["not_"]},
       {"type": "integer"}]}},
}  # fmt: skip


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    assert instance_of(TREE) == {"value": 0, "next": None, "children": []}
    jsonschema.validate(instance_of(TREE), TREE)


def numbers(kind: str) -> st.SearchStrategy[Any]:
    whole = st.integers(-50, 50)
    bounds = whole if kind == "integer" else whole | st.floats(-50, 50, allow_subnormal=False)
    return st.fixed_dictionaries(
        {"type": st.just(kind)},
        optional={
            "minimum": bounds, "maximum": bounds, "exclusiveMinimum": bounds, "exclusiveMaximum": bounds,
            "multipleOf": st.integers(1, 7),
        },
    )  # fmt: skip


SCALARS = (
    numbers("integer")
    | numbers("number")
    | st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": st.integers(0, 30), "maxLength": st.integers(0, 30)},
    )
    | st.builds(lambda name: {"type": "string", "format": name}, st.sampled_from(FORMATS))
    | st.builds(
        lambda values: {"enum": values}, st.lists(st.integers() | st.text(max_size=4) | st.none(), min_size=1)
    )
    | st.builds(lambda value: {"const": value}, st.integers() | st.text(max_size=4))
    | st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}, True])
)


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "c", "d"])
    return (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=3)},
            optional={
                "required": st.lists(names, unique=True, max_size=3),
                "minProperties": st.integers(0, 4),
                "additionalProperties": st.booleans() | inner,
            },
        )
        | st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner},
            optional={
                "minItems": st.integers(0, 4),
                "maxItems": st.integers(0, 4),
                "uniqueItems": st.booleans(),
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
            },
        )
        | st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda parts: {"allOf": parts}, st.lists(inner, min_size=1, max_size=2))
        | st.builds(lambda one: {"$defs": {"x": one}, "anyOf": [one]}, inner)
    )


@given(st.recursive(SCALARS, compound, max_leaves=8))
def test_whatever_is_made_fits_and_is_the_same_each_time(schema: Any) -> None:
    try:
        value = instance_of(schema)
    except NoInstance as exc:
        assert str(exc).startswith("$")
        return
    assert value == instance_of(schema)
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)


@given(st.recursive(SCALARS, lambda inner: st.builds(lambda one: wanting(one), inner), max_leaves=8))
def test_what_pydantic_and_its_like_ask_for_is_always_made(schema: Any) -> None:
    """Objects, lists, optional fields, enums: without bounds that exclude each other."""
    if possible(schema):
        assert jsonschema.Draft202012Validator(schema).is_valid(instance_of(schema))


def wanting(inner: Any) -> Any:
    return {
        "type": "object",
        "properties": {
            "one": inner, "many": {"type": "array", "items": inner},
            "maybe": {"anyOf": [inner, {"type": "null"}]},
        },
        "required": ["one", "many", "maybe"], "additionalProperties": False,
    }  # fmt: skip


def possible(schema: Any) -> bool:
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")
    return not any(f'"{name}"' in json.dumps(schema) for name in bounds)


def test_a_property_that_another_part_forbids_is_not_made() -> None:
    closed = {"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": False}
    opened = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert "a" not in instance_of({"allOf": [closed, opened]})
    with pytest.raises(NoInstance):
        instance_of({"allOf": [{**closed, "required": ["a"]}, opened]})
    numbers = {**closed, "additionalProperties": {"type": "integer"}}
    wants = {**opened, "properties": {"a": {"type": "number", "minimum": 3}}, "required": ["a"]}
    assert instance_of({"allOf": [numbers, wants]})["a"] == 3
