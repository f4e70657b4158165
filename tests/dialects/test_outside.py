"""A dialect that a program brings: it is spoken to agents and to providers, and is known wherever ours are."""

import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import trio

import triocept
from tests.upstream.provider import says, serve_provider, whole
from triocept import Exchange, Refusal, Request, Response, Rollout, open_upstream, serve_endpoint, serve_pool
from triocept._server.keys import Keys
from triocept._server.transport import Head
from triocept.dialects import DIALECTS, Failure, SideRoute, _registry, dialect, known_dialects
from triocept.errors import DialectError
from triocept.types import assemble

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

    async with serve_endpoint(dialects=[TOY]) as endpoint, endpoint.open_rollout(look) as rollout:
        assert (await talk(rollout)).status_code == 200
        rollout_key = rollout.api_key
    assert seen == ["[redacted]"]
    assert rollout_key not in repr(rollout.trace)


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("agent", ["toy", "openai_chat"])
async def test_a_provider_that_speaks_it_answers_agents_of_every_dialect(agent: str, piecewise: bool) -> None:
    """The provider is a rollout, too: in its own dialect the bytes come through as they are."""
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
    async with serve_pool(partial(serve_endpoint, dialects=[TOY])) as pool:
        async with pool.open_rollout(shout) as rollout:
            assert (await talk(rollout)).json()["text"] == "HI!"


async def test_an_endpoint_that_was_not_given_it_does_not_speak_it() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(shout) as rollout:
        with pytest.raises(ValueError, match="'toy'"):
            rollout.base_url("toy")


async def test_two_of_one_name_and_what_is_none_are_refused_before_anything_is_bound() -> None:
    other = dataclasses.replace(TOY, name="gemini")
    with pytest.raises(ValueError, match="two dialects have the name 'gemini'"):
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
    async with serve_endpoint() as endpoint, endpoint.open_rollout(shout) as rollout:
        async with open_upstream(rollout.base_url("toy"), dialect="toy", api_key=rollout.api_key) as upstream:
            asked = TOY.parse_request(SAID)
            assert (await upstream.fetch(asked)).text == "HI!"


def test_a_name_that_nobody_brings_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no dialect 'toy'; the dialects are anthropic_messages, gemini"):
        dialect("toy")


def test_it_was_written_with_what_is_public_alone() -> None:
    source = sys.modules[TOY.parse_request.__module__].__file__  # type: ignore[attr-defined]
    imported = [line for line in Path(str(source)).read_text().splitlines() if "import" in line]
    assert imported
    assert not [line for line in imported if "triocept" in line and "._" in line]
    assert triocept.dialects.Dialect is type(TOY)


class Loads:
    """An entry point of an installed package, as far as it is read."""

    name, value = "toy", "toys:TOY"
    dist = SimpleNamespace(name="toys-for-triocept")

    def __init__(self, load: Callable[[], Any]) -> None:
        self.load = load


def _cannot() -> Any:
    raise AttributeError("module 'toys' has no attribute 'TOY'")


@pytest.mark.parametrize(("load", "why"), [
    (_cannot, "AttributeError: module 'toys' has no attribute 'TOY'"),
    (lambda: 3, "TypeError: a dialect must be a triocept.dialects.Dialect, not int: 3"),
    (lambda: dataclasses.replace(TOY, route="/messages"),
     "the dialect 'anthropic_messages' has that path"),
    (lambda: dataclasses.replace(TOY, name="gemini"), "two dialects have the name 'gemini'"),
])  # fmt: skip
async def test_an_installed_package_that_brings_none_is_named_in_the_log_and_in_nobodys_way(
    load: Callable[[], Any], why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_registry, "entry_points", lambda group: [Loads(load)])
    _registry._installed.cache_clear()
    try:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(shout) as rollout:
            assert await completed(rollout, stream=False) == "HI!"
        assert set(known_dialects()) == set(DIALECTS)
        with pytest.raises(ValueError, match="no dialect 'toy': the entry point `toy = toys:TOY`"):
            dialect("toy")
    finally:
        _registry._installed.cache_clear()
    (warned,) = [each.getMessage() for each in caplog.records if each.name == "triocept.dialects"]
    assert "toys-for-triocept" in warned
    assert _registry.GROUP in warned
    assert why in warned


async def test_its_parser_may_change_a_long_conversation_in_place_though_it_must_not() -> None:
    def parse(document: Any, *arguments: Any, **more: Any) -> Request:
        for line in document["lines"]:
            line["text"] = line["text"].upper()
        return TOY.parse_request(document, *arguments, **more)

    heard: list[list[str]] = []

    async def look(exchange: Exchange) -> None:
        heard.append([message.text for message in exchange.request.messages])
        await exchange.respond("a")

    sent = [{"by": "user", "text": "x" * 9_000} for _ in range(4)]
    changing = dataclasses.replace(TOY, parse_request=parse)
    async with serve_endpoint(dialects=[changing]) as endpoint, endpoint.open_rollout(look) as rollout:
        for count in range(2, 5):
            assert (await talk(rollout, lines=sent[:count])).status_code == 200
        assert rollout._core.bodies._alive() == []
    assert heard == [["X" * 9_000] * count for count in range(2, 5)]


SHOUTED = dataclasses.replace(TOY, key_headers=lambda key: {"X-Toy-Key": key})


async def test_a_key_is_found_and_hidden_in_whatever_case_its_header_is_given() -> None:
    seen: list[str] = []

    async def look(exchange: Exchange) -> None:
        seen.append(exchange.headers["x-toy-key"])
        await exchange.respond("a")

    async with serve_endpoint(dialects=[SHOUTED]) as endpoint, endpoint.open_rollout(look) as rollout:
        url, key = f"{rollout.base_url('toy')}/talk", rollout.api_key
        async with httpx2.AsyncClient() as client:
            alone = await client.post(url, json=SAID, headers={"X-Toy-Key": key})
            beside = await client.post(
                url, json=SAID, headers={"X-TOY-KEY": key, "Authorization": f"Bearer {key}"}
            )
            none = await client.post(url, json=SAID)
    assert (alone.status_code, beside.status_code, none.status_code) == (200, 200, 401)
    assert seen == ["[redacted]", "[redacted]"]
    assert key not in repr(rollout.trace)
    assert "'x-toy-key'" in none.json()["problem"]


@pytest.mark.parametrize(("name", "text"), [
    ("x-toy-key", "Bearer {}"),
    ("x-toy-key", 'token="{}"'),
    ("x-toy-key", "apikey {}"),
    ("authorization", "Key {}"),
])  # fmt: skip
async def test_a_key_is_found_and_hidden_within_whatever_its_header_says(name: str, text: str) -> None:
    """A provider's client writes it so, and every call of it was a 401."""
    seen: list[str] = []

    async def look(exchange: Exchange) -> None:
        seen.append(exchange.headers[name])
        await exchange.respond("a")

    wordy = dataclasses.replace(TOY, key_headers=lambda key: {name: text.format(key)})
    async with serve_endpoint(dialects=[wordy]) as endpoint, endpoint.open_rollout(look) as rollout:
        url, key = f"{rollout.base_url('toy')}/talk", rollout.api_key
        async with httpx2.AsyncClient() as client:
            right, bare, wrong = [
                (await client.post(url, json=SAID, headers={name: shown})).status_code
                for shown in (text.format(key), key, text.format("sk-none"))
            ]
    assert (right, bare, wrong) == (200, 200, 401)
    assert seen == ["[redacted]", "[redacted]"]


@pytest.mark.parametrize("text", ["{}", "Key {}"])
async def test_keys_of_two_rollouts_are_refused_if_one_is_in_a_header_of_the_dialect(text: str) -> None:
    dialect = dataclasses.replace(TOY, key_headers=lambda key: {"x-toy-key": text.format(key)})
    async with serve_endpoint(dialects=[dialect]) as endpoint, endpoint.open_rollout(shout) as rollout:
        async with endpoint.open_rollout(shout) as other, httpx2.AsyncClient() as client:
            answers = [
                await client.post(
                    f"{rollout.base_url('toy')}/talk",
                    json=SAID,
                    headers={
                        "authorization": f"Bearer {rollout.api_key}",
                        "x-toy-key": text.format(second),
                    },
                )
                for second in (rollout.api_key, "sk-of-a-provider", other.api_key)
            ]
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    assert (
        "the header 'authorization' and the header 'x-toy-key' contain keys of two rollouts"
        in answers[2].text
    )


async def test_a_key_in_a_header_of_its_own_is_one_for_whatever_asks_whether_there_is_one() -> None:
    async with serve_endpoint(dialects=[SHOUTED]) as endpoint, endpoint.open_rollout(shout) as rollout:
        for key, shown in ((rollout.api_key, True), ("another", False)):
            head = Head("POST", "/talk", "", {"x-toy-key": key})
            found = Keys(endpoint._registry, endpoint.dialects.values()).holder(head)
            assert (found is not None) is shown
            assert Keys(endpoint._registry, DIALECTS.values()).holder(head) is None


@asynccontextmanager
async def forwarding(there: Any, **options: Any) -> AsyncIterator[tuple[Rollout, list[Mapping[str, str]]]]:
    """A rollout that is answered by a provider of the same dialect, and the heads that the provider got."""
    heads: list[Mapping[str, str]] = []

    async def look(exchange: Exchange) -> None:
        heads.append(exchange.headers)
        await exchange.respond("a")

    async with (
        serve_endpoint(dialects=[there]) as endpoint,
        endpoint.open_rollout(look) as provider,
        open_upstream(
            provider.base_url("toy"), dialect=there, api_key=provider.api_key, **options
        ) as upstream,
        endpoint.open_rollout(upstream) as rollout,
    ):
        yield rollout, heads


@pytest.mark.parametrize("name", ["x-toy-version", "X-Toy-Version"])
async def test_a_default_header_is_said_only_where_the_agent_does_not(name: str) -> None:
    there = dataclasses.replace(TOY, default_headers={name: "3"})
    async with forwarding(there) as (rollout, heads):
        async with httpx2.AsyncClient(headers={"x-toy-key": rollout.api_key}) as client:
            for said in ({"X-Toy-Version": "4"}, {"x-toy-version": ""}, {"x-other": "5"}):
                answer = await client.post(f"{rollout.base_url('toy')}/talk", json=SAID, headers=said)
                assert answer.status_code == 200
    assert [head["x-toy-version"] for head in heads] == ["4", "", "3"]
    assert "x-other" not in heads[-1]


async def test_a_default_header_that_may_hold_a_key_is_not_the_agents() -> None:
    there = dataclasses.replace(TOY, default_headers={"x-api-key": "none", "x-toy-key": "none"})
    async with serve_provider(says(whole(b'{"text": "a", "over": true}'))) as provider:
        async with (
            open_upstream(provider.url, dialect=there) as upstream,
            serve_endpoint(dialects=[there]) as endpoint,
            endpoint.open_rollout(upstream) as rollout,
        ):
            key = rollout.api_key
            async with httpx2.AsyncClient(headers={"x-toy-key": key, "x-api-key": key}) as client:
                await client.post(f"{rollout.base_url('toy')}/talk", json=SAID)
    (asked,) = provider.asked
    assert [asked.headers[name] for name in ("x-api-key", "x-toy-key")] == ["none", "none"]


@pytest.mark.parametrize("base", ["", "/v1", "/x", "/api/v3"])
async def test_a_base_path_is_one_for_its_agents_and_at_its_providers(base: str) -> None:
    side = SideRoute(paths=("/said",), answer=lambda call: {"said": call.model})
    there = dataclasses.replace(TOY, base_path=base, side_routes=(side,))
    async with forwarding(there) as (rollout, heads):
        url = rollout.base_url("toy")
        assert url.endswith(f"/rollout/{rollout.id}{base}")
        assert (await talk(rollout)).json()["text"] == "a"
        async with httpx2.AsyncClient(headers={"x-toy-key": rollout.api_key}) as client:
            said, models = await client.get(f"{url}/said"), await client.get(f"{url}/models")
    assert len(heads) == 1
    assert base == "/v1" or said.json() == {"said": "triocept"}
    assert models.json()["data"][0]["id"] == "triocept"


class Unsayable(Exception):
    """What a dialect raises that cannot say an error."""


def _cannot_say(failure: Failure) -> Any:
    raise Unsayable(failure.message)


SPEECHLESS = dataclasses.replace(TOY, render_error=_cannot_say)


class FailsToFail(TOY.stream_renderer):  # type: ignore[name-defined,misc]
    def fail(self, failure: Failure) -> bytes:
        raise Unsayable(failure.message)


async def refuse(exchange: Exchange) -> None:
    await exchange.refuse(409, "not you")


async def answer_what_cannot_be_said(exchange: Exchange) -> None:
    await exchange.respond(Response(()))


def _says_no_answer(response: Response, request: Request) -> Any:
    raise DialectError("no words for it")


@pytest.mark.parametrize(("there", "handler", "document", "status"), [
    (SPEECHLESS, shout, {"to": "m", "lines": 3}, 400),
    (SPEECHLESS, refuse, SAID, 409),
    (dataclasses.replace(SPEECHLESS, render_response=_says_no_answer), answer_what_cannot_be_said, SAID, 500),
    (dataclasses.replace(TOY, render_error=lambda failure: {1j: 2}), refuse, SAID, 409),
], ids=["of a document", "of a refusal", "of an answer", "that is no JSON"])  # fmt: skip
async def test_the_owner_is_told_of_an_error_that_the_dialect_cannot_say_and_the_agent_its_status(
    there: Any, handler: Any, document: Any, status: int
) -> None:
    answers: list[httpx2.Response] = []

    async def ask(rollout: Rollout) -> None:
        headers = {"x-toy-key": rollout.api_key}
        async with httpx2.AsyncClient(headers=headers) as client:
            answers.append(await client.post(f"{rollout.base_url('toy')}/talk", json=document))

    async with serve_endpoint(dialects=[there]) as endpoint, trio.open_nursery() as nursery:
        with pytest.raises((Unsayable, TypeError)):
            async with endpoint.open_rollout(handler) as rollout:
                nursery.start_soon(ask, rollout)
                await trio.sleep_forever()
    (answer,) = answers
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_the_owner_is_told_of_an_error_that_cannot_be_said_in_a_stream() -> None:
    async def begin(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("a")
            raise Refusal(409, "not you")

    broken: list[Exception] = []

    async def ask(rollout: Rollout) -> None:
        try:
            await talk(rollout, piecewise=True)
        except httpx2.HTTPError as exc:
            broken.append(exc)

    there = dataclasses.replace(TOY, stream_renderer=FailsToFail)
    async with serve_endpoint(dialects=[there]) as endpoint, trio.open_nursery() as nursery:
        with pytest.raises(Unsayable):
            async with endpoint.open_rollout(begin) as rollout:
                nursery.start_soon(ask, rollout)
                await trio.sleep_forever()
    assert len(broken) == 1
