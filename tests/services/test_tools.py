"""A function's signature is its tool's schema: what fits it, what does not, and what is no tool at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import pytest

from triocept import Refusal, Rollout
from triocept.types import HostTool


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Box:
    corner: Point
    label: str = ""


SENTINEL = object()


async def everything(
    point: Point,
    boxes: list[Box] | None = None,
    *,
    when: date | None = None,
    how: Literal["slow", "fast"] = "slow",
    count: Annotated[int, msgspec.Meta(description="how many", ge=1)] = 2,
    tags: list[str] = ["a"],  # noqa: B006 - it is not changed
    anything: Any = SENTINEL,
    rollout: Rollout,
) -> str:
    """Do everything.

    At once.
    """
    return repr((point, boxes, when, how, count, tags, anything is SENTINEL, rollout))


def test_the_signature_is_the_schema() -> None:
    made = HostTool.of(everything)
    schema = made.tool.parameters
    assert (made.tool.name, made.tool.description) == ("everything", "Do everything.\n\nAt once.")
    assert schema["type"] == "object"
    assert schema["required"] == ["point"]
    assert schema["additionalProperties"] is False
    assert "rollout" not in schema["properties"]
    assert schema["properties"]["point"] == {"$ref": "#/$defs/Point"}
    assert set(schema["$defs"]) == {"Point", "Box"}
    assert schema["properties"]["count"] == {
        "type": "integer",
        "minimum": 1,
        "description": "how many",
        "default": 2,
    }
    assert schema["properties"]["tags"]["default"] == ["a"]
    assert "default" not in schema["properties"]["anything"]  # no agent could name it
    msgspec.json.encode(schema)


async def test_what_is_left_out_is_the_functions_own_default() -> None:
    made = HostTool.of(everything)
    bound = made.bind({"point": {"x": 1}, "boxes": [{"corner": {"x": 2}}], "when": "2026-01-02"})
    assert bound == {"point": Point(1), "boxes": [Box(Point(2))], "when": date(2026, 1, 2)}
    said = await made.call(bound, "the rollout")
    assert said == (
        "(Point(x=1, y=0), [Box(corner=Point(x=2, y=0), label='')], datetime.date(2026, 1, 2), 'slow', 2, ['a'], "
        "True, 'the rollout')"
    )


@pytest.mark.parametrize(("arguments", "where"), [
    ({}, "missing required field `point`"),
    ({"point": {"x": "1"}}, r"\$.point.x"),
    ({"point": {"x": 1}, "count": 0}, r"\$.count"),
    ({"point": {"x": 1}, "how": "never"}, r"\$.how"),
    ({"point": {"x": 1}, "rollout": 1}, "unknown field `rollout`"),
    ([1], "Expected `object`"),
    ("text", "Expected `object`"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_with_their_place(arguments: Any, where: str) -> None:
    with pytest.raises(Refusal, match=f"do not match .* everything.*{where}") as caught:
        HostTool.of(everything).bind(arguments)
    assert caught.value.status == 400


class Unknown:
    pass


def untyped(x): ...  # type: ignore[no-untyped-def]
def of_no_schema(x: Unknown) -> None: ...
def of_no_schema_in_a_union(x: Point | str | Unknown) -> None: ...
def with_many(*x: int) -> None: ...
def with_any_name(**x: int) -> None: ...
def by_position(x: int, /) -> None: ...
def of_nowhere(x: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(("function", "why"), [
    (untyped, "parameter 'x' has no type"),
    (of_no_schema, "no JSON Schema"),
    (of_no_schema_in_a_union, "no JSON Schema"),
    (with_many, "cannot be passed by name"),
    (with_any_name, "cannot be passed by name"),
    (by_position, "cannot be passed by name"),
    (of_nowhere, "cannot be found"),
    (partial(of_no_schema, x=Unknown()), "parameter 'x' has no type"),
    (3, "a tool must be a function, not int: 3"),
])  # fmt: skip
def test_what_has_no_schema_is_no_tool_and_says_why(function: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        HostTool.of(function, name="tool")


@pytest.mark.parametrize("name", ["a b", "a.b", "ä", "", "x" * 65])
def test_a_name_that_some_dialect_would_not_take_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="a tool's name"):
        HostTool.of(lambda: None, name=name or None)


class Counter:
    """A tool that remembers."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, by: int = 1) -> int:
        """Count on."""
        self.count += by
        return self.count


async def test_an_object_that_can_be_called_is_a_tool_too() -> None:
    made = HostTool.of(Counter(), name="count", description="count")
    assert await made.call(made.bind({"by": 2}), None) == 2
    assert await made.call(made.bind({}), None) == 3
