"""A dialect that a program brings: it is spoken to agents and to providers, and is known wherever ours are."""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

import triocept
from triocept import Exchange, Rollout, open_upstream, serve_endpoint, serve_pool
from triocept.dialects import DIALECTS, _registry, dialect, known_dialects
from triocept.events import assemble

from .toy import TOY

SAID = {"to": "m", "lines": [{"by": "host", "text": "Be kind."}, {"by": "user", "text": "hi"}]}


async def shout(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        for text in (exchange.request.messages[-1].text.upper(), "!"):
            await stream.send(text)


async def talk(rollout: Rollout, document: Any = SAID, **more: Any) -> httpx2.Response:
    """As an agent that speaks it: it knows a base URL, a key and where that stands."""
    headers = {"x-toy-key": rollout.api_key}
    async with httpx2.AsyncClient(headers=headers) as client:
        return await client.post(f"{rollout.base_url('toy')}/talk", json={**document, **more})


async def completed(rollout: Rollout, *, stream: bool) -> str:
    """As an agent that speaks chat completions."""
    headers = {"authorization": f"Bearer {rollout.api_key}"}
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    async with httpx2.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{rollout.base_url('openai_chat')}/chat/completions", json=asked)
    codec = DIALECTS["openai_chat"]
    if not stream:
        return codec.parse_response(answer.json()).text
    parser = codec.stream_parser()
    return assemble([*parser.feed(answer.content), *parser.close()]).text


def lines(answer: httpx2.Response) -> list[Any]:
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_an_agent_is_answered_in_it_whole_and_streamed_and_with_its_own_errors() -> None:
    with trio.fail_after(30):
        async with serve_endpoint(dialects=[TOY]) as endpoint, endpoint.open_rollout(shout) as rollout:
            whole, streamed = await talk(rollout), await talk(rollout, piecewise=True)
            wrong = await talk(rollout, lines=[{"by": "user"}])
            environment = rollout.environ()
    assert (whole.status_code, whole.json()) == (200, {"text": "HI!", "over": True})
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert lines(streamed) == [{"more": "HI"}, {"more": "!"}, {"over": True}]
    assert wrong.status_code == 400
    assert "lines[0].text" in wrong.json()["problem"]
    assert environment["TOY_KEY"] == rollout.api_key
    assert environment["TOY_URL"] in environment["TRIOCEPT_URL"]
    first, _ = rollout.trace
    assert (first.dialect, first.request.messages[0].role) == ("toy", "system")


async def test_a_program_never_sees_the_key_that_stands_where_the_dialect_has_it() -> None:
    seen: list[str] = []

    async def look(exchange: Exchange) -> None:
        seen.append(exchange.headers["x-toy-key"])
        await exchange.respond("a")

    with trio.fail_after(30):
        async with serve_endpoint(dialects=[TOY]) as endpoint, endpoint.open_rollout(look) as rollout:
            assert (await talk(rollout)).status_code == 200
            rollout_key = rollout.api_key
    assert seen == ["[redacted]"]
    assert rollout_key not in repr(rollout.trace)


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("agent", ["toy", "openai_chat"])
async def test_a_provider_that_speaks_it_answers_agents_of_every_dialect(agent: str, piecewise: bool) -> None:
    """The provider is a rollout, too: in its own dialect the bytes come through as they are."""
    with trio.fail_after(30):
        async with (
            serve_endpoint(dialects=[TOY]) as there,
            there.open_rollout(shout) as provider,
            open_upstream(provider.base_url("toy"), dialect=TOY, api_key=provider.api_key) as upstream,
            serve_endpoint(dialects=[TOY]) as here,
            here.open_rollout(upstream) as rollout,
        ):
            if agent == "toy":
                answer = await talk(rollout, piecewise=piecewise)
                text = "".join(line.get("more", line.get("text", "")) for line in lines(answer))
            else:
                text = await completed(rollout, stream=piecewise)
    assert text == "HI!"
    (turn,) = provider.trace
    assert turn.dialect == "toy"


async def test_a_pool_speaks_it_too() -> None:
    with trio.fail_after(30):
        async with serve_pool(partial(serve_endpoint, dialects=[TOY])) as pool:
            async with pool.open_rollout(shout) as rollout:
                assert (await talk(rollout)).json()["text"] == "HI!"


async def test_an_endpoint_that_was_not_given_it_does_not_speak_it() -> None:
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(shout) as rollout:
            with pytest.raises(ValueError, match="no dialect 'toy'"):
                rollout.base_url("toy")


async def test_two_of_one_name_and_what_is_none_are_refused_before_anything_is_bound() -> None:
    other = dataclasses.replace(TOY, name="gemini")
    with pytest.raises(ValueError, match="two dialects 'gemini'"):
        async with serve_endpoint(dialects=[other]):
            raise AssertionError
    with pytest.raises(TypeError, match=r"triocept\.dialects\.Dialect, not str"):
        async with serve_endpoint(dialects=["toy"]):  # type: ignore[list-item]
            raise AssertionError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As if a package with it were installed."""
    point = EntryPoint("toy", f"{__package__}.toy:TOY", _registry.GROUP)
    monkeypatch.setattr(_registry, "entry_points", lambda group: [point] if group == point.group else [])
    _registry._installed.cache_clear()
    yield
    _registry._installed.cache_clear()


@pytest.mark.usefixtures("installed")
async def test_an_installed_one_is_known_by_its_name_without_being_given() -> None:
    assert dialect("toy") is TOY
    assert set(known_dialects()) == {*DIALECTS, "toy"}
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(shout) as rollout:
            async with open_upstream(
                rollout.base_url("toy"), dialect="toy", api_key=rollout.api_key
            ) as upstream:
                asked = TOY.parse_request(SAID)
                assert (await upstream.fetch(asked)).text == "HI!"


def test_a_name_that_nobody_brings_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no dialect 'toy'; there are anthropic_messages, gemini"):
        dialect("toy")


def test_it_was_written_with_what_is_public_alone() -> None:
    source = sys.modules[TOY.parse_request.__module__].__file__  # type: ignore[attr-defined]
    imported = [line for line in Path(str(source)).read_text().splitlines() if "import" in line]
    assert imported
    assert not [line for line in imported if "triocept" in line and "._" in line]
    assert triocept.dialects.Dialect is type(TOY)
