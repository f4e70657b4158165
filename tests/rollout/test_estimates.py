"""The tokens of a prompt are estimated while the agent waits for the model, not between the answer and the agent."""

import pytest

from tests.asking import ask
from triocept import Exchange, Request, Response, Text, Usage, serve_endpoint
from triocept._canonical.tokens import Estimator, estimate_input_tokens


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order."""
    order, count = [], Estimator.input_tokens

    def spy(estimator: Estimator, request: Request) -> int:
        order.append("estimated")
        return count(estimator, request)

    monkeypatch.setattr(Estimator, "input_tokens", spy)
    return order


async def test_after_an_answer_without_usage_each_prompt_is_estimated_once_before_its_handler_begins(
    done: list[str],
) -> None:
    async def answer(exchange: Exchange) -> None:
        done.append("handler")
        await exchange.respond("hi")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        for text in ("one", "and two", "and three more"):
            await ask(rollout, text)
    assert done == ["handler", "estimated", *2 * ["estimated", "handler"]]
    usages = [turn.response.usage for turn in rollout.trace if turn.response]
    assert [usage and usage.input_tokens for usage in usages] == [
        estimate_input_tokens(turn.request) for turn in rollout.trace
    ]


async def test_no_prompt_is_estimated_if_its_answer_has_usage(done: list[str]) -> None:
    async def answer(exchange: Exchange) -> None:
        done.append("handler")
        await exchange.respond(Response(content=(Text("hi"),), usage=Usage(input_tokens=7, output_tokens=1)))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        for _ in range(2):
            await ask(rollout)
    assert done == ["handler", "handler"]
