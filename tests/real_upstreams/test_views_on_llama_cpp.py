"""Steps, flat branches and drift of what llama.cpp's own server has sampled: its ids, and those that came back."""

from __future__ import annotations

from array import array
from typing import Any

import httpx2
import pytest

from triocept import Message, Response, Text, Trace
from triocept.traces import branches, drift, steps
from triocept.types import Sampling

from .forwarding import CHAT, MESSAGES, TOOLS, answered, ask, forwarding
from .sent import Sent

pytestmark = pytest.mark.ci
END = "<|im_end|>"
STREAMED = pytest.mark.parametrize(("agent", "stream"), [(CHAT, False), (MESSAGES, True)])


async def ids_of(url: str, text: str) -> array[int]:
    """By a call of llama.cpp's own."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        asked = {"content": text, "add_special": True, "parse_special": True}
        return array("i", (await client.post("/tokenize", json=asked)).raise_for_status().json()["tokens"])


async def asked_directly(url: str, document: dict[str, Any]) -> tuple[array[int], array[int]]:
    """The ids that it reads of a document, and those that it says to them, by calls of its own."""
    rendering = {
        name: document[name] for name in ("messages", "tools", "chat_template_kwargs") if name in document
    }
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        rendered = (await client.post("/apply-template", json=rendering)).raise_for_status().json()
        prompt = await ids_of(url, rendered["prompt"])
        asked = {"prompt": prompt.tolist(), "n_predict": 100, "return_tokens": True}
        said = (await client.post("/completion", json=asked)).raise_for_status().json()
    return prompt, array("i", said["tokens"])


def told(first: str, answer: Response, then: str) -> tuple[Message, ...]:
    """What an agent sends that goes on from an answer."""
    return (
        Message("user", (Text(first),)),
        Message("assistant", answer.content),
        Message("user", (Text(then),)),
    )


@STREAMED
async def test_the_ids_of_each_step_are_those_that_llama_cpp_has_read_and_sampled(
    llama_cpp: str, agent: str, stream: bool, sent: Sent
) -> None:
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        probes = len(sent.to("/chat/completions"))
        called = await ask(rollout, agent, "look", stream=stream, tools=TOOLS)
        await ask(rollout, agent, *answered(agent, called), stream=stream, tools=TOOLS)
    documents = sent.to("/chat/completions")[probes:]
    documents = [document for document in documents if "verbose" in document]
    made = steps(rollout.trace)
    (end,) = await ids_of(llama_cpp, END)
    assert len(made) == len(documents) == 2
    for step, document in zip(made, documents, strict=True):
        assert (step.gaps, step.trained, step.delivered) == ((), True, True)
        assert (step.prompt_ids, step.completion_ids) == await asked_directly(llama_cpp, document)
        assert step.stop_included
        assert step.completion_ids[-1] == end
        assert len(step.logprobs) == len(step.completion_ids) == len(step.mask)
    assert trained(rollout.trace) == sum(len(step.completion_ids) for step in made)


def trained(trace: Trace) -> int:
    return sum(sum(branch.mask) for branch in branches(trace))


@STREAMED
async def test_a_template_that_lets_the_model_go_on_from_what_history_has_not_is_called_so(
    llama_cpp: str, agent: str, stream: bool
) -> None:
    """The scripted model's own: each prompt ends in a start token."""
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        said = await ask(rollout, agent, "script", stream=stream)
        again = told("script", said, "more of that script")
        after = await ask(rollout, agent, *again, stream=stream)
        last = (*again, Message("assistant", after.content), Message("user", (Text("a script"),)))
        await ask(rollout, agent, *last, stream=stream)
    report = drift(rollout.trace)
    assert report.counts == {"new_root": 1, "template_drift": 2}
    assert [alarm.turn for alarm in report.alarms] == [rollout.trace[1].id], "it does the same each turn"
    (pair, _) = report.pairs[1:]
    assert (pair.messages, pair.also) == ("same", None)
    assert pair.prompt_kept == pair.prompt_length - 1, "but for the start token"
    assert pair.answer_kept == pair.answer_length, "the answer behind it came back as it was sampled"
    assert len(branches(rollout.trace)) == 3


async def test_where_the_template_keeps_what_the_model_goes_on_from_the_calls_are_one_sequence(
    llama_cpp: str,
) -> None:
    extra = {"chat_template_kwargs": {"start": "say", "keep": True}}
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp", extra_body=extra) as rollout:
        said = await ask(rollout, CHAT, "script", stream=False)
        await ask(rollout, CHAT, *told("script", said, "and more"), stream=False)
    assert drift(rollout.trace).counts == {"new_root": 1, "extends": 1}
    (branch,) = branches(rollout.trace)
    first, second = steps(rollout.trace)
    assert second.parent == first.turn.id
    assert branch.token_ids == second.prompt_ids + second.completion_ids
    assert sum(branch.mask) == len(first.completion_ids) + len(second.completion_ids)


async def test_an_answer_that_is_tokenized_anew_is_called_so(llama_cpp: str) -> None:
    """Babble is sampled token by token, and no tokenizer cuts the text of it so."""
    extra = {"chat_template_kwargs": {"start": "babble", "keep": True}}
    sampling = Sampling(max_output_tokens=30)
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp", extra_body=extra) as rollout:
        said = await ask(rollout, CHAT, "babble", stream=False, sampling=sampling)
        await ask(rollout, CHAT, *told("babble", said, "and more"), stream=False, sampling=sampling)
    report = drift(rollout.trace)
    assert report.counts == {"new_root": 1, "resampled_text": 1}
    pair = report.pairs[1]
    assert pair.prompt_kept == pair.prompt_length
    assert report.drifted == 30 - pair.answer_kept > 0
    assert [step.stop_included for step in steps(rollout.trace)] == [False, False]


async def test_a_step_has_the_temperature_that_llama_cpp_took(llama_cpp: str) -> None:
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        await ask(rollout, CHAT, "script", stream=False, sampling=Sampling(temperature=0.5))
        await ask(rollout, CHAT, "script again", stream=False)
    asked, silent = steps(rollout.trace)
    assert asked.temperature == pytest.approx(0.5)
    assert silent.temperature is not None, "its own, which it tells"
    assert "temperature_unknown" not in silent.unknown
