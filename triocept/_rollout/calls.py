"""Hold the calls of one rollout: waiting, running and ended exchanges, and connections that wait for answers.

The module also reads the conversation and the retry count from an agent's headers.

Rules of retries:

A call counts as the retry of an earlier call of its rollout only if both calls have the same two values:

* `retry_key`: the dialect, the model, the id of the conversation that the headers name, the number of messages, and the
  last message's texts and result ids. If the path of a call determines the kind of the call, the rollout adds the kind.
* `retries.meaning`: a digest of all content that the model gets.

If a call has the same two values as earlier calls, `Calls.find` returns the first of the following that exists:

1. A finished answer to an equal call, if no connection has received the whole answer, and no connection reads the
   answer now. If several answers meet these conditions, the oldest answer is returned.
2. The running exchange of an equal call; the retry then gets the answer from the beginning. If the rollout has several
   such exchanges, `Calls.find` prefers an exchange whose connection has disconnected, so that no connection reads its
   answer now. `Calls.find` returns any other running exchange only with proof that the call is a retry, because some
   agents sample several answers to equal calls.
3. A finished answer that no connection has received completely, but that a connection still reads. Such an answer is
   returned only with proof that the call is a retry.
4. The answer of the newest ended exchange of an equal call, even if the answer was delivered. The answer is returned
   only if the call has a retry mark.

A retry mark is an `x-stainless-retry-count` above 0. Proof is a retry mark, or a conversation that the agent's headers
name. A count of 0 means a first try. For a call with this count, a named conversation is proof only if the agent is
Claude Code, which sends 0 with every try.

Any other call becomes a new exchange. So if an agent re-sends a call that was refused, failed, abandoned or answered
with raw bytes, a handler answers the re-sent call. The last 64 ended exchanges are kept (`KEPT_ANSWERS`).
`on_retry="new"` switches all of these rules off.

The table lists the headers and fields with which agents name the conversation of a call, as observed with real
versions. If an agent names no conversation, the trace finds the conversation by comparing messages:

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
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
"""Treatment of a call that repeats another call: it gets the answer of the other call (`join`), or its own exchange
(`new`)."""
Deliver: TypeAlias = Callable[[Subscription], Awaitable[None]]
"""Function that writes a whole answer to the connection that waits for it. The function raises ClientGone if the client
disconnects before the end of the answer."""

KEPT_ANSWERS = 64
"""Maximum ended exchanges that are kept for retries. When exceeded: the oldest exchange with a delivered answer, or
without an answer, is dropped. If all exchanges have undelivered answers, the oldest exchange is dropped. Keeping them
takes little memory, because the trace contains the same answer objects."""
FORGOTTEN = 5.0
"""Seconds that the first exchange of a rollout waits before a log line warns that no task takes exchanges."""
GIVEN_UP = 30.0
"""Seconds after which a program is not expected to take its rollout's first exchange any more. With `on_fault="stay"`,
the exchange then fails.

The limit exists for a program that calls its rollout from the thread that should take the exchange. Without the limit,
the program would wait until its SDK gives up: three tries of ten minutes each (openai 3.57)."""
RETRY_COUNT = "x-stainless-retry-count"
"""Header of the SDKs of OpenAI and Anthropic with the number of earlier tries: 0 marks a first try, any other number a
retry. Codex, opencode, gemini-cli and the AI SDK do not send this header."""
_CLAUDE = "x-claude-code-session-id"
"""Header in which Claude Code sends the id of its session. Claude Code calls Anthropic's SDK in its own retry loop, so
that its `x-stainless-retry-count` is always 0."""
_SESSIONS = (_CLAUDE, "thread-id", "session-id", "x-session-id")
_CLAUDE_AGENT, _PARENT = "x-claude-code-agent-id", "x-parent-session-id"
_CODEX_PARENT = "x-codex-parent-thread-id"
"""Field in the `client_metadata` of a request of Codex (0.169), with the id of a sub-agent's parent. Codex uses no
header for this, because a websocket has only the headers of its first call."""
_COPILOT, _COPILOT_SUB_AGENT = "x-interaction-type", "conversation-subagent"

log = logging.getLogger("triocept.rollout")


def attempt_of(headers: Mapping[str, str]) -> int:
    """Return the number of this try, from 1, by the SDK's retry header; 1 if the header is missing."""
    count = headers.get(RETRY_COUNT)
    return int(count) + 1 if count is not None and count.isdecimal() and len(count) < 7 else 1


def claimed_conversation(headers: Mapping[str, str], request: Request, raw: Json) -> Conversation | None:
    """Return the conversation that the agent's headers name.

    Return None if the headers name no conversation. The id of the returned conversation is empty if the headers name
    only the kind of the call. If a header contains an API key, the id contains `[redacted]` in its place.

    Args:
        headers: headers of the call, names in lower case.
        request: the call.
        raw: the call's JSON body.
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
    """Return a key. A call and its retries have equal keys.

    The key is cheap to compute. Two calls that are not retries of each other usually have different keys.
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
    """The open calls of one rollout, and the answers of ended calls that retries can share.

    Args:
        on_retry: `join` if a retry gets the answer of the earlier call; `new` if it gets a new exchange.
        as_given: a function that takes the request of a recorded turn, which may be redacted, and returns the original
            request.
    """

    def __init__(
        self, on_retry: OnRetry, as_given: Callable[[Request], Request] = lambda request: request
    ) -> None:
        self.on_retry: OnRetry = on_retry
        self._as_given = as_given
        self.subscriptions: set[Subscription] = set()
        """Subscriptions of the connections that wait for an answer."""
        self._open: dict[Hashable, dict[ExchangeState, None]] = {}
        """Exchanges that are not recorded yet, by retry key."""
        self._alike: dict[Hashable, Alike] = {}
        """For each retry key: the open exchanges, grouped by the digests of their content (see `retries.meaning`). A
        key is added when its exchanges are first compared.
        """
        self._latest = _Latest()
        self._left = Condition()

    @property
    def open(self) -> tuple[ExchangeState, ...]:
        """The exchanges whose turns are not recorded yet."""
        return tuple(exchange for exchanges in self._open.values() for exchange in exchanges)

    @property
    def connections(self) -> int:
        return len(self.subscriptions)

    def find(
        self, request: Request, retry_key: Hashable, headers: Mapping[str, str], *, named: bool
    ) -> ExchangeState | Answer | None:
        """Return the exchange or the answer of the earlier call that this call repeats, so that both calls share it.

        Return None if this call is not a retry, and needs a new exchange.

        Args:
            request: the call.
            retry_key: the value of the function `retry_key`; only calls with an equal value are compared.
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
        self._open.setdefault(exchange.retry_key, {})[exchange] = None
        if (alike := self._alike.get(exchange.retry_key)) is not None:
            alike.add(exchange)

    def end(self, exchange: ExchangeState, turn: Turn | None) -> None:
        """Remove an exchange that has an outcome. `turn` is None if the exchange could not be recorded."""
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
        """Remove a connection that no longer waits for an answer.

        `exchange` is the exchange for whose answer the connection waited; None if this exchange had already ended.
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
        """Wait until no connection waits for an answer. After `seconds`, disconnect the remaining connections."""
        with trio.move_on_after(seconds):
            await self._wait()
        for subscription in self.subscriptions:
            subscription.hang_up()
        await self._wait()

    async def _wait(self) -> None:
        while self.subscriptions:
            await self._left.wait()


class Service(Protocol):
    """A consumer of exchanges, such as `Rollout.serve`.

    A service takes each exchange as soon as the exchange arrives.
    """

    def take(self, exchange: ExchangeState) -> None:
        """Take `exchange`. No other task takes the exchange, unless the service puts it back."""


class Arrivals:
    """The queue of a rollout's exchanges, from which services and loops take the exchanges.

    A service takes every exchange until `leave` removes the service. A loop (`async for exchange in rollout`) takes one
    exchange at a time. If a service has failed and no service is left, waiting and new exchanges are refused until a
    task takes exchanges again.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[ExchangeState, None] = OrderedDict()
        """Waiting exchanges, in order of arrival. An `OrderedDict` is used, because a plain dict finds its first item
        slowly after many removals."""
        self.coming = 0
        """Number of exchanges that the limits have admitted, but that are still being recorded. They are put into the
        queue after the recording."""
        self._closed = False
        self._last = False
        """True if no new exchanges are accepted. The exchanges in the queue, and those that `coming` counts, can still
        be taken."""
        self._service: Service | None = None
        """The service that gets each exchange on arrival."""
        self._take: Callable[[ExchangeState], None] | None = None
        """The method `take` of `_service`."""
        self._lot = trio.lowlevel.ParkingLot()
        self._services: set[Service] = set()
        """The services that were added by `enter` and not yet removed by `leave`."""
        self.fault: BaseException | None = None
        """The exception of the service that has failed, if no task takes exchanges because of this failure; otherwise
        None."""
        self.failed: BaseException | None = None
        """The exception of the service that failed last. None if a task has begun to take exchanges after that."""
        self._failing: set[Service] = set()
        """Failed services that have not yet raised their exception to their caller."""
        self._asked = False
        """True if a task takes exchanges, or has ever taken an exchange."""
        self._came = trio.Event()
        """Set when an exchange arrives that no service takes."""
        self._watch = trio.CancelScope()

    def put(self, exchange: ExchangeState) -> None:
        """Queue an exchange.

        If a service takes every exchange on arrival, pass the exchange to this service instead.
        """
        if self._take is not None:
            exchange.handed_over = True
            self._take(exchange)
        else:
            self._waiting[exchange] = None
            self._lot.unpark()
            self._came.set()
        if self._last:  # perhaps the last exchange: a task that gets no exchange must end
            self._lot.unpark_all()

    def put_back(self, exchange: ExchangeState) -> None:
        """Put an exchange back at the head of the queue.

        Call this method if the task that took the exchange was cancelled before it answered the exchange.
        """
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
        self._waiting.pop(exchange, None)
        if self._last:
            self._lot.unpark_all()

    @trio.lowlevel.enable_ki_protection
    async def next(self, service: Service | None = None) -> ExchangeState | None:
        """Wait for the next exchange and return it. Return None if no more exchanges will come.

        Args:
            service: the service that takes the exchange, added by `enter`; None if a loop takes it.

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
        """True if no more exchanges will come into the queue.

        An exchange that is being recorded still comes into the queue, even if a limit is reached before the recording
        ends. So a task that takes exchanges must wait for this exchange, because there may be no other task that takes
        it.
        """
        return self._closed or (self._last and not self.coming)

    def enter(self, service: Service) -> None:
        self._services.add(service)
        self._take_again()

    def leave(self, service: Service, fault: BaseException | None = None) -> tuple[ExchangeState, ...]:
        """Remove a service. `fault` is the exception with which the service failed. None means that it did not fail.

        If no task will take the waiting exchanges because of a failure, return these exchanges.
        """
        self._services.discard(service)
        if self._service is service:
            self._service = self._take = None
        if fault is not None:
            self.failed = fault
            self._failing.add(service)
        if self.failed is None or self._services or self._closed:
            return ()
        # Do so even if another `serve` failed: of two calls in one nursery, the failure of one cancels the other.
        self.fault = self.failed
        return tuple(self._waiting)

    def error_raised(self, service: Service) -> None:
        """Record that the failed service `service` is now raising its exception to the code that called the service."""
        self._failing.discard(service)

    def fail(self, fault: BaseException) -> None:
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
        """True while `hand_all_to` passes each exchange to a service on arrival."""
        return self._service is not None

    async def hand_all_to(self, service: Service) -> None:
        """Pass every exchange to `service` until the queue ends: the waiting exchanges, and then each new exchange."""
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
            if self._service is service:  # this service is still in charge
                self._service = self._take = None

    def finish(self) -> None:
        """Accept no new exchanges. Exchanges that are waiting or being recorded can still be taken."""
        self._last = True
        self._lot.unpark_all()

    def close(self) -> None:
        """Accept no new exchanges, and let no task take the waiting exchanges."""
        self._closed = True
        self._lot.unpark_all()
        self._watch.cancel()

    @trio.lowlevel.enable_ki_protection
    async def watch(
        self, rollout_id: str, calls: Callable[[], Sequence[ExchangeState]], place: Callable[[], str]
    ) -> bool:
        """Log a warning, once, if an exchange waits although no task answers it.

        Args:
            rollout_id: id of the rollout.
            calls: returns the exchanges that are not recorded yet.
            place: returns the place in the program where the body of the rollout's block waits.

        Returns:
            True if no task has ever taken an exchange, and the first exchange has waited for `GIVEN_UP` seconds. False
                if the rollout has ended before, or a task has begun to take exchanges.
        """

        def warn(text: str, seconds: float) -> None:
            waits = f", while {found} waits" if (found := place()) else ""
            log.warning(f"rollout %s: a call of its agent {text}", rollout_id, seconds, waits)

        with self._watch:
            await self._came.wait()
            await trio.sleep(FORGOTTEN)
            if not self._asked:
                warn(_UNTAKEN, FORGOTTEN)
                await trio.sleep(GIVEN_UP - FORGOTTEN)
                return not self._asked
            before = None
            while True:
                if (found := self._left_alone(calls())) is not None and found is before:
                    warn(found, FORGOTTEN if found is _UNTAKEN_LATER else GIVEN_UP)
                    return False
                before = found
                if not calls():
                    self._came = trio.Event()
                    await self._came.wait()
                await trio.sleep(FORGOTTEN)
        return False

    def _left_alone(self, calls: Sequence[ExchangeState]) -> str | None:
        """Return the text of a warning if one of the open calls waits, and no task seems to answer it."""
        taken = [each for each in calls if each.handed_over and not each.settled]
        if self._services:
            return None
        if not self._lot and not taken and any(each.elapsed >= FORGOTTEN for each in self._waiting):
            return _UNTAKEN_LATER
        if self._lot and any(each.elapsed >= GIVEN_UP and each.is_untouched for each in taken):
            return _UNANSWERED
        return None


_UNTAKEN = (
    "has waited for %g s, and no task takes it%s: give open_rollout a handler, or iterate over the rollout (`async for "
    "exchange in rollout`); with pytest, give triocept_model a reply or handler=, or take calls with model.next()"
)
_UNTAKEN_LATER = (
    "has waited for %g s, and no loop takes it any more%s: take calls until the agent has ended (`async for exchange "
    "in agent`), or give open_rollout a handler"
)
_UNANSWERED = (
    "was taken %g s ago, and has no answer yet, although a loop takes the next call%s: if no task of yours will answer "
    "it, answer each call in the loop, for example with `await exchange.respond(…)`"
)


class _Ended(msgspec.Struct, eq=False):
    """An exchange that has ended: its request and its answer."""

    retry_key: Hashable
    request: Request
    """The request of the recorded turn. The same object is used here, to save memory. Parts of it may be redacted."""
    as_given: Callable[[Request], Request]
    answer: Answer | None
    """The answer of the exchange. None if the exchange was not answered."""
    meaning: bytes | None = None
    """Digest of the content that the model gets (see `retries.meaning`). None if the digest is not computed yet."""

    @property
    def is_undelivered(self) -> bool:
        return self.answer is not None and not self.answer.delivered

    def says(self, wanted: bytes) -> bool:
        """Return True if the meaning of this exchange's request (see `retries.meaning`) equals `wanted`.

        The meaning of the request is computed only once.
        """
        if self.meaning is None:
            self.meaning = meaning(self.as_given(self.request))
        return self.meaning == wanted


class _Latest:
    """The latest ended exchanges of a rollout, at most `KEPT_ANSWERS`.

    Exchanges with a delivered answer are dropped first.
    """

    def __init__(self) -> None:
        self._kept: dict[_Ended, None] = {}
        """The exchanges, oldest first."""
        self.by_key: dict[Hashable, list[_Ended]] = {}
        self._undelivered: list[_Ended] = []
        """Exchanges whose answers were still undelivered when the latest exchange ended, in order. Only this list is
        searched for undelivered answers, because an agent that samples may have many exchanges with one retry key."""

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
        """Return the oldest undelivered answer to a call that equals `request`. Return None if there is no such answer.

        If `attended` is True, return an answer that a connection reads now. If `attended` is False, return an answer
        that no connection reads.
        """
        same = [
            one
            for one in self._undelivered
            if one.answer is not None and not one.answer.delivered and one.retry_key == retry_key
            if bool(one.answer.subscriptions) == attended
        ]
        return _first(request, same) if same else None

    def newest(self, request: Request, retry_key: Hashable) -> Answer | None:
        """Return the answer to the newest call that equals `request`. Return None if that call got no answer.

        The caller must check that `by_key` contains `retry_key`.
        """
        return _first(request, reversed(self.by_key[retry_key]))


def _first(request: Request, known: Iterable[_Ended]) -> Answer | None:
    """Return the answer to the first call in `known` that equals `request`.

    Return None if no call equals `request`, or if the first equal call got no answer.
    """
    said = meaning(request)
    return next((one.answer for one in known if one.says(said)), None)
