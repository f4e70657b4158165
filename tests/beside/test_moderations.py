"""Moderations: nothing is found unless the program finds it."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from tests.beside.test_embeddings import opened
from triocept import serve_endpoint

MODERATE = "/v1/moderations"
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


async def test_nothing_is_found_unless_the_program_says_so() -> None:
    async with opened() as (rollout, client):
        answer = (await client.post(MODERATE, json={"input": "I hate mondays"})).json()
    assert (answer["model"], answer["id"][:5]) == ("omni-moderation-latest", "modr-")
    (result,) = answer["results"]
    assert result["flagged"] is False
    assert set(result["categories"].values()) == {False}
    assert set(result["category_scores"].values()) == {0.0}
    assert result["categories"].keys() == result["category_scores"].keys()
    (call,) = rollout.trace.services
    assert (call.kind, call.name, call.arguments) == (
        "moderations",
        "omni-moderation-latest",
        {"input": "I hate mondays"},
    )
    assert call.result == [{"flagged": False, "scores": {}}]


async def found(texts: Sequence[str]) -> list[Any]:
    by_text = {"a": True, "b": None, "c": "violence", "d": ["hate", "self-harm"], "e": {"sexual": 0.4}}
    return [by_text.get(text, {"sexual": 0.5, "hate": 0.1}) for text in texts]


async def test_what_is_found_is_said_in_categories_and_scores() -> None:
    async with opened(moderate=found) as (_, client):
        answer = (await client.post(MODERATE, json={"model": "m", "input": list("abcdef")})).json()
    assert answer["model"] == "m"
    results = answer["results"]
    assert [each["flagged"] for each in results] == [True, False, True, True, False, True]
    flagged = [[name for name, is_so in each["categories"].items() if is_so] for each in results]
    assert flagged == [[], [], ["violence"], ["hate", "self-harm"], [], ["sexual"]]
    assert results[5]["category_scores"]["hate"] == 0.1


async def test_the_parts_of_one_input_are_one_text() -> None:
    seen: list[Sequence[str]] = []

    def moderate(texts: Sequence[str]) -> list[bool]:
        seen.append(texts)
        return [True]

    parts = [{"type": "text", "text": "look"}, IMAGE, {"type": "text", "text": "here"}]
    async with opened(moderate=moderate) as (_, client):
        answer = (await client.post(MODERATE, json={"input": parts})).json()
    (result,) = answer["results"]
    assert (result["flagged"], [*map(list, seen)]) == (True, [["look\nhere"]])
    assert result["category_applied_input_types"]["violence"] == ["text", "image"]


@pytest.mark.parametrize(("given", "words"), [
    (True, "returns the findings for each text; it returned bool: True"),
    ("violence", "returns the findings for each text; it returned str"),
    ([], "for each text, 1 in all; it returned 0"),
    ([["violance"]], "the unknown category 'violance'; did you mean violence"),
    ([{"violence": "much"}], "the score of 'violence' must be a number"),
    ([3], "moderate must return a bool, categories, or scores"),
])  # fmt: skip
async def test_a_function_that_finds_something_else_is_told_so(given: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        async with opened(moderate=lambda texts: given) as (_, client):
            await client.post(MODERATE, json={"input": "hi"})
            await trio.sleep_forever()


@pytest.mark.parametrize(("document", "param"), [
    ({}, "input"),
    ({"input": []}, "input"),
    ({"input": 3}, "input"),
    ({"input": ["a", 3]}, "input[1]"),
    ({"input": [{"type": "text"}]}, "input[0].text"),
    ({"input": [{"type": "audio"}]}, "input[0].type"),
    ({"input": [IMAGE, "a"]}, "input[1]"),
])  # fmt: skip
async def test_what_cannot_be_moderated_is_a_400_that_names_the_place(
    document: dict[str, Any], param: str
) -> None:
    async with opened() as (rollout, client):
        answer = await client.post(MODERATE, json=document)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert rollout.trace.services == ()


async def test_what_can_be_no_moderate_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="moderate must be a function of the texts, async or not"):
        async with serve_endpoint(moderate=True):  # type: ignore[arg-type]
            pass
