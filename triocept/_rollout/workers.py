"""Workers: tasks that run a rollout's handler, each on one exchange at a time.

Rules:

1. No exception of a handler is lost. The exception is reported immediately to the code that runs the workers: before
   the agent gets its error response, and before the exception can lead to a cancellation. The module `outcome` defines
   which exceptions of a handler are not faults.
2. If a handler returns and its exchange has no outcome, the handler has failed with the error `Unanswered`.
3. If an exchange is settled from outside (by a disconnect, the end of its rollout or another handler's fault), only the
   handler of this exchange is cancelled.
4. A handler that has failed is not called again. If its rollout stays open (`on_fault="stay"`), every later call gets
   the same outcome as the exchange in which the handler failed.
5. If the rollout does not stay open, open exchanges are immediately refused with the same status, and their handlers
   are cancelled. Later calls are also refused. So no agent waits for an answer that will not come, even if the body of
   the rollout's block takes long to end. If the fault ended only a call of `serve`, model calls are refused until a
   task takes exchanges again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from reprlib import repr as short
from typing import TYPE_CHECKING

import trio

from .._util.contexts import call_user
from .._util.failures import run_each, split_cancelled
from ..errors import Unanswered
from .exchange import Exchange
from .exchange_state import ExchangeState, Worker
from .handler import Handler
from .outcome import judge

if TYPE_CHECKING:
    from .calls import Arrivals
    from .rollout_state import RolloutState, Step

__all__ = ["Handler", "run_workers"]

_MOST_IDLE = 128
"""Maximum idle tasks that wait for an exchange."""


@trio.lowlevel.enable_ki_protection
async def run_workers(
    rollout: RolloutState,
    handler: Handler,
    concurrency: int | None,
    on_error: Callable[[BaseException], None],
    outlives: Callable[[BaseException], bool] | None = None,
) -> None:
    """Call `handler` with every exchange of `rollout`, until the rollout ends.

    The function also returns after the handler has raised an error for which `outlives` returns False.

    A handler's exceptions are not raised here. Each exception is passed to `on_error` immediately, before the agent
    gets the error response. The reason: an agent in the same program may fail because of that response, and the
    handler's exception must then be known as the cause. The exception is passed on before anything is cancelled, so
    that no cancellation can hide it.

    Args:
        rollout: the rollout whose exchanges are handled.
        handler: the handler.
        concurrency: maximum exchanges that are handled at the same time. None means no limit.
        on_error: called with each exception of the handler.
        outlives: returns True if the rollout stays open after the error in its argument. If None, an error ends
            `run_workers`, but not the rollout.
    """
    before, rollout.handler = rollout.handler, handler
    limit = trio.Semaphore(concurrency) if concurrency is not None else None
    workers: _Workers | None = None
    try:
        async with trio.open_nursery() as nursery:
            workers = _Workers(nursery, rollout, handler, on_error, outlives, limit)
            try:
                with workers.taking:
                    await _take(rollout.arrivals, workers, limit)
            finally:
                await workers.close()
    finally:
        if workers is not None:
            rollout.arrivals.error_raised(workers)
        rollout.handler = before


async def _take(arrivals: Arrivals, workers: _Workers, limit: trio.Semaphore | None) -> None:
    """Take exchanges from the queue and pass them to the workers, until the queue ends."""
    if limit is None and not arrivals.taken_at_once:
        await arrivals.hand_all_to(workers)
        return
    while True:
        if limit is not None:
            await limit.acquire()
        exchange = await arrivals.next(workers)
        if exchange is None:
            return
        workers.take(exchange)


class _Workers:
    """The tasks that run a handler: a task for each exchange in progress, and some idle tasks.

    Tasks are reused, because starting a new task with its own scope takes an eighth of the time of a whole call. A
    handler in a reused task has the same context as in a new task: a copy of the context of the code that started the
    workers. If an agent disconnects, only the handler of its exchange is cancelled.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        rollout: RolloutState,
        handler: Handler,
        on_error: Callable[[BaseException], None],
        outlives: Callable[[BaseException], bool] | None,
        limit: trio.Semaphore | None,
    ) -> None:
        self._nursery = nursery
        self._rollout = rollout
        self._handler: Callable[[Exchange], Awaitable[object]] = handler
        self._on_error = on_error
        self._outlives = outlives
        self._fault: BaseException | None = None
        """The exception with which the handler has failed; None if it has not failed."""
        self._refusals: list[Step] | None = None
        """Functions that record the exchanges that were refused because of a fault. None if no fault has occurred, or
        if the rollout stays open after it."""
        self._limit = limit
        self._context = copy_context()
        self.taking: trio.CancelScope = trio.CancelScope()
        """Cancel scope around the code that takes exchanges from the queue."""
        self._taken: set[ExchangeState] = set()
        """Exchanges that wait for a task of this object, or for which a task runs the handler."""
        self._waiting: deque[ExchangeState] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        self._closed = False
        rollout.arrivals.enter(self)

    def take(self, exchange: ExchangeState) -> None:
        """Let one of the tasks run the handler on this exchange."""
        if self._refusals is not None:  # a handler had failed before this task took the exchange
            self._rollout.arrivals.put_back(exchange)
            return
        self._taken.add(exchange)
        self._waiting.append(exchange)
        if self._idle:
            self._idle.unpark()
        else:
            self._context.run(self._nursery.start_soon, self._work)

    async def close(self) -> None:
        """Accept no more exchanges, and let the idle tasks end. Cancellation has no effect."""
        self._closed = True
        self._idle.unpark_all()
        if steps := self._rollout.leave(self):
            with trio.CancelScope(shield=True):
                for error in await run_each(*steps):
                    self._on_error(error)

    @trio.lowlevel.enable_ki_protection
    async def _work(self) -> None:
        """Run one task: call the handler with one exchange after another, until `close` is called."""
        task = trio.lowlevel.current_task()
        while True:
            with trio.CancelScope() as scope:  # cancelled when the exchange is settled from outside
                worker = Worker(task, scope)
                while not scope.cancel_called:
                    if self._waiting:
                        try:
                            await trio.lowlevel.checkpoint_if_cancelled()
                        except trio.Cancelled:
                            # The handler has not received the waiting exchanges, so another service may answer them.
                            while self._waiting:
                                exchange = self._waiting.popleft()
                                self._taken.discard(exchange)
                                await self._rollout.give_back(exchange)
                            raise
                        await self._handle(self._waiting.popleft(), worker)
                        # The new context takes effect from the next cycle of the event loop on.
                        task.context = self._context.copy()
                        if self._waiting:
                            await trio.lowlevel.checkpoint()
                    elif self._closed or len(self._idle) >= _MOST_IDLE:
                        return
                    else:
                        await self._idle.park()

    async def _handle(self, exchange: ExchangeState, worker: Worker) -> None:
        """Run the handler on an exchange. If the handler does not settle the exchange, settle it as failed."""
        exchange.worker = worker
        self._rollout.at_work.add(exchange)
        try:
            if exchange.outcome is None and self._fault is not None:
                await self._settle_by(exchange, self._fault)
            elif exchange.outcome is None:
                assert exchange.facade is not None
                returned = await call_user(self._handler, exchange.facade)
                if exchange.outcome is None:
                    raise Unanswered(_why_unanswered(exchange, returned))
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                await self._settle_by(exchange, error)
            if cancelled is not None:
                await self._rollout.let_go(exchange)
                raise cancelled from None
        finally:
            cancelled = error = None  # they reference this frame, and through it the exchange
            exchange.worker = None
            self._taken.discard(exchange)
            self._rollout.at_work.discard(exchange)
            self._rollout.rested.notify_all()
            if self._limit is not None:
                self._limit.release()

    async def _settle_by(self, exchange: ExchangeState, error: BaseException) -> None:
        """Settle an exchange whose handler has raised `error`.

        If the error is a fault, report the error to the code that runs the workers.
        """
        answer, fault = judge(error, exchange)
        if fault is not None:
            self._on_error(fault)
            _note(fault, exchange)
            self._fail(fault, exchange)
        try:
            if outcome := fault or answer:
                await exchange.settle_by(outcome)
        except BaseException as exc:
            cancelled, failure = split_cancelled(exc)
            if failure is not None:  # an error of the recorder
                fault = failure
                self._on_error(failure)
                self._fail(failure, exchange)
            if cancelled is not None:
                raise cancelled from None
        finally:
            if fault is not None:
                await self._end_by_fault()
        if answer is not None:
            answer.__traceback__ = None  # the exception is kept, but not its frames and their references

    def _fail(self, fault: BaseException, exchange: ExchangeState) -> None:
        """Stop calling the handler because of `fault`. Refuse the other exchanges, unless the rollout stays open."""
        self._fault = self._fault or fault
        rollout, outlives = self._rollout, self._outlives
        if self._refusals is not None or (outlives is not None and outlives(fault)):
            return
        if outlives is None:
            self.taking.cancel()  # at once, because later calls belong to another `serve`
            others = [other for other in self._taken if other is not exchange]
            self._refusals = rollout.fail_taken(fault, others, self)
        else:
            self._refusals = rollout.fail_open(fault, exchange)

    async def _end_by_fault(self) -> None:
        """Cancel the running handlers, and record the refused exchanges. Do nothing if the rollout stays open."""
        if self._refusals is None:
            return
        self._nursery.cancel_scope.cancel()
        steps, self._refusals = self._refusals, []
        with trio.CancelScope(shield=True):
            for error in await run_each(*steps):
                self._on_error(error)


_IN_HANDLER = "in the handler of rollout "


def _note(fault: BaseException, exchange: ExchangeState) -> None:
    """Add a note that names the rollout and the exchange to `fault`. Do nothing if it has such a note."""
    notes = getattr(fault, "__notes__", ())
    if isinstance(fault, Unanswered) or any(str(note).startswith(_IN_HANDLER) for note in notes):
        return
    with suppress(TypeError):  # a `__notes__` of the program's own that is not a list
        fault.add_note(f"{_IN_HANDLER}{exchange.rollout.id}, exchange {exchange.id}")


def _why_unanswered(exchange: ExchangeState, returned: object) -> str:
    what = "" if returned is None else f" {short(returned)}"
    if returned is None:
        hint = "call `await exchange.respond(…)`, for example"
    elif isinstance(returned, BaseException):
        hint = "write `raise`, because `return` gives no answer"
    else:
        hint = "a handler's return value is not an answer: send one with `await exchange.respond(…)`"
    return f"the handler returned{what}, but it has not answered {exchange!r}: {hint}"
