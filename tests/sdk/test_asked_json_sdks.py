"""The structured outputs of the official SDKs get what they ask for, from a script that says no more than that."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import anthropic
import openai
import pytest
from pydantic import BaseModel, Field

from triocept.handlers import AskedJSON, otherwise
from triocept.testing import SyncRollout, fake_model


class Stop(BaseModel):
    town: str = Field(min_length=2, max_length=20)
    day: date
    kind: Literal["train", "bus"]


class Trip(BaseModel):
    stops: list[Stop]
    price: float = Field(gt=0, le=100)
    note: str | None
    before: Trip | None
    size: int | str


def by_chat(model: SyncRollout) -> Any:
    client: openai.OpenAI = model.client("openai_chat")
    asked: Any = [{"role": "user", "content": "where?"}]
    answer = client.chat.completions.parse(model="m", messages=asked, response_format=Trip)
    return answer.choices[0].message.parsed


def by_responses(model: SyncRollout) -> Any:
    client: openai.OpenAI = model.client("openai_responses")
    return client.responses.parse(model="m", input="where?", text_format=Trip).output_parsed


def by_anthropic(model: SyncRollout) -> Any:
    client: anthropic.Anthropic = model.client("anthropic_messages")
    if not hasattr(client.messages, "parse"):
        pytest.skip("this anthropic has no structured outputs")
    asked: Any = [{"role": "user", "content": "where?"}]
    return client.messages.parse(model="m", max_tokens=99, messages=asked, output_format=Trip).parsed_output


def by_a_tool(model: SyncRollout) -> Any:
    client: anthropic.Anthropic = model.client("anthropic_messages")
    answer = client.messages.create(
        model="m",
        max_tokens=99,
        messages=[{"role": "user", "content": "where?"}],
        tools=[{"name": "trip", "input_schema": Trip.model_json_schema()}],
        tool_choice={"type": "tool", "name": "trip"},
    )
    (use,) = answer.content
    return Trip.model_validate(use.input)  # type: ignore[union-attr]


@pytest.mark.once
@pytest.mark.parametrize("ask", [by_chat, by_responses, by_anthropic, by_a_tool])
def test_a_structured_output_is_one(ask: Any) -> None:
    with fake_model(otherwise(AskedJSON(price=3.5)), environ=False) as model:
        first, second = ask(model), ask(model)
    assert first == second
    assert (first.price, first.note, first.size) == (3.5, "note", 0)
    assert [(stop.town, stop.kind) for stop in first.stops] == [("town", "train")]
