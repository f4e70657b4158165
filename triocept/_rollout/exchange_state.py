"""The state of one live model call. Programs use its facade, `Exchange`.

Rules:

1. An exchange gets one outcome. `settle` sets the outcome before its first checkpoint. If the agent disconnects or the
   rollout ends, `fix_from_outside` sets the outcome, and then `settle` records it.
2. The turn is in the trace and has been passed to every recorder before the agent gets the event that ends the answer.
3. A cancellation never loses an outcome: once the outcome is set, the turn is recorded and the answer is ended, both in
   a shielded cancel scope.
4. If the agent disconnects or the rollout ends, the exchange is settled from outside (not by the code that answers).
   Then this code is cancelled first, and after that the turn is recorded. The table in `outcome` lists the errors that
   this code may get.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from os import urandom
from reprlib import repr as short
from typing import TYPE_CHECKING, final

import msgspec
import trio

from .._canonical.content import Json, Text, ToolCall
from .._canonical.events import Event, Fold, HeldCalls, PartStart, ResponseEnd, ResponseStart
from .._canonical.given import fit_notes
from .._canonical.request import Request
from .._canonical.response import Response, Usage, said_in, settled_stop
from .._canonical.tokens import usage_after
from .._trace.conversation import CallKind, Conversation
from .._trace.increments import IncrementLog, Increments
from .._trace.raw import RawResponse
from .._trace.tokens import Tokens
from .._trace.turn import Decided, Draft, Turn
from .._trace.wire import WireLog
from .._util.contexts import protected_context
from .._util.loop_watch import waiting_place
from ..errors import AlreadySettled, ExchangeAbandoned, Refusal, RolloutClosed, UpstreamError
from .addresses import call_id
from .answer import Answer, Entry, Increment, RawPiece, Relayed, weight_of
from .budget import Budget
from .calls import RETRY_COUNT, attempt_of
from .outcome import Abandoned, Answered, Failed, Outcome, Raw, Refused, outcome_of
from .raw_stream import RawBody, RawStream, pieces_of

if TYPE_CHECKING:
    from .draft import OpenDraft
    from .exchange import Exchange
    from .rollout_state import RolloutState

_NO_USAGE = Usage(input_tokens=0, output_tokens=0, estimated=True)


class Worker:
    """The task that runs a handler on one exchange.

    Args:
        task: the task of the handler.
        scope: the cancel scope around the handler.
    """

    __slots__ = ("_scope", "_task")

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        self._task = task
        self._scope = scope

    @property
    def place(self) -> str:
        """Place in the program where the handler waits; see `waiting_place`."""
        return waiting_place(self._task)

    def stop(self) -> None:
        """Cancel the handler.

        Do nothing if the handler itself calls this method, because a handler may stop its own rollout.
        """
        if trio.lowlevel.current_task() is not self._task:
            self._scope.cancel()


@final
class ExchangeState:
    """The state of a model call: its request, its outcome, its answer. Programs use its facade, `Exchange`.

    Args:
        rollout: the rollout whose agent has sent the call.
        request: the call.
        raw, headers, query: JSON body, headers and URL query of the call, as received.
        claimed: the conversation that the agent's headers name.
        retry_key: the value of `calls.retry_key`, which retries of the call share.
        kind: the kind of the call, if its path gives it.
        wire: the log of the HTTP traffic. If None, the traffic is not logged.
    """

    outcome: Outcome | None = None
    from_outside: bool = False
    """True if the outcome was set because the agent disconnected or the rollout ended, and not by the code that
    answers."""
    recording: bool = False
    """True if a task has begun to record the turn of the exchange."""
    cause: BaseException | None = None
    fold: Fold | None = None
    hold_calls: bool = True
    """True if tool calls of a streamed answer are held back until the answer ends. An upstream may set this field to
    False."""
    worker: Worker | None = None
    """The handler that is running for the exchange, or None."""
    handed_over: bool = False
    facade: Exchange | None = None
    """The public `Exchange`. Set when the exchange is passed to the program; None again after the exchange was
    recorded."""
    budgets: tuple[Budget, ...] = ()
    """The budgets in which this exchange has reservations."""
    reserved: tuple[tuple[Budget, ExchangeState], ...] = ()
    """Reservations for the drafts of this exchange, as pairs: a budget, and the exchange of the draft."""
    tokens: Callable[[], Tokens] | None = None
    """Function that returns the tokens for the turn. An upstream that was configured to return tokens sets it."""
    policy: Callable[[Response | None], tuple[str | None, str | None]] | None = None
    """Function that returns the versions of the model's weights at the start and at the end of an answer. The upstream
    sets it."""
    sampled: Callable[[], Response] | None = None
    """Function that returns the answer that an upstream sent, before any change by the program. The upstream sets
    it."""
    decisions: tuple[Decided, ...] = ()
    """Decisions about the tool calls of the answer, which the turn will contain."""
    drafts: tuple[Draft, ...] = ()
    """Drafts that the turn will contain: answers of inner handlers that outer handlers have read."""
    open_drafts: list[OpenDraft]
    """Drafts that are still open: not yet sent to the agent, and not yet added to `drafts`."""
    _kept: Request | None = None
    _prompt: int | None = None
    """Estimated number of tokens in the prompt; None before the first estimate."""
    _raw_stream: RawStream | None = None
    """The stream of a raw answer that is sent piece by piece."""
    _weight: int = 0
    """Approximate bytes of memory that the streamed answer takes."""

    def __init__(
        self,
        rollout: RolloutState,
        request: Request,
        *,
        raw: Json,
        headers: Mapping[str, str],
        claimed: Conversation | None,
        retry_key: Hashable,
        query: str = "",
        kind: CallKind | None = None,
        wire: WireLog | None = None,
    ) -> None:
        random = urandom(20).hex()
        self.id: str = f"x_{random[:16]}"
        self.rollout = rollout
        self.request = request
        self.dialect: str = request.dialect
        self.raw = raw
        self.headers = headers
        self.query = query
        self.attempt: int = attempt_of(headers) if RETRY_COUNT in headers else 1
        self.agent: str | None = headers.get("user-agent")
        self.claimed: Conversation | None = (
            Conversation(id=(claimed and claimed.id) or self.id, kind=kind) if kind else claimed
        )
        self.retry_key = retry_key
        self._wire = wire
        self._notes: dict[str, Json] = {}
        self.started_at: float = time.time()
        self._start = trio.current_time()
        self._increments: IncrementLog | None = IncrementLog() if rollout.record_increments else None
        self._facts = rollout.addresses.dialects.get(self.dialect)
        prefix = self._facts.response_prefix if self._facts is not None else ""
        self.answer: Answer = Answer(prefix + random[16:], f"req_{random[:16]}")
        self._held = HeldCalls()
        self._work_scopes: set[trio.CancelScope] = set()
        self.open_drafts = []

    def __repr__(self) -> str:
        state = self.outcome.kind if self.outcome else "waiting"
        return f"<Exchange {self.id} of rollout {self.rollout.id}: {self.dialect} {self.request.model!r}, {state}>"

    @property
    def conversation(self) -> Conversation:
        if self.claimed is not None and self.claimed.id:
            return self.claimed
        return self.rollout.records.writer.conversation_of(self._turn(Abandoned(), len(self.rollout.trace)))

    @property
    def outermost(self) -> ExchangeState:
        """The agent's exchange. For the exchange of a draft, this is the exchange whose turn contains the draft."""
        outer: ExchangeState | None = getattr(self.rollout, "outer", None)  # only a draft's rollout has it
        return self if outer is None else outer.outermost

    @property
    def settled(self) -> bool:
        return self.outcome is not None

    def keep_increments(self) -> None:
        """Keep the increments of the answer from now on, so that the code that answers the exchange can read them.

        The turn contains the increments only if the rollout has `record_increments`.
        """
        if self._increments is None:
            self._increments = IncrementLog()

    @property
    def kept_increments(self) -> Increments | None:
        return self._increments.increments() if self._increments is not None else None

    @property
    def is_untouched(self) -> bool:
        """True if no handler, upstream or stream works on the exchange."""
        return (
            self.worker is None and self.fold is None and self._raw_stream is None and not self._work_scopes
        )

    @property
    def first_event(self) -> float | None:
        """Seconds from the start of the call to the first increment of its answer.

        None if the answer has no increments yet.
        """
        return None if self.answer.began_at is None else self.answer.began_at - self._start

    @property
    def elapsed(self) -> float:
        return trio.current_time() - self._start

    async def respond(self, response: Response, document: bytes | None = None) -> None:
        """Answer with a whole response.

        `document` is the provider's JSON body, if this body is in the agent's dialect.
        """
        if await self._begin_outcome():
            return
        await self.settle(Answered(self.complete(response), document))
        await self.answer.wait_delivered()

    async def respond_raw(self, raw: Raw) -> None:
        if await self._begin_outcome():
            return
        self.answer.check_raw(raw.sent)
        await self.settle(raw)
        await self.answer.wait_delivered()

    async def stream_raw(self, head: RawResponse, body: RawBody, said: Response | None) -> None:
        """Answer with the raw bytes that `body` yields, piece by piece.

        `said` is the content of the bytes, if it is known.
        """
        async with pieces_of(body) as pieces:
            if await self._begin_outcome(whole=False):
                return
            with self.work():
                async with self.open_raw(head, said) as stream:
                    await stream.begin()
                    async for piece in pieces:
                        await stream.send(piece)

    @protected_context
    async def open_raw(self, head: RawResponse, said: Response | None) -> AsyncIterator[RawStream]:
        """Answer with raw bytes, piece by piece.

        The answer ends when the `async with` block ends, as in `open_stream`.
        """
        self.check_unbegun()
        self.answer.check_raw(head)
        most = self.rollout.addresses.limits.answer_bytes
        stream = self._raw_stream = RawStream(head, most, self._send_raw, self._pause)
        try:
            yield stream
            if self.from_outside or not self.settled:
                await trio.lowlevel.checkpoint_if_cancelled()
                self._check_awaited()
                await self.settle(Raw(stream.sent(), said, complete=said is not None))
                await self.answer.wait_delivered()
        except BaseException as exc:
            if not await self.leave_stream(exc):
                raise

    @trio.lowlevel.enable_ki_protection
    async def _send_raw(self, piece: RawPiece) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_awaited()
        await self._put(piece)

    async def _pause(self, seconds: float) -> None:
        with self.work():
            await trio.sleep(seconds)
        self._check_awaited()

    async def leave_stream(self, exc: BaseException) -> bool:
        """Settle the exchange, because the `async with` block of its stream ends. `exc` is the exception of this block.

        Return True if the caller must suppress the exception.
        """
        if isinstance(exc, RolloutClosed):
            return self._is_over
        if isinstance(exc, trio.Cancelled):  # the code that has cancelled the handler sets the outcome
            return False
        try:
            await self.settle_by(exc)
        except Exception as failure:  # an error of the recorder must not hide the fault
            if isinstance(self.outcome, Failed):
                both = [exc, failure]
                raise BaseExceptionGroup(
                    "an answer failed, and the failure could not be recorded", both
                ) from None
            raise
        return False

    async def refuse(self, refusal: Refusal) -> None:
        if await self._begin_outcome(whole=False):
            return
        await self.settle(Refused(refusal))
        await self.answer.wait_delivered()

    def annotate(self, **data: Json) -> None:
        if self.settled and not self.from_outside:
            raise AlreadySettled(f"{self!r}: the turn is already recorded, so no note can be added")
        notes = fit_notes(data)
        if not self.settled:  # a recorded turn is not changed
            self._notes.update(notes)

    def check_open(self) -> None:
        if isinstance(self.outcome, Abandoned):
            raise ExchangeAbandoned(f"{self!r} cannot be answered, because the agent has disconnected")
        if (found := self.outcome) is not None:
            answer, hint = "", ""
            if isinstance(found, Answered):
                answer = f", the answer {short(found.response.text)}"
                hint = "; to send several texts in one answer, use open_stream"
            raise AlreadySettled(
                f"{self!r} already has an outcome{answer}, so it cannot be answered or refused again{hint}"
            )

    def _check_awaited(self) -> None:
        if self._is_over:
            text = f"{self!r}: its rollout has ended, and no connection waits for the rest of this stream"
            raise RolloutClosed(text)
        self.check_open()

    @property
    def _is_over(self) -> bool:
        """True if the end of the rollout has settled the exchange.

        If True, later answers are ignored without an error.
        """
        return self.from_outside and not isinstance(self.outcome, Abandoned)

    async def _begin_outcome(self, *, whole: bool = True) -> bool:
        """Check that the exchange can still get an outcome. If `whole` is True, also check that no stream has begun.

        Return True if the caller must ignore the new outcome, because the rollout has ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.rollout.records.check_free()
        if self.outcome is not None:
            if self._is_over:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return True
            self.check_open()
        if whole and (self.fold is not None or self._raw_stream is not None):
            raise self._is_streamed()
        return False

    def check_unbegun(self) -> None:
        """Raise an error if the exchange cannot be answered by a new stream.

        After the end of the rollout, no error is raised: a new stream may begin, but its increments are ignored.
        """
        if self.outcome is not None and not self._is_over:
            self.check_open()
        if self.fold is not None or self._raw_stream is not None:
            raise self._is_streamed()
        self.rollout.records.check_free()

    def _is_streamed(self) -> AlreadySettled:
        return AlreadySettled(f"{self!r} is being answered by a stream, so it cannot get another answer")

    @trio.lowlevel.enable_ki_protection
    async def hang_up(self) -> None:
        """Settle the exchange as abandoned, because its agent has disconnected and no connection reads the answer."""
        if self.outcome is not None or self.answer.subscriptions:
            return
        if self.rollout.on_hangup == "finish" and self.handed_over:
            return
        await self.settle(self.fix_from_outside(Abandoned()))

    def fix_from_outside(self, outcome: Outcome) -> Outcome:
        """Set the outcome because the agent has disconnected or the rollout has ended. Cancel the code that answers.

        Return the outcome. The caller must then pass this outcome to `settle`, which records the turn.
        """
        self.outcome, self.from_outside = outcome, True
        for scope in self._work_scopes:
            scope.cancel()
        if self.worker is not None:
            self.worker.stop()
        return outcome

    @contextmanager
    def work(self) -> Iterator[None]:
        """Run the `with` block, which must answer the exchange.

        Cancel the block if the exchange is settled from outside: by the agent's disconnect, or by the end of the
        rollout.

        Raises:
            AlreadySettled: the exchange's own handler has already settled it.
            ExchangeAbandoned: the agent has disconnected.
        """
        scope = trio.CancelScope()
        if self._is_over:
            scope.cancel()
        else:
            self.check_open()
        self._work_scopes.add(scope)
        try:
            with scope:
                yield
        except (AlreadySettled, RolloutClosed, UpstreamError):
            if not scope.cancel_called:  # otherwise the error is a consequence of the cancellation
                raise
        finally:
            self._work_scopes.discard(scope)
        if scope.cancel_called and isinstance(self.outcome, Abandoned):
            self.check_open()

    @trio.lowlevel.enable_ki_protection
    async def send(self, event: Increment) -> None:
        """Send the agent one increment of a streamed answer."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.outcome is not None:
            self._check_awaited()
        fold = self.fold
        assert fold is not None
        self._weight += weight_of(event)
        if self._weight > (most := self.rollout.addresses.limits.answer_bytes):
            raise Refusal(
                502,
                f"the answer is larger than {most} bytes, which is the limit of this endpoint",
                should_retry=False,
            )
        if isinstance(event, Relayed):
            await self._pass_on(event, fold)
            return
        if isinstance(event, ResponseEnd):
            await self._end_stream(event, fold)
            return
        may_call = isinstance(event, PartStart) and not isinstance(event.part, Text)
        if may_call or isinstance(event, ResponseStart):
            event = self._complete_event(event)
        fold.add(event)
        if self._increments is not None:
            self._increments.add(event, trio.current_time() - self._start)
        if self.hold_calls and (self._held or may_call) and self._held.hold(event):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        await self._put(self._with_usage(event))

    def _put(self, entry: Entry) -> Awaitable[None]:
        if (events := self.rollout.records.events) is not None:
            events.increments(self.id).send(entry)
        return self.answer.put(entry)

    async def _pass_on(self, piece: Relayed, fold: Fold) -> None:
        """Send the agent several events, such as a piece of a provider's stream.

        If the agent has already received another id for the answer, the events are rendered with that id. Otherwise, if
        `piece` contains the provider's bytes, these bytes are sent unchanged.
        """
        data = None if self.answer.announced else piece.data
        events = tuple([self._complete_event(event) for event in piece.events])
        content = events[:-1] if piece.last else events
        for event in content:
            fold.add(event)
        if self._increments is not None:  # after every event was accepted
            for event in content:
                self._increments.add(event, trio.current_time() - self._start)
        if piece.data is None and events:
            events = (self._with_usage(events[0]), *events[1:])
        if isinstance(end := events[-1] if events else None, ResponseEnd):
            await self._end_stream(end, fold, Relayed(data, events))
            return
        if self.hold_calls:
            events = tuple([event for event in events if not self._held.hold(event)])
        if data or events:
            await self._put(Relayed(data, events))
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def write_early(self, data: bytes) -> bool:
        """Send the agent a provider's bytes before they are parsed. Return True if the bytes were sent.

        After a result of True, the next piece that the caller sends must contain the same bytes and their events.
        """
        may_pass = self.outcome is None and not self._held and not self.answer.announced
        return may_pass and self.answer.write_early(data)

    async def _end_stream(self, end: ResponseEnd, fold: Fold, piece: Relayed | None = None) -> None:
        fold.add(end)
        response = self.complete(fold.response())
        last = msgspec.structs.replace(end, usage=response.usage, stop_reason=response.stop_reason)
        held = self._held.release() if self._held else ()
        if piece is not None:
            entry: Entry = Relayed(piece.data, (*held, *piece.events[:-1], last))
        else:
            entry = Relayed(None, (*held, last)) if held else last
        await self.settle(Answered(response), entry)
        await self.answer.wait_delivered()

    def _with_usage(self, event: Event) -> Event:
        """Return `event`. If it starts an answer whose usage is unknown, add an estimate of the input tokens."""
        if not isinstance(event, ResponseStart) or event.usage is not None:
            return event
        usage = msgspec.structs.replace(_NO_USAGE, input_tokens=self.estimate_input())
        return msgspec.structs.replace(event, usage=usage)

    def _complete_event(self, event: Event) -> Event:
        match event:
            case ResponseStart():
                answer = self.answer
                return msgspec.structs.replace(
                    event,
                    id=answer.response_id if answer.announced or not event.id else event.id,
                    model=event.model or self.request.model,
                )
            case PartStart(part=ToolCall(id="") as call):
                return PartStart(event.index, msgspec.structs.replace(call, id=call_id(self._facts)))
            case _:
                return event

    def complete(self, response: Response) -> Response:
        """Return `response` with its missing values: ids, the model's name, and an estimate of the token usage.

        The id of the returned response is the id that the agent has already received. If the agent has received no id
        yet, the id is that of `response` or, if that is empty, a new id.
        """
        answer, calls, content = self.answer, False, []
        for part in response.content:
            if type(part) is ToolCall:
                calls = True
                if not part.id:
                    part = msgspec.structs.replace(part, id=call_id(self._facts))
            content.append(part)
        return msgspec.structs.replace(
            response,
            id=answer.response_id if answer.announced or not response.id else response.id,
            model=response.model or self.request.model,
            usage=response.usage or usage_after(self.estimate_input(), response),
            stop_reason=response.stop_reason or settled_stop(None, calls=calls),
            content=tuple(content),
        )

    def estimate_input(self) -> int:
        if self._prompt is None:
            self.rollout.estimator.needed = True
            self._prompt = self.rollout.estimator.input_tokens(self.request)
        return self._prompt

    async def settle_by(self, exc: BaseException) -> None:
        if not self.settled:
            self.cause = exc
            await self.settle(outcome_of(exc, self.dialect))

    @trio.lowlevel.enable_ki_protection
    async def settle(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Set the outcome, record the turn, then end the answer.

        If another task is already recording the turn, do nothing.
        """
        if self.recording:
            return
        turn: Turn | None = None
        try:
            self.outcome, self.recording = outcome, True
            if self._wire is not None:  # the bytes about to be sent are kept with the turn
                self.answer.prepare(outcome, last)
            if last is not None and (events := self.rollout.records.events) is not None:
                events.increments(self.id).last = last
            turn = await self.rollout.records.record(partial(self._turn, outcome))
        except BaseException as exc:
            self.answer.end(Failed(exc))
            if (events := self.rollout.records.events) is not None:
                events.lost(self.id, exc)
            raise
        else:
            self.answer.end(outcome, last)
        finally:
            for budget in self.budgets:
                budget.end(self, turn)
            for budget, draft in self.reserved:
                budget.end(draft, None)
            self.rollout.on_settled(self, turn)

    def _turn(self, outcome: Outcome, number: int) -> Turn:
        rollout = self.rollout
        response = outcome.response if isinstance(outcome, (Answered, Raw)) else None
        if response is None and self.fold is not None:
            response = self.fold.response()
        raw: RawResponse | None = None
        if isinstance(outcome, Raw):
            raw = outcome.sent
        elif self._raw_stream is not None:  # a stream without its end: the bytes so far
            raw = self._raw_stream.sent("stall" if isinstance(outcome, Abandoned) else "reset")
        policy_start, policy_end = (None, None) if self.policy is None else self.policy(response)
        drafts = self.drafts
        if self.open_drafts:
            drafts += tuple([draft.record() for draft in self.open_drafts])
        began_at = self.answer.began_at
        return Turn(
            id=self.id,
            rollout=rollout.id,
            run=rollout.trace.run,
            number=number,
            dialect=self.dialect,
            request=self._kept if self._kept is not None else self.recorded_request(),
            outcome=outcome.kind,
            response=response,
            error=outcome.why,
            conversation=self.claimed,
            attempt=self.attempt,
            started_at=self.started_at,
            first_event=None if began_at is None else began_at - self._start,
            duration=trio.current_time() - self._start,
            attended=bool(self.answer.subscriptions),
            rewritten=bool(self.sampled and response and said_in(response) != said_in(self.sampled())),
            branch=rollout.trace.branch,
            notes=self._notes,
            decisions=self.decisions,
            drafts=drafts,
            tokens=self.tokens() if self.tokens is not None else None,
            policy_start=policy_start,
            policy_end=policy_end,
            agent=self.agent,
            increments=self.kept_increments if rollout.record_increments else None,
            wire=self._wire.view() if self._wire is not None else None,
            raw=raw,
        )

    def recorded_request(self) -> Request:
        """Return the request as the turn records it: without keys, and redacted.

        Parts of the request that earlier recorded requests also contain are the same objects, to save memory.
        """
        if self._kept is None:
            self._kept = self.rollout.records.redactor.request(self.request)
        return self._kept
