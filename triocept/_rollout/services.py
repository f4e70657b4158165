"""What a rollout offers its agent beside the model: tools, a user, a stop condition, state.

Rules:

1. A call runs in the rollout's nursery, whoever asks for it. It is cancelled when its caller hangs up and when the
   rollout ends, and nobody waits for it any longer than that takes.
2. Recorded before released: the trace and the recorder have the call before its caller sees the result.
3. What a service raises is an answer: its caller is told (a `Refusal` with its status, anything else with 500), the
   trace keeps it, and the rollout lives on. Only what is no `Exception` goes to the rollout's owner.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import trio

from .._canonical.content import Json, Message, Text
from .._trace.service import ServiceCall, ServiceKind
from .._trace.turn import OutcomeKind, TurnError
from ..errors import Refusal
from .service import split_cancelled
from .tools import HostTool, ToolLike, json_of

if TYPE_CHECKING:
    from .rollout import Rollout

__all__ = ["Said", "Services", "StopCondition", "UserSimulator"]

Said: TypeAlias = str | Message | Sequence[str | Message] | None
"""What a simulated user says: a text, a message, several of them, or nothing."""

UserSimulator: TypeAlias = Callable[[Sequence[Message], "Rollout"], Awaitable[Said]]
"""`async (messages, rollout) -> what the user says next`: the transcript so far, oldest first; nothing ends it."""

StopCondition: TypeAlias = Callable[[Sequence[Message], "Rollout"], Awaitable[str | None]]
"""`async (messages, rollout) -> why it is done`; None: it is not."""

log = logging.getLogger("triocept.rollout")
_current: ContextVar[str | None] = ContextVar("triocept_service", default=None)
"""The id of the service call that this task works for."""


_CANCELLED = TurnError(type="Cancelled", message="its caller hung up, or the rollout ended")


@dataclass(eq=False, kw_only=True)
class _Call:
    """A service call at work."""

    id: str
    kind: ServiceKind
    name: str
    arguments: Any
    work: Callable[[], Awaitable[Any]]
    scope: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))
    done: trio.Event = field(default_factory=trio.Event)
    outcome: OutcomeKind = "abandoned"
    result: Json = None
    error: TurnError | None = _CANCELLED
    refusal: Refusal | None = None
    """What the caller is told; None: the result."""


class Services:
    """The services of one rollout.

    Args:
        tools: functions, or `HostTool`s.
        user: the simulated user, if there is one.
        stop: the stop condition, if there is one beside `rollout.stop`.
        state: the initial value; None: the rollout has no state.
        state_type: what a new value has to be; None: what the initial one is.

    Raises:
        TypeError: a tool has no schema, or two have one name; the initial state is not of its type.
        ValueError: a tool's name is none.
    """

    def __init__(
        self,
        tools: Iterable[ToolLike] = (),
        *,
        user: UserSimulator | None = None,
        stop: StopCondition | None = None,
        state: Any = None,
        state_type: Any = None,
    ) -> None:
        self.tools: dict[str, HostTool] = {}
        for function in tools:
            made = function if isinstance(function, HostTool) else HostTool.of(function)
            if self.tools.setdefault(made.tool.name, made) is not made:
                raise TypeError(f"two tools have the name {made.tool.name!r}")
        self.user = user
        self.stop = stop
        self.state_type = state_type if state_type is not None else type(state)
        self.has_state = state is not None or state_type is not None
        self.state_key = f"sk-triocept-state-{token_urlsafe(32)}" if self.has_state else None
        self.state = self._checked(state) if self.has_state else None
        self._calls: set[_Call] = set()
        self._nursery: trio.Nursery | None = None
        self._on_fatal: Callable[[BaseException], None] = lambda exc: None

    @property
    def offered(self) -> bool:
        """Whether there is any."""
        return bool(self.tools or self.user or self.stop or self.has_state)

    def open(self, nursery: trio.Nursery, on_fatal: Callable[[BaseException], None]) -> None:
        """Calls run in `nursery` from here on. What must end the rollout goes to `on_fatal`."""
        self._nursery, self._on_fatal = nursery, on_fatal

    def current(self) -> str | None:
        """The id of the call of this rollout that the running task works for; None: for none."""
        current = _current.get()
        return current if any(call.id == current for call in self._calls) else None

    async def close(self) -> None:
        """No call runs any more: those that do are cancelled, and recorded. Shielded."""
        self._nursery = None
        with trio.CancelScope(shield=True):
            for call in tuple(self._calls):
                call.scope.cancel()
            for call in tuple(self._calls):
                await call.done.wait()

    # What the server asks of it

    async def call_tool(self, rollout: Rollout, name: str, arguments: Json) -> Json:
        """Call a tool; its result, as JSON has it.

        Raises:
            Refusal: 404, there is no such tool; 400, the arguments do not fit; 504, it took too long; 500, it raised,
                or its result is not JSON; its own, if it raised one; the rollout's, if that has ended.

        Cancellation: cancels the tool, and waits until it is gone.
        """
        tool = self.tools.get(name)
        if tool is None:
            raise Refusal(404, f"there is no tool {name!r} here; there are {', '.join(self.tools) or 'none'}")

        async def run() -> Json:
            return await tool.call(tool.bind(arguments), rollout)

        return await self._run(rollout, "tool", name, arguments, run)

    async def ask_user(self, rollout: Rollout, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The simulated user's next messages; Refusal 404 if there is none. Otherwise as `call_tool`."""
        user = self.user
        if user is None:
            raise Refusal(404, f"rollout {rollout.id} has no user", should_retry=False)

        async def run() -> tuple[Message, ...]:
            return _messages_of(await user(messages, rollout))

        found = await self._run(rollout, "user", "user", messages, run)
        return msgspec.convert(found, tuple[Message, ...])

    async def ask_stop(self, rollout: Rollout, messages: tuple[Message, ...]) -> str | None:
        """Why the run is done, or None if it is not. Otherwise as `call_tool`."""
        if rollout._ending is not None:
            return rollout._ending.message
        stop = self.stop
        if stop is None:
            return None

        async def run() -> str | None:
            return _reason_of(await stop(messages, rollout))

        reason: str | None = await self._run(rollout, "stop", "stop", messages, run)
        return reason

    async def get_state(self, rollout: Rollout) -> Json:
        """The state, as JSON has it."""

        async def run() -> Json:
            return json_of(self.state, "the state")

        return await self._run(rollout, "state", "get", None, run)

    async def put_state(self, rollout: Rollout, document: Json) -> Json:
        """Replace the state, whole; Refusal 400 if it does not fit its type, and then it is as it was."""

        async def run() -> Json:
            try:
                self.state = msgspec.convert(document, self.state_type, str_keys=True)
            except msgspec.ValidationError as exc:
                raise Refusal(400, f"that is no state of this rollout: {exc}", should_retry=False) from exc
            return json_of(self.state, "the state")

        return await self._run(rollout, "state", "put", document, run)

    def set_state(self, value: Any) -> None:
        """The program's own change; TypeError if it is not of the state's type."""
        if not self.has_state:
            raise TypeError("this rollout has no state: give open_rollout the first one, state=…")
        self.state = self._checked(value)

    def _checked(self, value: Any) -> Any:
        try:
            msgspec.convert(msgspec.to_builtins(value, str_keys=True), self.state_type, str_keys=True)
        except (TypeError, ValueError) as exc:
            raise TypeError(f"that is no state of type {self.state_type!r}: {exc}") from exc
        return value

    # One call

    async def _run(
        self,
        rollout: Rollout,
        kind: ServiceKind,
        name: str,
        arguments: Any,
        work: Callable[[], Awaitable[Any]],
    ) -> Json:
        if rollout._ending is not None or self._nursery is None:
            raise _over(rollout)
        call = _Call(id=f"s_{token_hex(8)}", kind=kind, name=name, arguments=arguments, work=work)
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

    async def _work(self, rollout: Rollout, call: _Call) -> None:
        """The task of one call. Shielded but from its own scope: its end is its caller's, or the rollout's."""
        _current.set(call.id)
        started_at, start, turns = time.time(), trio.current_time(), len(rollout.trace)
        try:
            with call.scope:
                await self._attempt(rollout, call)
            call.refusal = call.refusal or (_over(rollout) if call.outcome == "abandoned" else None)
            await rollout._record_service(
                lambda number: ServiceCall(
                    id=call.id,
                    rollout=rollout.id,
                    number=number,
                    kind=call.kind,
                    name=call.name,
                    arguments=msgspec.to_builtins(call.arguments),
                    outcome=call.outcome,
                    result=call.result,
                    error=call.error,
                    turns=turns,
                    started_at=started_at,
                    duration=trio.current_time() - start,
                    branch=rollout.trace.branch,
                )
            )
        except Exception as exc:  # of the recorder: what is not recorded is not released
            call.refusal = Refusal(500, f"not recorded: {type(exc).__name__}", should_retry=False)
            self._on_fatal(exc)
        finally:
            self._calls.discard(call)
            call.done.set()

    async def _attempt(self, rollout: Rollout, call: _Call) -> None:
        """Do the work; whatever it does, the call has its outcome afterwards."""
        try:
            call.result = json_of(await call.work(), "the result")
            call.outcome, call.error = "answered", None
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if isinstance(error, Refusal):
                call.outcome, call.refusal = "refused" if error.status < 500 else "failed", error
                call.error = TurnError(type="Refusal", message=error.message, status=error.status)
            elif error is not None:
                log.warning("%s %s of rollout %s failed", call.kind, call.name, rollout.id, exc_info=error)
                call.outcome = "failed"
                call.refusal = Refusal(500, f"{type(error).__name__}: {error}", should_retry=False)
                call.error = TurnError(type=type(error).__name__, message=str(error), status=500)
                if not isinstance(error, Exception):
                    self._on_fatal(error)
            if cancelled is not None:
                raise cancelled from None


def _over(rollout: Rollout) -> Refusal:
    return rollout._ending or Refusal(503, f"rollout {rollout.id} is closed", should_retry=False)


def _messages_of(said: Said) -> tuple[Message, ...]:
    """What a simulated user said, as messages.

    Raises:
        TypeError: it is none of what a user may say.
    """
    if said is None:
        return ()
    pieces = (said,) if isinstance(said, (str, Message)) else tuple(said)
    for piece in pieces:
        if not isinstance(piece, (str, Message)):
            raise TypeError(f"a user says str and Message, not {piece!r}")
    return tuple(Message("user", (Text(p),)) if isinstance(p, str) else p for p in pieces)


def _reason_of(reason: str | None) -> str | None:
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"a stop condition gives its reason, a str, or None, not {reason!r}")
    return reason
