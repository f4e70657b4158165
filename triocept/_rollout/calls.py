"""The calls of one rollout: the exchanges that wait, run or have ended, and the connections that wait for them.

It also reads the conversation and the retry count from an agent's headers.

The rules of retries, for calls of one conversation that the model gets with equal content (`retries`: the form of the
answer, the caller and cache marks do not count):

1. A call that arrives while an equal call runs joins the running exchange, and reads its answer from the start. If a
   connection still waits for that exchange, the call must also prove that it is a retry: some agents sample several
   answers at once. Proof is a retry mark, or the agent's own name of the conversation. The SDKs name no conversation
   and count their retries; a count of 0 is proof that the call is not a retry.
2. A call that arrives after an equal call was answered may get that answer again. It does if no connection has
   received the whole answer, or if the client marks the call as a retry. A finished answer has priority over an
   answer in progress. Of several answers, the oldest that no connection is reading comes first.
3. Any other call is an exchange of its own. A repetition is not a retry, and a call that was refused, failed or
   abandoned is sent to the model again.

The headers and fields that agents send with a call, measured with real versions; the trace separates all other
conversations by their messages:

=============  =============================  ==============================
agent          conversation                   sub-agent
=============  =============================  ==============================
Claude Code    `x-claude-code-session-id`     `x-claude-code-agent-id`
Codex          `thread-id`, else `session-id` `x-codex-parent-thread-id`
opencode       `x-session-id`                 `x-parent-session-id`
Copilot CLI    not sent                       `x-interaction-type`
gemini-cli     not sent                       not sent
=============  =============================  ==============================
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec
import trio

from .._canonical.content import Json, Text, ToolResult
from .._canonical.request import Request
from .._trace.conversation import Conversation, is_side_call
from .._trace.turn import Turn
from .._util.secrets import without_keys
from .answer import Answer, Condition, Subscription
from .outcome import Answered
from .retries import Alike, meaning

if TYPE_CHECKING:
    from .exchange_state import ExchangeState

OnRetry: TypeAlias = Literal["join", "new"]
"""The treatment of a call that repeats another call."""
Deliver: TypeAlias = Callable[[Subscription], Awaitable[None]]
"""Writes an answer to the end, to the connection that waits for it. Raises ClientGone if the client disconnects
before."""

KEPT_ANSWERS = 64
"""Maximum answers that a retry can get again. When exceeded: delivered answers are dropped first. The answers are
those of the trace, not copies."""
FORGOTTEN = 5.0
"""Seconds that the first exchange waits before a warning is logged that no task takes it."""
GIVEN_UP = 30.0
"""Seconds after which no task is expected to take it any more; with `on_fault="stay"` the exchange fails then.

A program that plays its agent itself, in the thread that should take the exchange, would wait for its SDK's own
limit: ten minutes, three times (openai 3.57).
"""
RETRY_COUNT = "x-stainless-retry-count"
"""Number of earlier tries, sent by the SDKs of OpenAI and Anthropic: it marks a retry, or a first try. Codex,
opencode, gemini-cli and the AI SDK send no such header."""
_CLAUDE = "x-claude-code-session-id"
"""Claude Code is built on one of these SDKs, and has its own retry loop, in which the count is always 0."""
_SESSIONS = (_CLAUDE, "thread-id", "session-id", "x-session-id")
_CLAUDE_AGENT, _PARENT = "x-claude-code-agent-id", "x-parent-session-id"
_CODEX_PARENT = "x-codex-parent-thread-id"
"""In `client_metadata` of the document: a websocket has the headers of its first call (0.169)."""
_COPILOT, _COPILOT_SUB_AGENT = "x-interaction-type", "conversation-subagent"

log = logging.getLogger("triocept.rollout")


def attempt_of(headers: Mapping[str, str]) -> int:
    """Return the number of the SDK's try, from 1, as far as the SDK sends it."""
    count = headers.get(RETRY_COUNT)
    return int(count) + 1 if count is not None and count.isdecimal() and len(count) < 7 else 1


def claimed_conversation(headers: Mapping[str, str], request: Request, raw: Json) -> Conversation | None:
    """Return the conversation that the agent's headers name.

    None if they name no conversation; an empty id: they name only the kind of the call.

    No key is stored as a name: a key in a header is replaced by `[redacted]`.

    Args:
        headers: headers of the call, names in lower case.
        request: the call.
        raw: its document.
    """
    session = next(filter(None, map(headers.get, _SESSIONS)), None)
    if session is None:
        of_copilot = headers.get(_COPILOT) == _COPILOT_SUB_AGENT
        return Conversation(id="", kind="sub_agent") if of_copilot else None
    session = without_keys(session)
    side = is_side_call(request, raw)
    if agent := headers.get(_CLAUDE_AGENT):
        return Conversation(
            id=f"{session}/{without_keys(agent)}", parent=session, kind="side" if side else "sub_agent"
        )
    parent: Json = headers.get(_PARENT)
    if not parent and isinstance(metadata := (request.extra or {}).get("client_metadata"), dict):
        parent = metadata.get(_CODEX_PARENT)
    parent = without_keys(parent) if isinstance(parent, str) and parent else None
    return Conversation(id=session, parent=parent, kind="side" if side else "sub_agent" if parent else "main")


def retry_key(request: Request, claimed: Conversation | None) -> Hashable:
    """Return a value that is equal for calls of which one may repeat the other.

    It is cheap, and differs for most other calls.
    """
    messages = request.messages
    said: list[str] = []
    for part in messages[-1].content if messages else ():
        if isinstance(part, Text):
            said.append(part.text)
        elif isinstance(part, ToolResult):
            said.append(part.id)
    return request.dialect, request.model, claimed and claimed.id, len(messages), tuple(said)


class Calls:
    """The waiting calls of one rollout, and its latest answers.

    Args:
        on_retry: the treatment of a call that repeats another call.
        as_given: returns the original request for the request of a turn, which may be redacted.
    """

    def __init__(
        self, on_retry: OnRetry, as_given: Callable[[Request], Request] = lambda request: request
    ) -> None:
        self.on_retry: OnRetry = on_retry
        self._as_given = as_given
        self.subscriptions: set[Subscription] = set()
        """Subscriptions of the connections that wait."""
        self._open: dict[Hashable, dict[ExchangeState, None]] = {}
        """Exchanges that are not recorded yet, by retry key."""
        self._alike: dict[Hashable, Alike] = {}
        """The meanings of some open exchanges, for the retry keys that a lookup needed."""
        self._latest = _Latest()
        self._left = Condition()

    @property
    def open(self) -> tuple[ExchangeState, ...]:
        """The exchanges that are not recorded yet."""
        return tuple(exchange for exchanges in self._open.values() for exchange in exchanges)

    @property
    def connections(self) -> int:
        """Number of connections that wait."""
        return len(self.subscriptions)

    def find(
        self, request: Request, retry_key: Hashable, headers: Mapping[str, str], *, named: bool
    ) -> ExchangeState | Answer | None:
        """Return the running exchange or the answer that a call shares; None if the call gets its own exchange.

        Args:
            request: the call.
            retry_key: the value that it shares with the calls that it may repeat.
            headers: headers of the call, names in lower case.
            named: True if the agent has named the conversation.
        """
        latest = self._latest
        ended = retry_key in latest.by_key
        if self.on_retry == "new" or not (ended or retry_key in self._open):
            return None
        counted = RETRY_COUNT in headers
        marked = counted and attempt_of(headers) > 1
        proven = marked or (named and (not counted or _CLAUDE in headers))
        if ended and (answer := latest.lost(request, retry_key, attended=False)) is not None:
            return answer
        if retry_key in self._open and (proven or retry_key in self._alike):
            other = self._alike_of(retry_key).find(request, proven=proven)
            if other is not None:
                return other
        if ended and proven and (answer := latest.lost(request, retry_key, attended=True)) is not None:
            return answer
        return latest.newest(request, retry_key) if ended and marked else None

    def add(self, exchange: ExchangeState) -> None:
        """Add an exchange that begins."""
        self._open.setdefault(exchange.retry_key, {})[exchange] = None
        if (alike := self._alike.get(exchange.retry_key)) is not None:
            alike.add(exchange)

    def end(self, exchange: ExchangeState, turn: Turn | None) -> None:
        """Remove an exchange that has its outcome. Without a turn, it could not be recorded."""
        key = exchange.retry_key
        exchanges = self._open[key]
        del exchanges[exchange]
        if not exchanges:
            del self._open[key]
            self._alike.pop(key, None)
        elif (alike := self._alike.get(key)) is not None:
            alike.discard(exchange)
        if self.on_retry == "join":
            answered = turn is not None and isinstance(exchange.answer.outcome, Answered)
            request = turn.request if turn is not None else exchange.request
            self._latest.add(_Ended(key, request, self._as_given, exchange.answer if answered else None))

    def leave(self, subscription: Subscription, exchange: ExchangeState | None) -> None:
        """Remove a connection that no longer waits.

        `exchange` is the exchange that it waited for, if that had not ended.
        """
        self.subscriptions.discard(subscription)
        if exchange is not None and exchange in self._open.get(exchange.retry_key, ()):
            self._alike_of(exchange.retry_key).lose(exchange)
        self._left.notify_all()

    def _alike_of(self, retry_key: Hashable) -> Alike:
        if (alike := self._alike.get(retry_key)) is None:
            alike = self._alike[retry_key] = Alike(self._open[retry_key])
        return alike

    async def see_out(self, seconds: float) -> None:
        """Wait until no connection waits. After `seconds`, disconnect the connections that still wait."""
        with trio.move_on_after(seconds):
            await self._wait()
        for subscription in self.subscriptions:
            subscription.hang_up()
        await self._wait()

    async def _wait(self) -> None:
        while self.subscriptions:
            await self._left.wait()


class Service(Protocol):
    """A consumer that takes exchanges as they arrive."""

    def take(self, exchange: ExchangeState) -> None:
        """Take an exchange; the service owns it until it puts the exchange back."""


class Arrivals:
    """A queue of exchanges with waiting connections; it has no end of its own.

    Exchanges are taken by services, which take every exchange until they leave, and by loops, which take one at a
    time. Once a service has failed and no service is left, waiting and new exchanges are refused until a task takes
    exchanges again.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[ExchangeState, None] = OrderedDict()
        """In order. An OrderedDict, because a dict finds its first item slowly after many removals before it."""
        self.coming = 0
        """Exchanges within the limits that are being recorded before they are put here."""
        self._closed = False
        self._last = False
        """True if no exchange comes beside those counted in `coming`; those and the waiting exchanges can still be
        taken."""
        self._service: Service | None = None
        """The service that gets each exchange on arrival."""
        self._take: Callable[[ExchangeState], None] | None = None
        """The `take` method of `_service`."""
        self._lot = trio.lowlevel.ParkingLot()
        self._services: set[Service] = set()
        """The services that take every exchange."""
        self.fault: BaseException | None = None
        """The reason for which no task takes exchanges. None if no service has failed, or another one takes
        exchanges."""
        self.failed: BaseException | None = None
        """The latest failure of a service since a task last began to take exchanges."""
        self._failing: set[Service] = set()
        """Services that have failed, and whose error has not reached their callers yet."""
        self._asked = False
        """True if a task takes exchanges, or has taken one."""
        self._first = trio.Event()
        """Set when an exchange arrived that no task took."""
        self._watch = trio.CancelScope()

    def put(self, exchange: ExchangeState) -> None:
        """Queue an exchange, or give it to the service at once."""
        if self._take is not None:
            exchange.handed_over = True
            self._take(exchange)
        else:
            self._waiting[exchange] = None
            self._lot.unpark()
            if not self._asked:
                self._first.set()
        if self._last:  # perhaps the last exchange: a task that gets no exchange must end
            self._lot.unpark_all()

    def put_back(self, exchange: ExchangeState) -> None:
        """Return an exchange that did not reach the task that took it. It is taken next, before all others."""
        if exchange.settled or self._closed:
            return
        if self._take is not None:
            self._take(exchange)
            return
        exchange.handed_over = False
        self._waiting[exchange] = None
        self._waiting.move_to_end(exchange, last=False)
        self._lot.unpark()

    def discard(self, exchange: ExchangeState) -> None:
        """Remove an exchange that has its outcome."""
        self._waiting.pop(exchange, None)
        if self._last:
            self._lot.unpark_all()

    @trio.lowlevel.enable_ki_protection
    async def next(self, service: Service | None = None) -> ExchangeState | None:
        """Return the next exchange, or None if no more will come.

        Args:
            service: the service that takes it, which has entered; if None, a loop takes it.

        Cancellation: no exchange is taken.
        """
        self._asked = True
        await trio.lowlevel.checkpoint_if_cancelled()
        if service is None:
            self._take_again()
        if self._waiting or self._is_over:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._closed:
            if self._waiting:
                exchange, _ = self._waiting.popitem(last=False)
                exchange.handed_over = True
                return exchange
            if self._is_over:
                break
            await self._lot.park()
        return None

    @property
    def _is_over(self) -> bool:
        """True if no exchange comes any more.

        An exchange that is being recorded still comes, even if a limit is reached meanwhile: a consumer waits for
        it, because no other task may take it.
        """
        return self._closed or (self._last and not self.coming)

    def enter(self, service: Service) -> None:
        """Add a service that takes every exchange until it leaves."""
        self._services.add(service)
        self._take_again()

    def leave(self, service: Service, fault: BaseException | None = None) -> tuple[ExchangeState, ...]:
        """Remove a service, perhaps after a fault.

        Return the waiting exchanges that a fault leaves without a consumer.
        """
        self._services.discard(service)
        if self._service is service:
            self._service = self._take = None
        if fault is not None:
            self.failed = fault
            self._failing.add(service)
        if self.failed is None or self._services or self._closed:
            return ()
        # Also if another service has failed: for example, two in one nursery, where a failure cancels this one.
        self.fault = self.failed
        return tuple(self._waiting)

    def error_raised(self, service: Service) -> None:
        """Record that the caller of the service receives its error now."""
        self._failing.discard(service)

    def fail(self, fault: BaseException) -> None:
        """End the queue with an error, without taking the waiting exchanges. The first error wins."""
        self.fault = self.fault or fault
        self.close()

    def _take_again(self) -> None:
        if self._closed:
            return
        self.fault = None
        if not self._failing:  # otherwise the failure may still be the reason why this task is cancelled
            self.failed = None

    @property
    def taken_at_once(self) -> bool:
        """True if `hand_all_to` is running."""
        return self._service is not None

    async def hand_all_to(self, service: Service) -> None:
        """Give every exchange to the service until the end: first the waiting exchanges, then each on arrival."""
        self._asked = True
        for exchange in tuple(self._waiting):
            self._waiting.pop(exchange, None)
            exchange.handed_over = True
            service.take(exchange)
        self._service, self._take = service, service.take
        try:
            while not self._is_over:
                await self._lot.park()
        finally:
            if self._service is service:  # the service has not left before
                self._service = self._take = None

    def finish(self) -> None:
        """Accept no exchange beside those being recorded. These and the waiting exchanges can still be taken."""
        self._last = True
        self._lot.unpark_all()

    def close(self) -> None:
        """Accept no exchange, and let no waiting exchange be taken."""
        self._closed = True
        self._lot.unpark_all()
        self._watch.cancel()

    @trio.lowlevel.enable_ki_protection
    async def forgotten(self, rollout_id: str) -> bool:
        """Log a warning if an exchange waits and no task has ever taken one: its agent hangs silently.

        Returns:
            True if the exchange has waited for `GIVEN_UP` seconds; False if the rollout has ended, or a task takes
                exchanges.
        """
        with self._watch:
            await self._first.wait()
            await trio.sleep(FORGOTTEN)
            if not self._asked:
                log.warning(
                    "rollout %s: a call of its agent has waited for %g s, and no task takes it: give open_rollout a "
                    "handler, or iterate over the rollout (`async for exchange in rollout`); with pytest, give "
                    "triocept_model a reply or handler=, or take calls with model.next()",
                    rollout_id,
                    FORGOTTEN,
                )
                await trio.sleep(GIVEN_UP - FORGOTTEN)
                return not self._asked
        return False


class _Ended(msgspec.Struct, eq=False):
    """An exchange that has ended."""

    retry_key: Hashable
    request: Request
    """The request as it is recorded, which costs no memory: parts of it may be redacted."""
    as_given: Callable[[Request], Request]
    answer: Answer | None
    """None if the exchange was not answered."""
    meaning: bytes | None = None
    """The meaning of the request; None if not computed yet."""

    @property
    def is_undelivered(self) -> bool:
        """True if the exchange has an answer that no connection has received."""
        return self.answer is not None and not self.answer.delivered

    def says(self, wanted: bytes) -> bool:
        """Return True if the request has this meaning, which is computed at the first call."""
        if self.meaning is None:
            self.meaning = meaning(self.as_given(self.request))
        return self.meaning == wanted


class _Latest:
    """The latest ended exchanges of a rollout. Undelivered answers are dropped last."""

    def __init__(self) -> None:
        self._kept: dict[_Ended, None] = {}
        """In order."""
        self.by_key: dict[Hashable, list[_Ended]] = {}
        self._undelivered: list[_Ended] = []
        """Exchanges whose answers were undelivered when the latest exchange ended, in order. Each call searches this
        list, because an agent that samples has many exchanges under one key."""

    def __iter__(self) -> Iterator[_Ended]:
        return iter(self._kept)

    def add(self, ended: _Ended) -> None:
        self._kept[ended] = None
        self.by_key.setdefault(ended.retry_key, []).append(ended)
        if self._undelivered:
            self._undelivered = [one for one in self._undelivered if one.is_undelivered]
        if ended.is_undelivered:
            self._undelivered.append(ended)
        if len(self._kept) > KEPT_ANSWERS:
            delivered = (one for one in self._kept if one is not ended and not one.is_undelivered)
            gone = next(delivered, None) or next(iter(self._kept))
            del self._kept[gone]
            if gone in self._undelivered:
                self._undelivered.remove(gone)
            same = self.by_key[gone.retry_key]
            same.remove(gone)
            if not same:
                del self.by_key[gone.retry_key]

    def lost(self, request: Request, retry_key: Hashable, *, attended: bool) -> Answer | None:
        """Return the oldest undelivered answer to an equal call.

        `attended`: True for answers that a connection is reading, False for answers without a connection.
        """
        same = [
            one
            for one in self._undelivered
            if one.answer is not None and not one.answer.delivered and one.retry_key == retry_key
            if bool(one.answer.subscriptions) == attended
        ]
        return _first(request, same) if same else None

    def newest(self, request: Request, retry_key: Hashable) -> Answer | None:
        """Return the answer of the newest exchange with an equal call, if it has one. The key must exist."""
        return _first(request, reversed(self.by_key[retry_key]))


def _first(request: Request, known: Iterable[_Ended]) -> Answer | None:
    """Return the answer of the first exchange with an equal call."""
    said = meaning(request)
    return next((one.answer for one in known if one.says(said)), None)
