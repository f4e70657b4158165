"""Several handlers as one."""

import pytest

from tests.asking import ask
from triocept import Exchange, Handler, Refusal, UpstreamError, serve_endpoint
from triocept.errors import ContextLengthError
from triocept.handlers import fallback, route


def says(text: str) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(text)

    return handler


def fails(error: Exception) -> Handler:
    async def handler(exchange: Exchange) -> None:
        raise error

    return handler


async def test_a_model_is_answered_by_its_handler_an_exact_name_first() -> None:
    handler = route({"claude-*": says("claude"), "*": says("any"), "claude-small": says("small")})
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        for model, text in (("claude-opus", "claude"), ("claude-small", "small"), ("gpt", "any")):
            answered = await ask(rollout, model=model)
            assert answered.json()["choices"][0]["message"]["content"] == text


async def test_a_model_that_nobody_has_is_refused_with_404() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(route({"a": says("a")})) as rollout:
        answered = await ask(rollout, model="b")
        assert answered.status_code == 404
        assert "'b'" in answered.json()["error"]["message"]
        assert (await ask(rollout, model="a")).status_code == 200


async def test_a_function_chooses_and_may_refuse() -> None:
    def choose(exchange: Exchange) -> Handler:
        if exchange.request.last is not None and exchange.request.last.text == "no":
            raise Refusal(403, "no")
        return says(f"{exchange.dialect}")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(route(choose)) as rollout:
        assert (await ask(rollout)).json()["choices"][0]["message"]["content"] == "openai_chat"
        assert (await ask(rollout, "no")).status_code == 403


async def test_the_next_one_is_asked_where_one_failed_and_the_turn_says_who() -> None:
    handler = fallback(
        [fails(UpstreamError("down", upstream="http://a")), fails(ContextLengthError("long")), says("c")]
    )
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        assert (await ask(rollout)).json()["choices"][0]["message"]["content"] == "c"
    (turn,) = rollout.trace
    assert turn.outcome == "answered"
    assert turn.notes["failed"] == ["502 from http://a: down", "long"]


async def test_the_last_ones_failure_is_the_agents() -> None:
    handler = fallback([fails(UpstreamError("one", status=500)), fails(UpstreamError("two", status=429))])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        answered = await ask(rollout)
    assert (answered.status_code, answered.json()["error"]["message"]) == (429, "two")


async def test_a_stream_that_broke_in_the_middle_is_not_begun_again() -> None:
    asked: list[str] = []

    async def breaks(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise UpstreamError("broke")

    async def second(exchange: Exchange) -> None:
        asked.append(exchange.id)
        await exchange.respond("whole")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(fallback([breaks, second])) as rollout:
        with pytest.raises(Exception, match="incomplete"):
            await ask(rollout, stream=True)
    assert not asked
    assert rollout.trace[0].outcome == "refused"


async def test_what_is_no_providers_failure_is_not_passed_on() -> None:
    handler = fallback([fails(Refusal(418, "no")), says("never")])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        assert (await ask(rollout)).status_code == 418


def test_nobody_to_fall_back_to_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fallback([])
