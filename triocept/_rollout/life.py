"""Open, run and close a rollout: its handler and its service calls run while the body of its block runs.

First the body ends, then the service calls, then the handler. So the handler answers calls until the body has ended.
After that, the rollout refuses the waiting calls and seals its trace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from .._util.contexts import protected_context
from .._util.failures import keeping, keeping_each, raise_all, run_each, split_cancelled
from .._util.loop_watch import waiting_place
from ..errors import Unanswered
from .calls import GIVEN_UP
from .event_loop import check_loop
from .exchange import Exchange
from .mistakes import warn_of_unused_replies
from .workers import Handler, run_workers

if TYPE_CHECKING:
    from .rollout import Rollout
    from .rollout_state import RolloutState, Step


@protected_context
async def open_rollout(
    rollout: RolloutState, handler: Handler | None, concurrency: int | None
) -> AsyncIterator[Rollout]:
    """Open `rollout`, run it while the body of the `async with` block runs, and close it.

    If `handler` is not None, it answers the rollout's calls.

    An exception of the body is raised unwrapped. An exception of the handler cancels the body, and is also raised
    unwrapped. If both raise, a group of both exceptions is raised.
    """
    check_loop("open_rollout")
    rollout.registry.add(rollout)
    try:
        await rollout.records.open(rollout.opening)
    except BaseException:
        rollout.registry.discard(rollout)
        raise
    if rollout.collector is not None:
        rollout.collector.add(rollout.trace)
    errors: list[BaseException] = []
    body = trio.CancelScope()
    service = trio.CancelScope(shield=True)

    def fail(error: BaseException) -> None:
        if not any(error is known for known in rollout.faults):
            rollout.faults.append(error)
        errors.append(error)
        if rollout.outlives(error):
            return
        body.cancel()
        if handler is None and rollout.fail is not None:  # without a handler, the body answers
            settle(rollout.fail_open(error))

    def settle(steps: Sequence[Step]) -> None:
        if steps:
            nursery.start_soon(settle_each, steps)

    @trio.lowlevel.enable_ki_protection
    async def settle_each(steps: Sequence[Step]) -> None:
        with trio.CancelScope(shield=True):
            for error in await run_each(*steps):
                fail(error)

    @trio.lowlevel.enable_ki_protection
    async def serve(handler: Handler) -> None:
        with service:  # shielded: answers until the body has ended, even if the body is cancelled
            try:
                await run_workers(rollout, handler, concurrency, fail, rollout.outlives)
            except BaseException as exc:  # such as a KeyboardInterrupt that was raised in the handler
                cancelled, error = split_cancelled(exc)
                if error is not None:
                    fail(error)
                    settle(rollout.fail_open(error))
                if cancelled is not None:
                    raise cancelled from None

    @trio.lowlevel.enable_ki_protection
    async def watch() -> None:
        """Let the rollout's calls fail if no task takes calls for `GIVEN_UP` seconds and `on_fault` is `stay`."""
        place = partial(waiting_place, task)
        untaken = await rollout.arrivals.watch(rollout.id, lambda: rollout.calls.open, place)
        if untaken and rollout.on_fault == "stay":
            await serve(_fail_untaken)

    task = trio.lowlevel.current_task()
    within = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def watch_parents() -> None:
        """Let the open calls of this child rollout fail if a fault of its parent cancels the body that answers them."""
        with within:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if not within.cancel_called and (fault := rollout.fault_within()) is not None:
                    settle(rollout.fail_open(fault))
                raise

    timer = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def time_out(seconds: float) -> None:
        with timer:
            await rollout.time_out(seconds)

    with keeping_each(errors):
        async with trio.open_nursery() as nursery:
            rollout.services.calls.open(nursery, fail)
            if handler is not None:
                rollout.handler = handler  # from the first line of the body on
                nursery.start_soon(serve, handler)
            else:
                nursery.start_soon(watch)
                if rollout.parent is not None:
                    nursery.start_soon(watch_parents)
            rollout.fail = rollout.report = fail
            if rollout.budget is not None and (seconds := rollout.budget.limits.seconds) is not None:
                nursery.start_soon(time_out, seconds)
            with keeping(errors), body:
                yield rollout.public
            rollout.fail = None
            raised = any(split_cancelled(error)[1] is not None for error in errors)
            rollout.records.writer.end("raised" if raised else "cancelled" if errors else "body")
            within.cancel()
            timer.cancel()
            errors += await run_each(rollout.services.calls.close)
            service.cancel()
            errors += await run_each(rollout.close)
    logs_unused = (
        rollout.logs_unused_replies and rollout.collector is None
    )  # a fleet logs no line for each rollout
    if not errors and rollout.trace.stopped is None and logs_unused:
        warn_of_unused_replies(rollout)
    rollout.report = None
    raise_all(errors)


async def _fail_untaken(exchange: Exchange) -> None:
    raise Unanswered(
        f"no task took this call within {GIVEN_UP:g} s: give the model replies or a handler, or take its calls "
        "(with `next`, or a `for` loop) while the application runs in another thread or task"
    )
