"""A small application that asks models, for five tools to test: a shop's help desk.

Its clients take their URL and key from the environment, as an SDK does that is told nothing, and are made at each call.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import anthropic
import openai
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel
from pydantic_ai import Agent

MODEL = "gpt-5-mini"
ORDERS = {"A-17": "one lamp, 40 euros, arrived broken", "A-18": "two chairs, 90 euros, on its way"}
FIND_ORDER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "find_order",
     "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}},
}  # fmt: skip


class Ticket(BaseModel):
    """What a letter is about, and whether somebody should hurry."""

    team: str
    urgent: bool


class Decision(BaseModel):
    """What becomes of an order."""

    refund: int
    reason: str


def answer(question: str) -> str:
    """An answer in one sentence; what to do, where the desk itself is set up wrong."""
    try:
        completion = openai.OpenAI().chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": question},
            ],
        )
    except openai.AuthenticationError:
        return "The desk is closed: its key is wrong."
    return completion.choices[0].message.content or ""


def answer_about_order(question: str) -> str:
    """An answer by a model that may look into the orders, as often as it likes."""
    client = openai.OpenAI()
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    while True:
        completion = client.chat.completions.create(model=MODEL, messages=messages, tools=[FIND_ORDER])
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))  # type: ignore[arg-type]
        for call in message.tool_calls:
            number = json.loads(call.function.arguments)["number"]
            order = ORDERS.get(number, "no such order")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": order})


def stream_answer(question: str) -> Iterator[str]:
    """An answer piece by piece; where the line breaks, what came and a word about it."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    with openai.OpenAI().chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        try:
            for chunk in stream:
                yield chunk.choices[0].delta.content or ""
        except openai.APIError:
            yield " [the line broke]"


def sort_letter(letter: str) -> Ticket | None:
    """Structured output: the model must answer by a schema."""
    completion = openai.OpenAI().chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": letter}], response_format=Ticket
    )
    return completion.choices[0].message.parsed


def find_article(question: str, articles: list[str]) -> str:
    """The article that is nearest to a question."""
    found = openai.OpenAI().embeddings.create(model="text-embedding-3-small", input=[question, *articles])
    asked, *vectors = (each.embedding for each in found.data)
    nearness = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in vectors]
    return articles[nearness.index(max(nearness))]


async def write_letter(topic: str) -> AsyncIterator[str]:
    """A letter, piece by piece, by Anthropic's async client."""
    async with (
        anthropic.AsyncAnthropic() as client,
        client.messages.stream(
            model="claude-sonnet-5",
            max_tokens=1000,
            system="You write letters.",
            messages=[{"role": "user", "content": topic}],
        ) as stream,
    ):
        async for text in stream.text_stream:
            yield text


def translate(text: str, language: str) -> str:
    """A LangChain chain: a prompt, a model, a parser."""
    prompt = ChatPromptTemplate([("system", "Translate to {language}."), ("user", "{text}")])
    chain = prompt | ChatOpenAI(model=MODEL) | StrOutputParser()
    return chain.invoke({"language": language, "text": text})


async def decide(number: str) -> Decision:
    """A pydantic-ai agent, with a tool and a type for its answer; it speaks OpenAI's Responses."""
    agent = Agent(f"openai:{MODEL}", output_type=Decision, instructions="Be generous.")

    @agent.tool_plain
    def find_order(number: str) -> str:
        return ORDERS[number]

    return (await agent.run(f"What becomes of {number}?")).output
