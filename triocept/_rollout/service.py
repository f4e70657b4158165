"""A handler at work on a rollout's exchanges: a task each.

Rules:

1. Nothing raised in a handler vanishes: the agent gets an error in its dialect, and whoever runs the service gets
   the exception. A `Refusal` and an `UpstreamError` are answers.
2. A handler that returns without an outcome has failed: `Unanswered`.
3. An agent that hangs up cancels its handler, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
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

_MOST_IDLE = 128
"""Tasks that wait for an exchange."""


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
    limit = trio.Semaphore(concurrency) if concurrency is not None else None
    async with trio.open_nursery() as nursery:
        workers = _Workers(nursery, handler, on_error, limit)
        arrivals = rollout._arrivals
        if limit is None and not arrivals.taken_at_once:
            await arrivals.hand_all_to(workers.take)
        else:
            while True:
                if limit is not None:
                    await limit.acquire()
                exchange = await arrivals.next()
                if exchange is None:
                    break
                workers.take(exchange)
        workers.close()
    raise_all(workers.errors)


class _Workers:
    """The tasks in which a handler runs: one for each exchange that is being handled, and some that wait for the next.

    A new task with a scope of its own for each exchange would take an eighth of the time of a whole call. Of what a
    task of its own would give, nothing is missing: the handler runs in a copy of the context of whoever opened the
    service, and an agent that hangs up cancels its own handler alone.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        handler: Handler,
        on_error: Callable[[], None],
        limit: trio.Semaphore | None,
    ) -> None:
        self.errors: list[BaseException] = []
        """What the handlers raised. They are kept, and not raised in the nursery, which would wrap them in a group."""
        self._nursery = nursery
        self._handler = handler
        self._on_error = on_error
        self._limit = limit
        self._context = copy_context()
        self._waiting: deque[Exchange] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        self._closed = False

    def take(self, exchange: Exchange) -> None:
        """Handle this exchange."""
        self._waiting.append(exchange)
        if self._idle:
            self._idle.unpark()
        else:
            self._context.run(self._nursery.start_soon, self._work)

    def close(self) -> None:
        """No exchange comes any more: who has none ends."""
        self._closed = True
        self._idle.unpark_all()

    async def _work(self) -> None:
        """Handle one exchange after the other."""
        task = trio.lowlevel.current_task()
        while not self._has_too_many():
            with trio.CancelScope() as scope:  # until an agent hangs up
                while not scope.cancel_called and not self._has_too_many():
                    if not self._waiting:
                        await self._idle.park()
                        continue
                    await self._handle(self._waiting.popleft(), scope)
                    task.context = self._context.copy()  # in force from the next turn of the event loop on
                    if self._waiting:
                        await trio.lowlevel.checkpoint()

    def _has_too_many(self) -> bool:
        return not self._waiting and (self._closed or len(self._idle) >= _MOST_IDLE)

    async def _handle(self, exchange: Exchange, scope: trio.CancelScope) -> None:
        exchange._handler_scope = scope
        try:
            if not exchange.settled:
                await _answer(self._handler, exchange, self._on_error)
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                self.errors.append(error)
                self._nursery.cancel_scope.cancel()
            if cancelled is not None:
                raise cancelled from None
        finally:
            exchange._handler_scope = None
            if self._limit is not None:
                self._limit.release()


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
        exc.__traceback__ = (
            None  # it is an answer, and kept as one: not so the frames, and all that they hold
        )
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
