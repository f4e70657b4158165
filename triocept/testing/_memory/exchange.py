"""A single exchange without an endpoint, which a test can pass to a handler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Unpack

import trio

from ..._rollout.addresses import DialectName
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.options import RolloutOptions
from ..._rollout.outcome import judge
from ..._rollout.rollout import Rollout
from ..._util.contexts import protected_context
from ..._util.failures import split_cancelled
from ...dialects import Dialect
from ...errors import RolloutClosed, Unanswered, UpstreamError
from .agent import Asked, open_memory_agent
from .call import MemoryCall
from .wire import response_in


@protected_context
async def open_exchange(
    asked: Asked = "hello",
    *,
    dialect: DialectName | str | Dialect = "openai_chat",
    stream: bool | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Unpack[RolloutOptions],
) -> AsyncIterator[Exchange]:
    """Open one exchange without an endpoint, so that a test can pass the exchange to a handler.

    An agent in memory has sent the request of this exchange, and waits for the answer. After the answer,
    `exchange.turn` contains the outcome, the response, the error, the increments with their times, and the bytes that
    were sent.

    Args:
        asked: a text, messages, a `Request`, or a document of the dialect, which is sent unchanged.
        dialect: dialect of the agent.
        stream: True to request a stream. None means the value in the `Request` or the document; if neither contains a
            value, False.
        headers: additional headers of the agent's request.
        options: options of the exchange's rollout; see `Endpoint.open_rollout`. `record_increments` and `record_wire`
            default to True.

    Closing: if the block raises an exception, the exchange gets the same outcome as after an exception of a handler.
        The exception propagates unchanged.

    Raises:
        Unanswered: the block has ended, but the exchange has no outcome.
        UpstreamError: the request was refused before it became an exchange; the error contains the status and the text
            of the refusal.
        TypeError, ValueError, DialectError: an argument is invalid.
    """
    options.setdefault("record_increments", True)
    options.setdefault("record_wire", True)
    async with open_memory_agent(dialect=dialect, **options) as agent:
        call = agent.start(asked, stream=stream, headers=headers)
        exchange = await _exchange_of(agent.rollout, call)
        if exchange is None:
            await response_in(call, agent.dialect)
            raise RolloutClosed(f"rollout {agent.rollout.id} has ended")
        try:
            yield exchange
            if not exchange.settled:
                raise Unanswered(f"the block has ended, but it has not answered {exchange!r}")
        except BaseException as exc:
            core, (_, error) = core_of(exchange), split_cancelled(exc)  # a cancellation does not settle it
            if error is not None and (outcome := next(filter(None, judge(error, core)), None)) is not None:
                await core.settle_by(outcome)
            raise


async def _exchange_of(rollout: Rollout, call: MemoryCall) -> Exchange | None:
    """Wait for the exchange of `call` and return it; return None if the call was refused before it had an exchange."""
    found: Exchange | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            with suppress(UpstreamError):
                await call.wait_head()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        found = await anext(aiter(rollout), None)
        nursery.cancel_scope.cancel()
    return found
