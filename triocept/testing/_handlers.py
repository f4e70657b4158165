"""Adapters through which the endpoint's trio loop calls the functions of a sync test program.

These functions are `handler`, `embed` and `moderate`. Async functions run in the endpoint's loop. Each call of a plain
function runs in its own thread.

Rules:

1. Even if a plain function blocks for ever, it blocks neither the loop nor other functions nor the end of its rollout.
2. A function may raise after the loop has stopped waiting for its call (an abandoned call). The exception is then still
   a fault of the rollout. But if the rollout has ended, the exception is only logged.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from reprlib import repr as short
from typing import Any, Generic, TypeVar, cast

import trio

from .._endpoint import EndpointOptions
from .._rollout.embedding import check_embed
from .._rollout.exchange import Exchange
from .._rollout.functions import awaited
from .._rollout.handler import Handler, check_handler
from .._rollout.moderation import check_moderate
from .._rollout.options import RolloutOptions
from .._rollout.outcome import TOO_LATE
from .._rollout.rollout import Rollout, report_fault
from .._rollout.service_calls import current_rollout
from .._util.checks import named, takes
from ..errors import Refusal
from ..handlers.chaos import Chaos
from ._exchange import AnyHandler, SyncExchange, function_of, is_async

O = TypeVar("O", EndpointOptions, RolloutOptions)  # noqa: E741
T = TypeVar("T")

log = logging.getLogger("triocept.testing")


def in_loop(handler: AnyHandler, twin: Callable[[Exchange], SyncExchange]) -> Handler:
    """Return `handler` if it is async. Otherwise return an async handler that calls `handler` in a thread.

    Raise TypeError if `handler` is invalid.
    """
    if isinstance(handler, Chaos):
        return handler.around(lambda inner: in_loop(inner, twin))
    if inspect.isroutine(handler) and not takes(handler, 1):
        form = "a handler must be `def handler(exchange)`, async or not"
        raise TypeError(f"{form}; {named(handler)} does not take one argument, the exchange")
    function = function_of(handler)
    generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if is_async(handler) or function is None or generates:
        check_handler(cast(Handler, handler))
        return cast(Handler, handler)
    if not takes(handler, 1):
        text = f"a handler must take one argument, the exchange; {named(handler)} does not"
        raise TypeError(text)
    limiter = trio.CapacityLimiter(math.inf)

    async def in_thread(exchange: Exchange) -> None:
        given = twin(exchange)
        await _run(_Call(partial(_answer, handler, given), exchange.rollout, TOO_LATE), limiter)

    inner = handler.func if isinstance(handler, partial) else handler
    return update_wrapper(in_thread, inner) if inspect.isroutine(inner) else in_thread


def _answer(handler: AnyHandler, exchange: SyncExchange) -> None:
    """Call a plain handler. Raise TypeError if it returned a value, but did not answer the exchange."""
    returned = cast(Callable[[SyncExchange], object], handler)(exchange)
    if returned is not None and not exchange.settled:
        what = f"{named(handler)} returned {short(returned)}, which is not an answer: "
        what += "answer with `exchange.respond(…)`"
        if inspect.isawaitable(returned):
            if inspect.iscoroutine(returned):
                returned.close()
            what = f"{named(handler)} is a plain function, and returned an awaitable: "
            what += "a handler that awaits must be `async def handler(exchange)`"
        raise TypeError(what)


class _Call(Generic[T]):
    """A call of a function in a thread.

    The function's error is reported once, even if the caller has abandoned the call.

    Args:
        function: the function.
        rollout: the rollout that the call belongs to.
        answers: types of exceptions that are not faults if an abandoned call raises them.
    """

    def __init__(
        self, function: Callable[[], T], rollout: Rollout, answers: tuple[type[BaseException], ...]
    ) -> None:
        self._function = function
        self._rollout = rollout
        self._answers = answers
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._abandoned = False
        self._error: BaseException | None = None

    def abandon(self) -> None:
        """Mark the call as abandoned, because trio has stopped waiting for it.

        From now on, this object reports an error of the call, because trio no longer raises it.
        """
        with self._lock:
            self._abandoned = True
        if self._error is not None:
            self._report(self._error)

    def __call__(self) -> T:
        try:
            return self._function()
        except BaseException as exc:
            with self._lock:
                if not self._abandoned:
                    self._error = exc
            if self._error is None:
                self._report(exc)
            raise

    def _report(self, error: BaseException) -> None:
        if isinstance(error, self._answers):
            return

        def report() -> None:
            if not report_fault(self._rollout, error):
                log.warning("a handler or function failed after the end of its call", exc_info=error)

        try:
            self._token.run_sync_soon(report)
        except trio.RunFinishedError:  # the endpoint has ended
            log.warning("a handler or function failed after the end of its endpoint", exc_info=error)


async def _run(call: _Call[T], limiter: trio.CapacityLimiter) -> T:
    try:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
    except trio.Cancelled:
        call.abandon()
        raise


def with_threads(options: O) -> O:
    """Return `options` with `embed` and `moderate` as async functions.

    Raise TypeError if one of the two functions is invalid.
    """
    changed: dict[str, Any] = {**options}
    for name, check in (("embed", check_embed), ("moderate", check_moderate)):
        function = changed.get(name)
        if function is not None:
            check(function)
            changed[name] = function if is_async(function) else _texts_in_thread(function)
    return cast(O, changed)


def _texts_in_thread(function: Callable[[Sequence[str]], Any]) -> Callable[[Sequence[str]], Any]:
    limiter = trio.CapacityLimiter(math.inf)

    async def in_thread(texts: Sequence[str]) -> Any:
        return await awaited(
            await _run(_Call(partial(function, texts), current_rollout(), (Refusal,)), limiter)
        )

    return update_wrapper(in_thread, function) if inspect.isroutine(function) else in_thread
