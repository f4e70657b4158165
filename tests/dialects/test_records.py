"""A `Dialect` is looked at where it is made, and beside others where it is given: what cannot work is an error."""

import ast
import dataclasses
import inspect
import re
import textwrap
from itertools import pairwise
from typing import Any

import pytest

from triocept import open_upstream, serve_endpoint
from triocept.dialects import (
    DIALECTS,
    Dialect,
    SideRoute,
    StreamParser,
    StreamRenderer,
    _records,
    known_dialects,
)

from .toy import TOY

WRONG_TYPES: dict[str, Any] = {
    "name": 3,
    "route": None,
    "base_path": None,
    "parse_request": None,
    "render_response": None,
    "stream_renderer": 3,
    "render_error": None,
    "render_request": "x",
    "parse_response": None,
    "stream_parser": None,
    "parse_error": None,
    "read_path": 3,
    "write_path": "/talk",
    "answer_type": "text/plain",
    "streamed": None,
    "as_it_came": True,
    "continued": None,
    "referenced": 3,
    "key_headers": None,
    "is_client": 3,
    "render_models": None,
    "count_tokens": 3,
    "environment": {"A": "b"},
    "hosts": "example.org",
    "stream_types": "text/event-stream",
    "transcript": None,
    "required": None,
    "caps": (("a", 3),),
    "tools": "yes",
    "tool_names": None,
    "response_prefix": None,
    "call_prefix": 3,
    "not_posted": "key",
    "default_headers": None,
    "request_id_header": None,
    "lost_status": "404",
    "no_route": 404,
    "side_routes": None,
    "not_served": "/images",
    "key_variable": None,
    "sdk": "openai",
}
WRONG_VALUES: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "a b"),
    ("route", ""),
    ("route", "talk"),
    ("route", "/a b"),
    ("route", "/talk/"),
    ("route", "/talk?x=1"),
    ("route", "/model"),
    ("route", "/health"),
    ("route", "/user"),
    ("route", "/models"),
    ("route", "/tools/talk"),
    ("route", "/rollout/talk"),
    ("base_path", "v1"),
    ("base_path", "/x/"),
    ("base_path", "/"),
    ("base_path", "/rollout"),
    ("base_path", "/tools"),
    ("stream_types", ()),
    ("stream_types", ("",)),
    ("stream_types", ("text/plain\r\nx: y",)),
    ("hosts", ("https://example.org",)),
    ("transcript", ""),
    ("caps", ((),)),
    ("tool_names", "["),
    ("lost_status", 3),
    ("lost_status", 200),
    ("request_id_header", "x id"),
    ("request_id_header", "Content-Length"),
    ("default_headers", {"x y": "1"}),
    ("default_headers", {"X-Y": "1", "x-y": "2"}),
    ("default_headers", {"host": "example.org"}),
    ("not_served", ("images",)),
    ("not_served", ("/images/<a>/<a>",)),
    ("not_served", ("/tools",)),
    ("key_variable", ""),
    ("key_variable", "A B"),
]


def described() -> dict[str, str]:
    """What stands behind each field of the record."""
    (record,) = ast.parse(textwrap.dedent(inspect.getsource(Dialect))).body
    assert isinstance(record, ast.ClassDef)
    found = {}
    for field, said in pairwise(record.body):
        if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(said.value)).split())
    return found


DESCRIBED = described()


def test_of_every_field_it_is_known_what_it_takes() -> None:
    anything = {"logprobs"}
    assert WRONG_TYPES.keys() | anything == {field.name for field in dataclasses.fields(Dialect)}


@pytest.mark.parametrize(("name", "arguments"), [*_records._FUNCTIONS.items(), *_records._PERHAPS.items()])
def test_the_description_of_a_function_says_what_it_is_given(name: str, arguments: tuple[str, ...]) -> None:
    assert f"`{name}({', '.join(arguments)})`" in DESCRIBED[name]


@pytest.mark.parametrize("name", ["as_it_came", "caps", "required", "lost_status", *_records._PERHAPS])
def test_a_field_says_what_is_done_without_it(name: str) -> None:
    assert re.search(
        r"default:|if empty,|empty means|if none,|only a dialect with", DESCRIBED[name], re.IGNORECASE
    )


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_field_of_another_type_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=rf"`{name}` of the dialect .* must be .*, not "):
        dataclasses.replace(TOY, **{name: WRONG_TYPES[name]})


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_value_that_cannot_be_is_an_error_that_names_its_field(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` of the dialect .* must (be|not) .*, not "):
        dataclasses.replace(TOY, **{name: value})


@pytest.mark.parametrize(("name", "function", "takes"), [
    ("parse_request", lambda document: None, r"a function of \(document, target, memory\)"),
    ("render_response", lambda response: None, r"a function of \(response, request\)"),
    ("stream_parser", lambda request: None, r"a function of \(\)"),
])  # fmt: skip
def test_a_function_that_takes_something_else_is_told_what_it_is_given(
    name: str, function: Any, takes: str
) -> None:
    with pytest.raises(TypeError, match=rf"`{name}` of the dialect 'toy' must be {takes}, not"):
        dataclasses.replace(TOY, **{name: function})


@pytest.mark.parametrize("given", [None, "x-key", {"x-key": 3}, {3: "key"}])
def test_the_headers_of_a_key_are_looked_at_too(given: Any) -> None:
    with pytest.raises(TypeError, match=r"`key_headers` of the dialect 'toy'.* not "):
        dataclasses.replace(TOY, key_headers=lambda key: given)


@pytest.mark.parametrize("behind", ["-v1", "x", "0", "_"])
def test_a_key_that_would_be_read_with_the_text_behind_it_is_an_error(behind: str) -> None:
    with pytest.raises(
        ValueError, match=r"`key_headers` of .* not put a letter, digit, `-` or `_` directly after"
    ):
        dataclasses.replace(TOY, key_headers=lambda key: {"x-toy-key": f"{key}{behind}"})


@pytest.mark.parametrize("behind", ["", " end", ";v=1", "=", '"', ".x"])
def test_other_text_may_be_behind_a_key(behind: str) -> None:
    headers = {"x-monkeys": "monkeys-1", "x-toy-key": "Key-1 {}" + behind}
    dialect = dataclasses.replace(
        TOY, key_headers=lambda key: {name: text.format(key) for name, text in headers.items()}
    )
    key = "sk-triocept-" + "a" * 43
    assert dialect.key_in({"x-toy-key": headers["x-toy-key"].format(key)}) == key


async def later(*given: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize("name", [*_records._FUNCTIONS, *_records._PERHAPS])
def test_a_function_that_is_async_is_told_that_none_is(name: str) -> None:
    """Its coroutine would be taken for what it gives, at the first call."""
    with pytest.raises(
        TypeError, match=rf"`{name}` of the dialect 'toy' must be a function of .* that is not async, not"
    ):
        dataclasses.replace(TOY, **{name: later})


@pytest.mark.parametrize(("name", "kind"), [
    ("stream_parser", StreamParser),
    ("stream_parser", dict),
    ("stream_renderer", StreamRenderer),
    ("stream_renderer", TOY.stream_parser),
])  # fmt: skip
def test_a_class_in_the_place_of_a_function_is_a_whole_one_of_its_kind(name: str, kind: type) -> None:
    with pytest.raises(
        TypeError, match=rf"`{name}` of the dialect 'toy' must be a complete subclass of Stream"
    ):
        dataclasses.replace(TOY, **{name: kind})


@pytest.mark.parametrize(("name", "given"), [("required", {3: 4}), ("not_posted", frozenset({1}))])
def test_a_name_in_a_field_that_is_no_str_is_seen(name: str, given: Any) -> None:
    with pytest.raises(TypeError, match=f"`{name}` of the dialect 'toy' must be "):
        dataclasses.replace(TOY, **{name: given})


@pytest.mark.parametrize(
    "path", ["/a b", "/<x", "/<x>/<x>", "/<3>", "/", "/health", "/v1/models", "/tools/x"]
)
def test_a_path_of_a_side_route_that_cannot_be_or_is_ours_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"`paths` of a SideRoute: '{path}' (is|must) "):
        SideRoute(paths=(path,), answer=lambda call: None)


def test_a_side_route_is_looked_at_where_it_is_made() -> None:
    with pytest.raises(TypeError, match="`answer` of a SideRoute must not be async"):
        SideRoute(paths=("/a",), answer=later)
    with pytest.raises(TypeError, match="`paths` of a SideRoute"):
        SideRoute(paths="/a", answer=lambda call: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`paths` of a SideRoute"):
        SideRoute(paths=("a",), answer=lambda call: None)
    with pytest.raises(TypeError, match="`answer` of a SideRoute"):
        SideRoute(paths=("/a",), answer=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`method` of a SideRoute"):
        SideRoute(paths=("/a",), method="FETCH", answer=lambda call: None)


@pytest.mark.parametrize("route", ["/talk", "/v1/talk"])
def test_two_on_one_route_are_refused_and_both_are_named(route: str) -> None:
    second = dataclasses.replace(TOY, name="second", route=route)
    with pytest.raises(ValueError, match=f"'second' .*{route}.* the dialect 'toy' has that path"):
        known_dialects([TOY, second])


@pytest.mark.parametrize("name", DIALECTS)
def test_one_on_a_route_of_ours_is_refused(name: str) -> None:
    ours = DIALECTS[name]
    route = "/models/x:generateContent" if name == "gemini" else ours.route
    with pytest.raises(ValueError, match=f"'toy' .*{route}.* the dialect '{name}' has that path"):
        known_dialects([dataclasses.replace(TOY, route=route)])


def test_two_of_one_name_are_both_said() -> None:
    with pytest.raises(
        ValueError, match="two dialects have the name 'toy': one with the route /talk and one with /say"
    ):
        known_dialects([TOY, dataclasses.replace(TOY, route="/say")])


def test_one_may_be_given_twice() -> None:
    assert known_dialects([TOY, TOY])["toy"] is TOY


@pytest.mark.parametrize("given", [None, TOY, 3])
async def test_what_is_no_row_of_dialects_is_named(given: Any) -> None:
    with pytest.raises(TypeError, match=r"dialects must be a list of triocept\.dialects\.Dialect, not"):
        async with serve_endpoint(dialects=given):
            raise AssertionError


@pytest.mark.parametrize("given", [None, 3, Dialect])
async def test_an_upstreams_dialect_may_be_a_record_too(given: Any) -> None:
    with pytest.raises(TypeError, match=r"dialect must be a name or a triocept\.dialects\.Dialect, not"):
        async with open_upstream("http://127.0.0.1:9", dialect=given):
            raise AssertionError
