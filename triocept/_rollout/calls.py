"""The calls of one rollout: what their agent says of them, the exchanges that nobody has taken yet, those that run,
those that were answered last, and the connections that wait for them.

The rule of retries, for calls that say the same to the model (see `retries`) in the same conversation:

1. One that comes while the other runs joins it, and reads its answer from the start. While a connection still waits
   for that one it takes more to tell a retry from an agent that samples several answers at once: a mark, or the agent's
   own name of the conversation (the SDKs, which have none, count their retries; so theirs that say they are none are
   none).
2. One that comes after the other was answered gets that answer again if no connection has got all of it, or if the
   client marks it as a retry: an answer that is there goes before one that is still made, and the oldest that nobody is
   being given before any other.
3. Any other is an exchange of its own: a repetition is no retry, and what was refused, failed or abandoned is asked
   anew.

What an agent says of a call in its headers and fields, as it was measured with real versions; everyone else's
conversations are told apart by the messages, in the trace:

=============  =============================  ==============================
agent          conversation                   sub-agent
=============  =============================  ==============================
Claude Code    `x-claude-code-session-id`     `x-claude-code-agent-id`
Codex          `thread-id`, else `session-id` `x-codex-parent-thread-id`
opencode       `x-session-id`                 `x-parent-session-id`
Copilot CLI    says nothing                   `x-interaction-type`
gemini-cli     says nothing                   says nothing
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
"""What becomes of a call that repeats another."""
Deliver: TypeAlias = Callable[[Subscription], Awaitable[None]]
"""Writes an answer to the connection that waits for it, to its end; ClientGone if the client has hung up before."""

KEPT_ANSWERS = 64
"""How many of the last answers a retry can get again: those that nobody has got are kept longest. They are those of the
trace, not copies."""
FORGOTTEN = 5.0
"""Seconds after which the first exchange that nobody takes is one that nobody will take."""
GIVEN_UP = 30.0
"""Seconds after which that is sure. A program that plays its agent itself, in the thread that was to take the exchange,
would wait for its SDK's own limit: ten minutes, three times (openai 3.57)."""
RETRY_COUNT = "x-stainless-retry-count"
"""How often the SDKs of OpenAI and Anthropic have tried before: the mark of a retry, or of the first try. Codex,
opencode, gemini-cli and the AI SDK say nothing."""
_CLAUDE = "x-claude-code-session-id"
"""Claude Code is built on one of these SDKs, and has a retry loop of its own, where the count is always 0."""
_SESSIONS = (_CLAUDE, "thread-id", "session-id", "x-session-id")
_CLAUDE_AGENT, _PARENT = "x-claude-code-agent-id", "x-parent-session-id"
_CODEX_PARENT = "x-codex-parent-thread-id"
"""In `client_metadata` of the document: a websocket has the headers of its first call (0.169)."""
_COPILOT, _COPILOT_SUB_AGENT = "x-interaction-type", "conversation-subagent"

log = logging.getLogger("triocept.rollout")


def attempt_of(headers: Mapping[str, str]) -> int:
    """Which try of the agent's SDK a call is, as far as the SDK tells; from 1."""
    count = headers.get(RETRY_COUNT)
    return int(count) + 1 if count is not None and count.isdecimal() and len(count) < 7 else 1


def claimed_conversation(headers: Mapping[str, str], request: Request, raw: Json) -> Conversation | None:
    """What the agent itself says; None where it says nothing, an empty id where it says only of what kind the call is.
    No key is a name: where it uses one, that is `[redacted]`.

    Args:
        headers: of the call, names in lower case.
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
    parent = headers.get(_PARENT) or _codex_parent(request)
    parent = parent and without_keys(parent)
    return Conversation(id=session, parent=parent, kind="side" if side else "sub_agent" if parent else "main")


def _codex_parent(request: Request) -> str | None:
    said = (request.extra or {}).get("client_metadata")
    parent = said.get(_CODEX_PARENT) if isinstance(said, dict) else None
    return parent if isinstance(parent, str) and parent else None


def retry_key(request: Request, claimed: Conversation | None) -> Hashable:
    """Equal for calls of which one may repeat the other; cheap, and of most that do not it differs."""
    messages = request.messages
    said: list[str] = []
    for part in messages[-1].content if messages else ():
        if isinstance(part, Text):
            said.append(part.text)
        elif isinstance(part, ToolResult):
            said.append(part.id)
    return request.dialect, request.model, claimed and claimed.id, len(messages), tuple(said)


def _same(request: Request) -> Request:
    return request


class Calls:
    """What waits in one rollout, and what was answered last.

    Args:
        on_retry: what becomes of a call that repeats another.
        as_given: gives what was asked, for the request of a turn, which may say less.
    """

    def __init__(self, on_retry: OnRetry, as_given: Callable[[Request], Request] = _same) -> None:
        self.on_retry: OnRetry = on_retry
        self._as_given = as_given
        self.subscriptions: set[Subscription] = set()
        """Those of the connections that wait."""
        self._open: dict[Hashable, dict[ExchangeState, None]] = {}
        """Exchanges that are not recorded yet, by retry key."""
        self._alike: dict[Hashable, Alike] = {}
        """What some of these say, of the keys of which somebody had to know."""
        self._latest = _Latest()
        self._left = Condition()

    @property
    def open(self) -> tuple[ExchangeState, ...]:
        """The exchanges that are not recorded yet."""
        return tuple(exchange for exchanges in self._open.values() for exchange in exchanges)

    @property
    def connections(self) -> int:
        """How many connections wait."""
        return len(self.subscriptions)

    def find(
        self, request: Request, retry_key: Hashable, headers: Mapping[str, str], *, named: bool
    ) -> ExchangeState | Answer | None:
        """What a call has to share: a running exchange, or an answer; None if it gets an exchange of its own.

        Args:
            request: the call.
            retry_key: what it has in common with those that it may repeat.
            headers: its own, names in lower case.
            named: whether the agent has said which conversation it belongs to.
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
        """It begins."""
        self._open.setdefault(exchange.retry_key, {})[exchange] = None
        if (alike := self._alike.get(exchange.retry_key)) is not None:
            alike.add(exchange)

    def end(self, exchange: ExchangeState, turn: Turn | None) -> None:
        """It has its outcome, and this turn, unless it could not be recorded."""
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
        """The wait is over; that for `exchange`, if it was for one that had not ended."""
        self.subscriptions.discard(subscription)
        if exchange is not None and exchange in self._open.get(exchange.retry_key, ()):
            self._alike_of(exchange.retry_key).lose(exchange)
        self._left.notify_all()

    def _alike_of(self, retry_key: Hashable) -> Alike:
        if (alike := self._alike.get(retry_key)) is None:
            alike = self._alike[retry_key] = Alike(self._open[retry_key])
        return alike

    async def see_out(self, seconds: float) -> None:
        """Wait until no connection waits any more; break off what still does after so long."""
        with trio.move_on_after(seconds):
            await self._wait()
        for subscription in self.subscriptions:
            subscription.hang_up()
        await self._wait()

    async def _wait(self) -> None:
        while self.subscriptions:
            await self._left.wait()


class Service(Protocol):
    """Takes exchanges as they come."""

    def take(self, exchange: ExchangeState) -> None:
        """This one is its own from now on, unless it puts it back."""


class Arrivals:
    """A queue without an end of its own: what waits in it are connections, each with one exchange.

    They are taken by services, which take whatever comes until they leave, and by loops, which ask for one at a time.
    Once a service has failed, and none is left, nobody may ever take any again: what waits and what comes is refused
    then, until somebody does.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[ExchangeState, None] = OrderedDict()
        """In order; of a dict the first is not found at once where many before it were taken."""
        self.coming = 0
        """Exchanges within the limits that are being recorded before they are put here."""
        self._closed = False
        self._last = False
        """No exchange comes any more but these; they and those that wait are still to be taken."""
        self._service: Service | None = None
        """The one that gets each the moment it comes."""
        self._take: Callable[[ExchangeState], None] | None = None
        """Its method."""
        self._lot = trio.lowlevel.ParkingLot()
        self._services: set[Service] = set()
        """Those that take whatever comes."""
        self.fault: BaseException | None = None
        """Why nobody takes any. None: nobody has failed, or somebody takes them all the same."""
        self.failed: BaseException | None = None
        """What a service has failed with since somebody last began to take them."""
        self._failing: set[Service] = set()
        """Those that have failed, and whose callers have not heard of it yet."""
        self._asked = False
        """Somebody takes exchanges, or has taken one."""
        self._first = trio.Event()
        """One came that nobody took."""
        self._watch = trio.CancelScope()

    def put(self, exchange: ExchangeState) -> None:
        """It waits to be taken, or is taken on the spot."""
        if self._take is not None:
            exchange.handed_over = True
            self._take(exchange)
        else:
            self._waiting[exchange] = None
            self._lot.unpark()
            if not self._asked:
                self._first.set()
        if self._last:  # perhaps the last one: whoever gets none ends
            self._lot.unpark_all()

    def put_back(self, exchange: ExchangeState) -> None:
        """It was taken, and did not reach whoever asked: the next one gets it, before all others."""
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
        """It has its outcome, and is not to be taken any more."""
        self._waiting.pop(exchange, None)
        if self._last:
            self._lot.unpark_all()

    @trio.lowlevel.enable_ki_protection
    async def next(self, service: Service | None = None) -> ExchangeState | None:
        """The next exchange; None where there will be no more.

        Args:
            service: the one that asks, which has entered; None: a loop does.

        Cancellation: nothing is taken.
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
        """Whether no exchange comes any more. One that is being recorded does, though a limit is reached meanwhile:
        whoever takes them waits for it, for nobody else may."""
        return self._closed or (self._last and not self.coming)

    def enter(self, service: Service) -> None:
        """Somebody takes whatever comes, until it leaves."""
        self._services.add(service)
        self._take_again()

    def leave(self, service: Service, fault: BaseException | None = None) -> tuple[ExchangeState, ...]:
        """It takes no more, perhaps because of a fault; what nobody is there to take because of one."""
        self._services.discard(service)
        if self._service is service:
            self._service = self._take = None
        if fault is not None:
            self.failed = fault
            self._failing.add(service)
        if self.failed is None or self._services or self._closed:
            return ()
        # Also where it is another's: two in one nursery, say, which cancels this one.
        self.fault = self.failed
        return tuple(self._waiting)

    def tell(self, service: Service) -> None:
        """Its caller hears now of what it has failed with, if it has."""
        self._failing.discard(service)

    def fail(self, fault: BaseException) -> None:
        """No exchange comes any more, and none is to be taken, because of this: the first one counts."""
        self.fault = self.fault or fault
        self.close()

    def _take_again(self) -> None:
        if self._closed:
            return
        self.fault = None
        if not self._failing:  # else it may yet be the reason why this one is cancelled
            self.failed = None

    @property
    def taken_at_once(self) -> bool:
        """Whether `hand_all_to` is at work."""
        return self._service is not None

    async def hand_all_to(self, service: Service) -> None:
        """Give it every exchange, those that wait first, then each the moment it comes; until the end."""
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
            if self._service is service:  # it has not left before
                self._service = self._take = None

    def finish(self) -> None:
        """No exchange comes any more but those on their way; they, and those that wait, are still to be taken."""
        self._last = True
        self._lot.unpark_all()

    def close(self) -> None:
        """No exchange comes any more, and none is to be taken."""
        self._closed = True
        self._lot.unpark_all()
        self._watch.cancel()

    @trio.lowlevel.enable_ki_protection
    async def forgotten(self, rollout_id: str) -> bool:
        """Say so once if an exchange waits, and nobody has ever asked for one: its agent hangs, without a word.

        Returns:
            True: it has waited for `GIVEN_UP`. False: the rollout has ended, or somebody takes them.
        """
        with self._watch:
            await self._first.wait()
            await trio.sleep(FORGOTTEN)
            if not self._asked:
                log.warning(
                    "rollout %s: for %g s a call of its agent has waited, and nobody takes it: give open_rollout a "
                    "handler, or iterate over the rollout (`async for exchange in rollout`)",
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
    """As it is recorded, which costs nothing: something may have been taken out of it."""
    as_given: Callable[[Request], Request]
    answer: Answer | None
    """None: it was not answered."""
    meaning: bytes | None = None
    """What was asked; None: nobody has had to know."""

    @property
    def is_undelivered(self) -> bool:
        """Whether it has an answer that no connection has got."""
        return self.answer is not None and not self.answer.delivered

    def says(self, wanted: bytes) -> bool:
        """Whether it was asked what has this meaning; read once, and no sooner than somebody asks."""
        if self.meaning is None:
            self.meaning = meaning(self.as_given(self.request))
        return self.meaning == wanted


class _Latest:
    """The exchanges of a rollout that have ended last. An answer that nobody has got is the last to go."""

    def __init__(self) -> None:
        self._kept: dict[_Ended, None] = {}
        """In order."""
        self.by_key: dict[Hashable, list[_Ended]] = {}
        self._undelivered: list[_Ended] = []
        """Those of them whose answer nobody had got when the latest ended, in order: each call looks through these, and
        not through the many of one key that an agent has that samples."""

    def __iter__(self) -> Iterator[_Ended]:
        return iter(self._kept)

    def add(self, ended: _Ended) -> None:
        self._kept[ended] = None
        self.by_key.setdefault(ended.retry_key, []).append(ended)
        if self._undelivered:
            self._undelivered = [one for one in self._undelivered if one.is_undelivered]
        if ended.answer is not None and not ended.answer.delivered:
            self._undelivered.append(ended)
        if len(self._kept) > KEPT_ANSWERS:
            self._discard(self._first_to_go(ended))

    def lost(self, request: Request, retry_key: Hashable, *, attended: bool) -> Answer | None:
        """The oldest answer to the same that no connection has got: one that nobody waits for, or that is being given
        to somebody."""
        same = [
            one
            for one in self._undelivered
            if one.answer is not None
            and not one.answer.delivered
            and bool(one.answer.subscriptions) == attended
            and one.retry_key == retry_key
        ]
        return _first(request, same) if same else None

    def newest(self, request: Request, retry_key: Hashable) -> Answer | None:
        """That of the newest exchange that said the same, if it has one; there are some of this key."""
        return _first(request, reversed(self.by_key[retry_key]))

    def _first_to_go(self, newest: _Ended) -> _Ended:
        for one in self._kept:
            if one is not newest and not one.is_undelivered:
                return one
        return next(iter(self._kept))

    def _discard(self, ended: _Ended) -> None:
        del self._kept[ended]
        if ended in self._undelivered:
            self._undelivered.remove(ended)
        same = self.by_key[ended.retry_key]
        same.remove(ended)
        if not same:
            del self.by_key[ended.retry_key]


def _first(request: Request, known: Iterable[_Ended]) -> Answer | None:
    """The answer of the first of them that said the same."""
    said = meaning(request)
    return next((one.answer for one in known if one.says(said)), None)
