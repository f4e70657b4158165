"""Drafts: answers of an inner handler. The outer handler reads a draft before the agent gets an answer.

A handler around another handler (`rewrite`, `best_of`, `approve`, …) opens a draft. The inner handler gets a separate
exchange, with the agent's request or a changed request, and answers this exchange like any other exchange. The outer
handler reads the events of this answer.

Rules:

1. A draft is not a turn. If the agent gets exactly the draft's answer (`OpenDraft.use`), the turn of the agent's
   exchange does not contain the draft. In all other cases, the turn contains the draft, even if the outer handler
   fails, or if the agent disconnects while the draft is read.
2. If the outer handler reads a draft slowly, the inner handler waits, as it would wait for a slow agent.
3. An exception of the inner handler is raised unwrapped in the outer handler's task, after the events that came before
   the exception.
4. The end of the block of `open_draft` cancels the inner handler. If the agent disconnects, or the rollout ends, both
   handlers are cancelled.
5. Raw bytes have no events. If the content of the bytes is known, the outer handler reads the events of the content;
   otherwise it gets the bytes (`raw`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import Any, final

import msgspec
import trio

from .._canonical.events import Event, ResponseEnd, events_of
from .._canonical.request import Request
from .._canonical.response import Response
from .._trace.conversation import Conversation
from .._trace.tokens import Tokens
from .._trace.turn import Draft, Turn
from .._util.failures import split_cancelled
from ..errors import Unanswered
from .answer import Condition, Entry, RawPiece, Relayed, Subscription
from .asking import Asking
from .exchange import Exchange, core_of
from .exchange_state import ExchangeState
from .handler import Handler, configured_model
from .outcome import Abandoned, Answered, Failed, Outcome, Raw, Refused

AHEAD = 16
"""Maximum events that an inner handler may send before the outer handler has read them. (If this number were 1, each
event would cost two switches of tasks, and a stream through five handlers would take twice as many instructions.)"""


class _Records:
    """Replacement for a rollout's record writer, for the exchange of a draft.

    The replacement creates the `Turn` of a draft, but does not record the turn.
    """

    events = None

    def __init__(self, outer: ExchangeState) -> None:
        self._outer = outer
        self.writer = self
        self.redactor = outer.rollout.records.redactor
        self.check_free = outer.rollout.records.check_free
        self.as_given = outer.rollout.records.as_given

    def conversation_of(self, turn: Turn) -> Conversation:
        return self._outer.conversation

    async def record(self, make_turn: Callable[[int], Turn]) -> Turn:
        return make_turn(len(self._outer.rollout.trace))


class _DraftHome:
    """Replacement for the rollout, for the exchange of a draft.

    The replacement behaves like the agent's rollout, but records nothing.
    """

    on_hangup = "cancel"
    record_increments = False
    budget = gate = None

    def __init__(self, outer: ExchangeState) -> None:
        self.outer = outer
        self.records = _Records(outer)
        self.turn: Turn | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outer.rollout, name)

    def on_settled(self, exchange: ExchangeState, turn: Turn | None) -> None:
        self.turn = turn


class _Reader(Asking):
    """The `Delivery` of a draft's answer: it passes the answer's events to the outer handler."""

    def __init__(self) -> None:
        super().__init__()
        self.events: deque[Event] = deque()
        self.news = Condition()
        self.taken = Condition()
        self.began = False
        """True if the inner handler has sent an increment of its answer."""

    def write(self, entry: Entry) -> bool:
        self.began = True
        if isinstance(entry, Relayed):
            self.events.extend(entry.events)
        elif not isinstance(entry, RawPiece):  # the outcome holds all raw bytes
            self.events.append(entry)
        self.news.notify_all()
        return len(self.events) < AHEAD

    def end(self, outcome: Outcome) -> bool:
        self.outcome = outcome
        self.news.notify_all()
        return True

    async def flush(self) -> None:
        while len(self.events) >= AHEAD:
            await self.taken.wait()


@final
class OpenDraft:
    """A draft that is being read: an async iterator over its events. Only `open_draft` creates instances.

    The iteration raises the exception of the inner handler. If the inner handler refused the call, this exception is a
    `Refusal`, or the `UpstreamError` of a provider.
    """

    raw: Raw | None = None
    """The answer, if the inner handler has answered with raw bytes of unknown content. Set at the end of the
    iteration."""
    response: Response | None = None
    """The whole answer, set at the end of the iteration. None if `raw` is the answer."""

    def __init__(self, outer: ExchangeState, inner: ExchangeState, home: _DraftHome, reader: _Reader) -> None:
        self._outer, self._inner, self._home, self._reader = outer, inner, home, reader
        self.error: BaseException | None = None
        """The exception of the inner handler."""
        self._ended = False

    @property
    def request(self) -> Request:
        return self._inner.request

    @property
    def came_whole(self) -> bool:
        """True if the inner handler has answered with one complete response, not with a stream.

        The value is valid only after the iteration has begun.
        """
        return not self._reader.began

    def __aiter__(self) -> OpenDraft:
        return self

    async def __anext__(self) -> Event:
        reader = self._reader
        await trio.lowlevel.checkpoint_if_cancelled()
        while not reader.events:
            if self._ended:
                await trio.lowlevel.cancel_shielded_checkpoint()
                raise StopAsyncIteration
            if reader.outcome is None and self.error is None:
                await reader.news.wait()
            else:
                self._take_end(reader.outcome)
        event = reader.events.popleft()
        if not reader.events:
            reader.taken.notify_all()
            await trio.lowlevel.cancel_shielded_checkpoint()
        return event

    def _take_end(self, outcome: Outcome | None) -> None:
        self._ended = True
        match outcome:
            case Answered(response=response) | Raw(complete=True, response=Response() as response):
                self.response = response
                if not self._reader.began or isinstance(outcome, Raw):
                    self._reader.events.extend(events_of(response))
                return
            case Raw():
                self.raw = outcome
                return
        if self.error is not None:
            raise self.error
        if isinstance(outcome, Refused):
            raise outcome.cause or outcome.refusal
        assert isinstance(outcome, Failed)
        raise outcome.error

    async def read(self) -> Response | None:
        """Read all remaining events, and return the whole answer. Return None if the answer is raw bytes (`raw`)."""
        async for _ in self:
            pass
        return self.response

    def adopt(self) -> None:
        """Copy the draft's response headers, notes and tokens to the agent's exchange.

        If the agent's answer later differs from the draft, the turn is marked `rewritten`. Call `adopt` twice: before
        the first increment of the agent's answer (for the headers), and at the end of the draft (for notes and tokens).
        """
        outer, inner = self._outer, self._inner
        self._take_inner()
        if inner.answer.headers:
            outer.answer.headers = inner.answer.headers
        outer.annotate(**inner._notes)
        outer.tokens, outer.policy = inner.tokens, inner.policy
        if inner.sampled is not None:
            outer.sampled = inner.sampled
        elif (response := self.response) is not None:
            outer.sampled = lambda: response

    def use(self) -> None:
        """Record that the agent gets exactly the answer of this draft. The turn then does not contain the draft."""
        if self in self._outer.open_drafts:
            self._outer.open_drafts.remove(self)

    def keep(self, why: str, *, counted: bool) -> None:
        """Add the draft to the turn of the agent's exchange.

        Args:
            why: the name of the handler that has read the draft.
            counted: True if the usage of the agent's answer does not contain the draft's usage. If True, the draft's
                usage counts against the limits of the rollout after this call.
        """
        self.use()
        self._take_inner()
        outer, turn = self._outer, self._home.turn
        outer.drafts += (self.record(why, counted=counted),)
        if counted and turn is not None:
            for level in outer.budgets:
                level.hold(self._inner, turn)
                if (level, self._inner) not in outer.reserved:
                    outer.reserved += ((level, self._inner),)

    def record(self, why: str = "unused", *, counted: bool = True) -> Draft:
        """Return this draft as a `Draft` for the turn of the agent's exchange. The draft's answer may be unfinished."""
        turn = self._home.turn or self._inner._turn(Abandoned(), 0)
        since = turn.started_at - self._outer.started_at
        return _draft_of(self._outer, turn, why, counted=counted, since=since)

    def _take_inner(self) -> None:
        outer, inner = self._outer, self._inner
        outer.drafts, inner.drafts = outer.drafts + inner.drafts, ()
        outer.decisions, inner.decisions = outer.decisions + inner.decisions, ()

    async def pass_raw(self) -> None:
        assert self.raw is not None
        self.use()
        await self._outer.respond_raw(self.raw)


async def pass_on(
    exchange: Exchange,
    draft: OpenDraft,
    change: Callable[[OpenDraft, Event], Iterable[Event]] | None = None,
    *,
    why: str,
    keep: bool = False,
    before_end: Callable[[Response], Awaitable[None]] | None = None,
) -> None:
    """Answer the agent with the draft's answer, event by event.

    Args:
        exchange: the agent's exchange.
        draft: the draft. No event of the draft may have been read yet.
        change: returns the events that the agent gets for one event. If None, the events are passed on unchanged.
        why: the name of the handler that reads the draft.
        keep: True to add the draft to the turn even if no event is changed.
        before_end: called with the whole answer, before the agent gets the event that ends the answer.
    """
    first = await anext(draft, None)
    draft.adopt()
    if first is None:
        await draft.pass_raw()
        return
    if change is None and draft.came_whole:
        whole = await draft.read()
        assert whole is not None
        if before_end is not None:
            await before_end(whole)
        draft.keep(why, counted=False) if keep else draft.use()
        await exchange.respond(whole)
        return
    async with exchange.open_stream() as stream:
        event: Event | None = first
        while event is not None:
            events = (event,) if change is None else change(draft, event)
            keep = keep or tuple(events) != (event,)
            if isinstance(event, ResponseEnd):
                whole = await draft.read()
                draft.adopt()
                if before_end is not None and whole is not None:
                    await before_end(whole)
                draft.keep(why, counted=False) if keep else draft.use()
            for each in events:
                await stream.send(each)
            event = await anext(draft, None)


def keep_aborted(
    exchange: ExchangeState,
    error: BaseException,
    *,
    since: float,
    response: Response | None,
    tokens: Tokens | None,
    counted: bool,
) -> None:
    """Record a call that the model's server has aborted, as a draft in the turn of `exchange`.

    Args:
        exchange: the exchange, which has no outcome yet.
        error: the error with which the call ended.
        since: seconds from the start of the exchange to the start of the call.
        response, tokens: the part of the answer that the server has returned, and its tokens. None if the server
            returned no part.
        counted: see `Draft.counted`.
    """
    turn = exchange._turn(Failed(error), len(exchange.rollout.trace))
    turn = msgspec.structs.replace(
        turn, id="", response=response, tokens=tokens, notes={}, duration=exchange.elapsed - since
    )
    exchange.drafts += (_draft_of(exchange, turn, "abort", counted=counted, since=since),)


def _draft_of(exchange: ExchangeState, turn: Turn, why: str, *, counted: bool, since: float) -> Draft:
    clean = exchange.rollout.records.redactor.turn(turn)
    ours, theirs = exchange.recorded_request(), clean.request
    pairs = zip(ours.messages, theirs.messages, strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1] or pair[0] == pair[1], pairs))
    return Draft(
        why=why,
        counted=counted,
        common=common,
        dropped=len(ours.messages) - common,
        messages=theirs.messages[common:],
        changed=msgspec.structs.replace(theirs, messages=ours.messages) != ours,
        response=clean.response,
        error=clean.error,
        notes=clean.notes,
        tokens=clean.tokens,
        started=since,
        duration=turn.duration,
    )


@asynccontextmanager
async def open_draft(
    exchange: Exchange, handler: Handler, request: Request | None = None, *, counted: bool = False
) -> AsyncIterator[OpenDraft]:
    """Run `handler` on a separate exchange, and yield a draft from which the handler's answer can be read.

    Args:
        exchange: the agent's exchange.
        handler: the inner handler.
        request: the request that the inner handler gets. None means the agent's request.
        counted: True if the draft's model call is made in addition to the agent's call. If True, the limits of the
            rollout apply to the draft's call, and its usage is counted.

    Raises:
        LimitReached: the call is counted, and would cross a limit.
        AlreadySettled, ExchangeAbandoned: see `exchange.respond`.

    Cancellation: cancels the inner handler.
    """
    outer = core_of(exchange)
    home = _DraftHome(outer)
    inner = ExchangeState(
        home,  # type: ignore[arg-type]
        outer.request if request is None else request,
        raw=outer.raw if request is None else None,
        headers=outer.headers,
        claimed=outer.claimed,
        retry_key=None,
        query=outer.query,
    )
    if counted and (budget := outer.rollout.budget) is not None:
        refusal = budget.admit(inner, configured_model(handler))
        if refusal is not None:
            raise refusal
        # The inner handler's tokens count together with the turn of the agent's exchange, and are reserved until then.
        outer.reserved += tuple((level, inner) for level in inner.budgets)
        inner.budgets = ()
    reader = _Reader()
    draft = OpenDraft(outer, inner, home, reader)
    outer.open_drafts.append(draft)
    subscription = Subscription(inner.answer)
    try:
        with outer.work():
            failed: BaseException | None = (
                None  # raised outside of the nursery, which would wrap it in a group
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_follow, subscription, reader)
                nursery.start_soon(_answer, handler, Exchange(inner, exchange.rollout), draft)
                try:
                    yield draft
                except BaseException as exc:
                    failed = exc
                if failed is not None or not draft._ended:
                    nursery.cancel_scope.cancel()
            if failed is None and draft._ended:
                failed = draft.error  # the error of a handler that failed after its answer
            if failed is not None:
                raise failed
    finally:
        for each in inner.budgets:
            each.end(inner, home.turn)


async def _follow(subscription: Subscription, reader: _Reader) -> None:
    try:
        await subscription.follow(reader)
    finally:
        subscription.close()


async def _answer(
    handler: Callable[[Exchange], Awaitable[object]], exchange: Exchange, draft: OpenDraft
) -> None:
    """Run the inner handler, and store its exception in `draft`.

    The task that reads the draft raises this exception.
    """
    inner = core_of(exchange)
    try:
        await handler(exchange)
        if not inner.settled:
            raise Unanswered(f"the handler returned, but it has not answered {inner!r}")
    except BaseException as exc:
        cancelled, error = split_cancelled(exc)
        if error is not None:
            draft.error = error
            await inner.settle_by(error)
            draft._reader.news.notify_all()
        if cancelled is not None:
            raise cancelled from None
