"""Run service calls, such as calls of tools. Each call runs in its own task, in the nursery of its rollout.

Rules:

1. A call runs in the rollout's nursery, not in the task that requests it. The call is cancelled when its caller
   disconnects or the rollout ends. The caller of a cancelled call waits only until the call's task has ended.
2. A call is recorded in the trace and by the recorder before its caller gets the result.
3. An exception of a service is an answer: a `Refusal` is sent to the caller with its status, any other exception as a
   500. The trace contains the exception, and the rollout stays open. Two kinds of exceptions are also raised to the
   code that opened the rollout, like exceptions of a handler: an exception that is not an `Exception`, such as
   KeyboardInterrupt, and any exception of a function that takes the place of a model (`owned`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import trio

from .._canonical.content import Json
from .._canonical.given import read_back
from .._trace.turn import OutcomeKind, ServiceCall, ServiceKind, TurnError
from .._util.contexts import call_user
from .._util.failures import split_cancelled
from .._util.unicode import mended_text
from ..errors import GateBypassed, Refusal
from .outcome import words_of_fault
from .tools import json_of

if TYPE_CHECKING:
    from .rollout import Rollout
    from .rollout_state import RolloutState

log = logging.getLogger("triocept.rollout")
_CANCELLED = TurnError(type="Cancelled", message="the caller disconnected, or the rollout ended")


@dataclass(eq=False, kw_only=True)
class _Call:
    rollout: RolloutState
    id: str
    kind: ServiceKind
    name: str
    arguments: Any
    work: Callable[[], Awaitable[Any]]
    owned: bool
    """True if exceptions of the call are also raised to the code that opened the rollout."""
    scope: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))
    done: trio.Event = field(default_factory=trio.Event)
    outcome: OutcomeKind = "abandoned"
    result: Json = None
    error: TurnError | None = _CANCELLED
    refusal: Refusal | None = None
    """The refusal that the caller of the service gets. None if the caller gets the result."""


_current: ContextVar[_Call | None] = ContextVar("triocept_service", default=None)
"""The service call in which the current task runs; None outside of service calls."""


def current_rollout() -> Rollout:
    call = _current.get()
    assert call is not None
    return call.rollout.public


class ServiceCalls:
    """The running service calls of one rollout."""

    def __init__(self) -> None:
        self._calls: set[_Call] = set()
        self._nursery: trio.Nursery | None = None
        self._on_fatal: Callable[[BaseException], None] = lambda exc: None

    def open(self, nursery: trio.Nursery, on_fatal: Callable[[BaseException], None]) -> None:
        """Run all later calls in `nursery`. Call `on_fatal` with each error that must end the rollout."""
        self._nursery, self._on_fatal = nursery, on_fatal

    def current(self) -> str | None:
        """Return the id of the service call in which the current task runs.

        Return None if the current task runs in no service call of this rollout.
        """
        call = _current.get()
        return call.id if call in self._calls else None

    async def close(self) -> None:
        """Accept no more calls. Cancel the running calls and wait, shielded, until they are recorded."""
        self._nursery = None
        with trio.CancelScope(shield=True):
            for call in tuple(self._calls):
                call.scope.cancel()
            for call in tuple(self._calls):
                await call.done.wait()

    @trio.lowlevel.enable_ki_protection
    async def run(
        self,
        rollout: RolloutState,
        kind: ServiceKind,
        name: str,
        arguments: Any,
        work: Callable[[], Awaitable[Any]],
        *,
        owned: bool = False,
    ) -> Json:
        """Run `work` in a separate task, and return its result as decoded JSON.

        Raises:
            Refusal: `work` raised this refusal; or `work` raised another exception (500); or the rollout has ended.

        Cancellation: cancels `work`, and waits until `work` has ended.
        """
        if rollout.ending is not None or self._nursery is None:
            raise _over(rollout)
        call = _Call(
            rollout=rollout,
            id=f"s_{token_hex(8)}",
            kind=kind,
            name=name,
            arguments=arguments,
            work=work,
            owned=owned,
        )
        self._calls.add(call)
        self._nursery.start_soon(self._work, rollout, call)
        try:
            await call.done.wait()
        finally:
            call.scope.cancel()
            with trio.CancelScope(shield=True):
                await call.done.wait()
        if call.refusal is not None:
            raise call.refusal
        return call.result

    @trio.lowlevel.enable_ki_protection
    async def _work(self, rollout: RolloutState, call: _Call) -> None:
        """Run `call` in its own task, and record it. Only the cancel scope `call.scope` can cancel this task."""
        _current.set(call)
        started_at, start, turns = time.time(), trio.current_time(), len(rollout.trace)
        try:
            with call.scope:
                await self._attempt(rollout, call)
            call.refusal = call.refusal or (_over(rollout) if call.outcome == "abandoned" else None)
            await rollout.records.record_service(
                lambda number: ServiceCall(
                    id=call.id,
                    rollout=rollout.id,
                    run=rollout.trace.run,
                    number=number,
                    kind=call.kind,
                    name=call.name,
                    arguments=read_back(call.arguments),
                    outcome=call.outcome,
                    result=call.result,
                    error=call.error,
                    turns=turns,
                    started_at=started_at,
                    duration=trio.current_time() - start,
                    branch=rollout.trace.branch,
                )
            )
        except Exception as exc:  # an error of the recorder: a call that is not recorded is not released
            call.refusal = Refusal(
                500, f"the call could not be recorded: {type(exc).__name__}", should_retry=False
            )
            self._on_fatal(exc)
        finally:
            self._calls.discard(call)
            call.done.set()

    async def _attempt(self, rollout: RolloutState, call: _Call) -> None:
        """Run the call's `work`, and store its result, or the error that it raised."""
        try:
            call.result = json_of(await call_user(call.work), "the result")
            call.outcome, call.error = "answered", None
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if isinstance(error, Refusal):
                call.outcome, call.refusal = "refused" if error.status < 500 else "failed", error
                call.error = TurnError(type="Refusal", message=error.message, status=error.status)
            elif error is not None:
                self._fail(rollout, call, error)
            if cancelled is not None:
                raise cancelled from None

    def _fail(self, rollout: RolloutState, call: _Call, error: BaseException) -> None:
        """Store the error of a call, for the caller and the record.

        If the code that opened the rollout must get the error too, report it to this code.
        """
        name = type(error).__name__
        call.outcome = "failed"
        call.error = TurnError(type=name, message=mended_text(str(error)), status=500)
        words = words_of_fault(error) if call.owned else f"{name}: {error}"
        call.refusal = Refusal(500, words, should_retry=False)
        if not isinstance(error, Exception):
            self._on_fatal(error)
        elif call.owned:
            rollout.take_fault(error)
        elif isinstance(error, GateBypassed):
            log.warning("%s", error)
        else:
            what = call.kind if call.name == call.kind else f"{call.kind} {call.name}"
            log.warning("a call of the %s of rollout %s failed", what, rollout.id, exc_info=error)


def _over(rollout: RolloutState) -> Refusal:
    """Return the refusal of a service call that arrives after its rollout has ended.

    Each call needs a new `Refusal`, because the traceback of an exception grows with every raise.
    """
    if rollout.ending is None:
        return Refusal(503, f"rollout {rollout.id} is closed", should_retry=False)
    return Refusal(rollout.ending.status, rollout.ending.message, should_retry=False)
