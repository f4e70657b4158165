"""A handler at work on a rollout's exchanges: a task each.

Rules:

1. Nothing raised in a handler vanishes: the agent gets an error in its dialect, and whoever runs the service gets
   the exception. A `Refusal` and an `UpstreamError` are answers.
2. A handler that returns without an outcome has failed: `Unanswered`.
3. An agent that hangs up cancels its handler, and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

from ..errors import ExchangeAbandoned, Refusal, Unanswered, UpstreamError
from .exchange import Exchange
from .outcome import Abandoned

if TYPE_CHECKING:
    from .rollout import Rollout

__all__ = ["Handler", "raise_all", "run_service", "split_cancelled"]

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""Whatever answers an exchange: a function, an upstream, a script, a replay."""


async def run_service(
    rollout: Rollout,
    handler: Handler,
    concurrency: int | None,
    on_error: Callable[[], None] = lambda: None,
) -> None:
    """Hand every exchange of `rollout` to `handler`, until the rollout ends.

    `on_error` is called the moment a handler has failed, before its agent can see that: an agent in the same program
    that fails in turn must not be taken for the cause.

    Raises:
        BaseException: what a handler raised, bare; several at once as a group.
    """
    errors: list[BaseException] = []
    limit = trio.Semaphore(concurrency) if concurrency is not None else None
    async with trio.open_nursery() as nursery:

        def failed(exc: BaseException) -> None:
            errors.append(exc)
            nursery.cancel_scope.cancel()

        def take(exchange: Exchange) -> None:
            exchange._handler_scope = trio.CancelScope()
            nursery.start_soon(_handle, handler, exchange, exchange._handler_scope, failed, on_error, limit)

        arrivals = rollout._arrivals
        if limit is None and not arrivals.taken_at_once:
            await arrivals.hand_all_to(take)
        else:
            while True:
                if limit is not None:
                    await limit.acquire()
                exchange = await arrivals.next()
                if exchange is None:
                    break
                take(exchange)
    raise_all(errors)


async def _handle(
    handler: Handler,
    exchange: Exchange,
    scope: trio.CancelScope,
    failed: Callable[[BaseException], None],
    on_error: Callable[[], None],
    limit: trio.Semaphore | None,
) -> None:
    try:
        with scope:
            await _answer(handler, exchange, on_error)
    except BaseException as exc:
        cancelled, error = split_cancelled(exc)
        if error is not None:
            failed(error)  # not raised here: the nursery would wrap it in a group
        if cancelled is not None:
            raise cancelled from None
    finally:
        if limit is not None:
            limit.release()


async def _answer(handler: Handler, exchange: Exchange, on_error: Callable[[], None]) -> None:
    """Run the handler; whatever it does, the exchange has an outcome afterwards (unless it is cancelled)."""
    try:
        await handler(exchange)
        if not exchange.settled:
            raise Unanswered(f"the handler returned, and {exchange!r} has no outcome")
    except (Refusal, UpstreamError) as exc:
        await exchange._settle_by(exc)
        if exchange._cause is not exc:
            raise
    except ExchangeAbandoned:
        if not isinstance(exchange._outcome, Abandoned):
            raise
    except trio.Cancelled:
        raise
    except BaseException as exc:
        on_error()
        await exchange._settle_by(exc)
        raise


def split_cancelled(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What of `exc` is cancellation, and what is not: either may be None. A group is split, not unpacked."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)
    return (exc, None) if isinstance(exc, trio.Cancelled) else (None, exc)


def raise_all(errors: list[BaseException]) -> None:
    """Raise what is in `errors`: one bare, several as a group, none not at all."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("several tasks of one rollout failed", errors)
