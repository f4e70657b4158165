"""`stop_when`: a handler that wraps another handler, and stops the rollout after an answer that meets a condition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from .._canonical.response import Response
from .._rollout.draft import open_draft, pass_on
from .._rollout.exchange import Exchange, core_of
from .._rollout.functions import awaited, check_function
from .._rollout.handler import Handler, awaiting, check_handler
from .._util.checks import check_bool, with_known_keywords
from ..errors import LimitReached


@with_known_keywords
def stop_when(
    handler: Handler,
    predicate: Callable[[Response], object | Awaitable[object]],
    *,
    deliver: bool = True,
) -> Handler:
    """Return a handler that stops its rollout after certain answers: `stop_when(model, lambda r: "DONE" in r.text)`.

    Args:
        handler: the handler that answers.
        predicate: called with each complete answer; may be async. A true result stops the rollout. If the result is a
            text, this text is the reason of the stop.
        deliver: if True, the agent gets each part of the answer when it arrives, and the whole answer even if the
            rollout stops. The agent's next call is then refused. If `deliver` is False, no part of the answer is sent
            until `predicate` has returned. If the rollout stops, the agent gets a 404 in place of the answer, so that
            the agent runs no tool.

    Raises:
        TypeError: `handler` is not a handler, or `predicate` is not a function of one argument.
        LimitReached: `deliver` is False, and an answer stops the rollout.
    """
    check_handler(handler)
    check_function("the predicate of stop_when", predicate, "a function of one Response")
    check_bool("deliver", deliver)
    inner = awaiting(handler)

    async def reason_of(response: Response) -> str | None:
        found = await awaited(predicate(response))
        return (
            found
            if isinstance(found, str) and found
            else "the condition of stop_when is met"
            if found
            else None
        )

    async def finish(exchange: Exchange, response: Response) -> None:
        if (reason := await reason_of(response)) is not None:
            core_of(exchange).rollout.finish(LimitReached(reason))

    async def watched(exchange: Exchange) -> None:
        async with open_draft(exchange, inner) as draft:
            if deliver:
                await pass_on(exchange, draft, why="stop_when", before_end=partial(finish, exchange))
                return
            whole = await draft.read()
            draft.adopt()
            if whole is None:
                await draft.pass_raw()
            elif (reason := await reason_of(whole)) is None:
                draft.use()
                await exchange.respond(whole)
            else:
                draft.keep("stop_when", counted=True)
                await exchange.rollout.stop(reason)

    return watched
