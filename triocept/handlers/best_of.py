"""`best_of`: a handler that lets another handler answer several times, and sends the agent the best answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from .._canonical.response import Response
from .._rollout.draft import OpenDraft, open_draft
from .._rollout.exchange import Exchange
from .._rollout.functions import awaited, check_function
from .._rollout.handler import Handler, awaiting, check_handler
from .._util.checks import check_count, described, named
from .._util.failures import keeping_each, raise_all
from ..errors import Refusal, UpstreamError


def best_of(n: int, handler: Handler, judge: Callable[[Sequence[Response]], int | Awaitable[int]]) -> Handler:
    """Return a handler that calls `handler` `n` times and sends the best answer: `best_of(4, model, judge)`.

    The `n` calls run at the same time. The answers that the agent does not get are recorded in `turn.drafts`. The usage
    of these answers counts toward limits, and is part of the trace's sums and costs. A failed answer is not passed to
    `judge`.

    Args:
        n: number of answers; at least 2.
        handler: the handler that answers.
        judge: called with the answers, in the order of their calls; async or not. It returns the index of the best
            answer.

    Raises:
        TypeError, ValueError: an argument is invalid. These errors are also raised while an exchange is answered, if
            `judge` did not return an index of an answer.
        UpstreamError, Refusal: every call of `handler` failed while an exchange was answered. This is the first error
            that a call raised.
    """
    check_count("n", n, least=2)
    check_handler(handler)
    check_function("the judge of best_of", judge, "a function of a list of Responses")
    inner = awaiting(handler)

    async def best(exchange: Exchange) -> None:
        drafts: list[OpenDraft | None] = [None] * n
        failed: list[Exception] = []

        async def read(index: int) -> None:
            try:
                async with open_draft(exchange, inner, counted=index > 0) as draft:
                    if await draft.read() is not None:
                        drafts[index] = draft
            except (Refusal, UpstreamError) as exc:
                failed.append(exc)

        errors: list[BaseException] = []
        with keeping_each(errors):
            async with trio.open_nursery() as nursery:
                for index in range(n):
                    nursery.start_soon(read, index)
        raise_all(errors)
        if exchange.settled:
            return
        read_ones = [draft for draft in drafts if draft is not None]
        if not read_ones:
            raise (
                failed[0]
                if failed
                else TypeError("best_of cannot judge the answers, because all of them are raw bytes")
            )
        answers = [draft.response for draft in read_ones if draft.response is not None]
        place = await awaited(judge(answers))
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(answers):
            most = len(answers) - 1
            raise TypeError(
                f"the judge {named(judge)} must return an index from 0 to {most}, not {described(place)}"
            )
        for draft in read_ones:
            if draft is not read_ones[place]:
                draft.keep("best_of", counted=True)
        read_ones[place].adopt()
        read_ones[place].use()
        await exchange.respond(answers[place])

    return best
