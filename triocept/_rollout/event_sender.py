"""Create the events of one rollout, and pass them to the program's function `on_event`.

Rules:

1. `on_event` is called in the task that caused the event, and must return quickly: a slow function blocks the event
   loop.
2. If `on_event` raises an `Exception`, the exception is logged, once for each type, and no exchange is affected. Any
   other exception, such as KeyboardInterrupt, is raised to the code that opened the rollout, like an exception of a
   handler. `on_event` is then not called again for this rollout.
3. If the endpoint has neither `on_event` nor a live view, neither an `EventSender` nor events are created.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import msgspec
import trio
from trio.lowlevel import disable_ki_protection

from .._canonical.content import ToolCall
from .._trace.conversation import Conversation
from .._trace.entries import AgentStart, Entry, Intent, Opening
from .._trace.rollout_events import (
    AgentStarted,
    CallArrived,
    DecisionAsked,
    DecisionMade,
    IncrementSent,
    RolloutEnded,
    RolloutEvent,
    RolloutOpened,
    Scored,
    TurnLost,
    TurnSettled,
)
from .._trace.turn import Decided, Turn
from .._util.checks import named
from .._util.secrets import without_keys
from .functions import check_function
from .increment_sender import IncrementSender, redacted
from .questions import Questions

if TYPE_CHECKING:
    from .._trace.trace import Trace
    from .rollout_state import RolloutState

log = logging.getLogger("triocept.rollout")

OnEvent: TypeAlias = Callable[[RolloutEvent], object]
"""A function that is called with one event. The function must not be async; its result is ignored."""


def check_on_event(function: object) -> None:
    """Raise TypeError if `function` is async, or cannot be called with one event."""
    form = "a function of one event that is not async"
    check_function("on_event", function, form)
    called = getattr(type(function), "__call__", None)  # noqa: B004 - the method itself
    for each in (function, called):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            hint = "for async work, put the event into a memory channel (`send_nowait`) that a task reads"
            raise TypeError(f"on_event must be {form}; {named(function)} is async: {hint}")


class Viewer(Protocol):
    """The live view of an endpoint, which shows events.

    The methods of a viewer must raise no exceptions, and must return quickly.
    """

    questions: Questions

    def opened(self, trace: Trace) -> None:
        """Add the trace of a new rollout."""

    def take(self, event: RolloutEvent) -> None:
        """Receive an event of a rollout."""


@final
class EventReceiver:
    """Passes the events of all rollouts of an endpoint to the live view and to the program's function `on_event`."""

    def __init__(self, function: OnEvent | None, view: Viewer | None = None) -> None:
        self._function = function
        self.view = view
        self._logged: set[type[Exception]] = set()

    def call(self, event: RolloutEvent) -> BaseException | None:
        """Pass `event` to the live view and to the program's function.

        If the program's function raises an `Exception`, log it. If the function raises any other exception, such as
        KeyboardInterrupt, return the exception.
        """
        if self.view is not None:
            self.view.take(event)
        if self._function is None:
            return None
        try:
            returned = _interruptible(self._function, event)
            if returned is not None and inspect.iscoroutine(returned):
                returned.close()
                raise TypeError(f"on_event returned a coroutine: {named(self._function)} must not be async")
        except Exception as exc:
            if type(exc) not in self._logged:
                self._logged.add(type(exc))
                text = (
                    "the function on_event failed for a %s of rollout %s; its further exceptions of the type %s are "
                    "not logged"
                )
                log.warning(text, type(event).__name__, event.rollout, type(exc).__name__, exc_info=exc)
        except BaseException as exc:
            return exc
        return None


@disable_ki_protection
def _interruptible(function: OnEvent, event: RolloutEvent) -> object:
    return function(event)


@final
class EventSender:
    """Creates the events of one rollout, and sends them to the `EventReceiver`."""

    def __init__(self, rollout: RolloutState, receiver: EventReceiver) -> None:
        self._rollout = rollout
        self.receiver = receiver
        self._count = 0
        self._ended = False
        self._failed = False
        """True after `on_event` has raised KeyboardInterrupt, or another exception that is not an `Exception`."""
        self.conversations: dict[str, Conversation | None] = {}
        """Conversations that the agent has named, by the id of the exchange."""
        self._arrived: set[str] = set()
        """Ids of the exchanges that have arrived and have no outcome yet."""
        self._increments: dict[str, IncrementSender] = {}
        """The senders for the answers that are being streamed, by the id of the exchange."""

    def send(self, kind: type[RolloutEvent], /, **fields: Any) -> None:
        """Create an event and send it. After the end of the rollout, only events about scores are sent."""
        if self._failed or (self._ended and kind is not Scored):
            return
        self._ended = self._ended or kind is RolloutEnded
        trace = self._rollout.trace
        number, self._count = self._count, self._count + 1
        clock = trio.current_time()
        event = kind(
            rollout=trace.rollout, run=trace.run, number=number, at=time.time(), clock=clock, **fields
        )
        error = self.receiver.call(event)
        if error is not None:
            self._failed = True
            if self._rollout.report is None:  # the caller is the program itself
                raise error
            self._rollout.report(error)

    def entry(self, entry: Entry) -> None:
        """Send the event for an entry that was recorded in the trace."""
        match entry:
            case Opening():
                if self.receiver.view is not None:
                    self.receiver.view.opened(self._rollout.trace)
                self.send(RolloutOpened, opening=entry)
            case AgentStart():
                self.send(AgentStarted, agent=entry)
            case Intent():
                self._arrive(entry.id, entry)
            case _:
                self.send(Scored, score=entry)

    def turn(self, turn: Turn) -> None:
        if turn.id not in self._arrived:
            self._arrive(turn.id, turn)
        self._end_call(turn.id, answered=turn.outcome == "answered")
        self.send(TurnSettled, turn=turn)

    def lost(self, exchange: str, error: BaseException) -> None:
        if exchange in self._arrived:
            self._end_call(exchange, answered=False)
            self.send(TurnLost, exchange=exchange, error=type(error).__name__)

    def asked(self, exchange: str, call: ToolCall) -> int:
        """Send a `DecisionAsked` event: a policy must decide about the tool call `call`. Return the event's number."""
        number = self._count
        redaction = self._rollout.redaction
        arguments = redacted(call.arguments, redaction, json=True)
        tool, id_ = without_keys(call.name), without_keys(call.id)
        self.send(DecisionAsked, exchange=exchange, call=id_, tool=tool, arguments=arguments)
        return number

    def decided(self, exchange: str, asked: int, decision: Decided) -> None:
        """Send a `DecisionMade` event. `asked` is the number of the `DecisionAsked` event about the same tool call."""
        redaction, arguments = self._rollout.redaction, decision.arguments
        clean = msgspec.structs.replace(
            decision,
            call=without_keys(decision.call),
            tool=without_keys(decision.tool),
            arguments=None if arguments is None else redacted(arguments, redaction, json=True),
            reason=redacted(decision.reason, redaction),
            by=redacted(decision.by, redaction),
        )
        self.send(DecisionMade, exchange=exchange, asked=asked, decision=clean)

    def increments(self, exchange: str) -> IncrementSender:
        found = self._increments.get(exchange)
        if found is None:
            send = partial(self.send, IncrementSent, exchange=exchange)
            found = self._increments[exchange] = IncrementSender(send, self._rollout.redaction)
        return found

    def _end_call(self, exchange: str, *, answered: bool) -> None:
        self._arrived.discard(exchange)
        self.conversations.pop(exchange, None)
        if (increments := self._increments.pop(exchange, None)) is not None:
            increments.end(answered=answered)

    def _arrive(self, exchange: str, call: Intent | Turn) -> None:
        self._arrived.add(exchange)
        self.send(
            CallArrived,
            exchange=exchange,
            dialect=call.dialect,
            request=call.request,
            agent=call.agent,
            conversation=call.conversation if isinstance(call, Turn) else self.conversations.get(exchange),
        )
