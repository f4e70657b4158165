"""What becomes of one caught model call: `Exchange` is its face.

Rules:

1. One exchange, one outcome: `settle` is the only place that fixes it, and it fixes it before its first checkpoint.
2. Recorded before released: every recorder and the trace have the turn before the answer gets its end, and so before
   the agent can see the terminal event.
3. An outcome is never lost by cancellation: what was fixed is recorded and released, shielded.
4. Whoever is at work on an exchange that is settled from outside (a hang-up, the end of its rollout) is stopped first,
   and then the turn is recorded; and it is no fault of theirs. The table of who is told what is in `outcome`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from os import urandom
from typing import TYPE_CHECKING, Protocol, final

import msgspec
import trio

from .._canonical.content import Json, Text, ToolCall
from .._canonical.events import Event, Fold, HeldCalls, PartStart, ResponseEnd, ResponseStart
from .._canonical.given import fit_notes
from .._canonical.request import Request
from .._canonical.response import Response, Usage, said_in, settled_stop
from .._canonical.tokens import Estimator
from .._trace.conversation import CallKind, Conversation
from .._trace.increments import IncrementLog, Increments
from .._trace.raw import RawResponse
from .._trace.tokens import Tokens
from .._trace.trace import Trace
from .._trace.turn import Turn
from .._trace.wire import WireLog
from .._util.contexts import protected_context
from ..errors import AlreadySettled, ExchangeAbandoned, Refusal, RolloutClosed, UpstreamError
from .addresses import Addresses, call_id
from .answer import Answer, Entry, Increment, RawPiece, Relayed, weight_of
from .budget import Budget
from .calls import RETRY_COUNT, attempt_of
from .outcome import Abandoned, Answered, Failed, Outcome, Raw, Refused, outcome_of
from .raw_stream import RawBody, RawStream, pieces_of
from .record_writer import RecordWriter

if TYPE_CHECKING:
    from .exchange import Exchange

_UNTOLD = Usage(input_tokens=0, output_tokens=0, estimated=True)


class Home(Protocol):
    """The rollout of an exchange, as the exchange knows it."""

    upstream_failed: bool
    """A provider's failure was said in the log."""

    @property
    def id(self) -> str: ...
    @property
    def on_hangup(self) -> str: ...
    @property
    def record_increments(self) -> bool: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def records(self) -> RecordWriter: ...
    @property
    def estimator(self) -> Estimator: ...
    @property
    def addresses(self) -> Addresses: ...
    def on_settled(self, exchange: ExchangeState, turn: Turn | None) -> None:
        """It has its outcome, and this turn, unless it could not be recorded."""


class Worker:
    """A handler at work on an exchange.

    Args:
        task: the one that it runs in.
        scope: around it.
    """

    __slots__ = ("_scope", "_task")

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        self._task = task
        self._scope = scope

    def stop(self) -> None:
        """Cancel it, unless it is the one that asks: a handler may stop its own rollout, and go on."""
        if trio.lowlevel.current_task() is not self._task:
            self._scope.cancel()


@final
class ExchangeState:
    """What an `Exchange` is about: its call, its outcome, its answer. Its program holds the other.

    Args:
        rollout: the agent run that it belongs to.
        request: the call.
        raw, headers, query: how it came.
        claimed: the conversation that the agent says it belongs to.
        retry_key: what a retry of it has, too.
        kind: whose call it is, where the path said so.
        wire: what is kept of how it goes over the wire; None: nothing.
    """

    outcome: Outcome | None = None
    from_outside: bool = False
    """Whether its outcome came from elsewhere than whoever answers."""
    recording: bool = False
    """Whether somebody has begun to record its turn."""
    cause: BaseException | None = None
    fold: Fold | None = None
    hold_calls: bool = True
    """Whether the calls of a streamed answer wait for its end; an upstream may be told otherwise."""
    worker: Worker | None = None
    """The handler that is at work on it, where there is one."""
    handed_over: bool = False
    face: Exchange | None = None
    """What its program holds, perhaps weakly, from when it is handed over until it is recorded."""
    budgets: tuple[Budget, ...] = ()
    """What it counts against."""
    tokens: Callable[[], Tokens] | None = None
    """Makes what the turn says of the tokens; set by an upstream that was asked for them."""
    sampled: Callable[[], Response] | None = None
    """What an upstream said that the program has asked for it, and may answer otherwise than; set by that one."""
    _kept: Request | None = None
    _raw_stream: RawStream | None = None
    """Raw bytes that are sent as they are made."""
    _weight: int = 0
    """Bytes of the answer that is being streamed, about as much as is kept of it."""

    def __init__(
        self,
        rollout: Home,
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

    def __repr__(self) -> str:
        state = self.outcome.kind if self.outcome else "waiting"
        return f"<Exchange {self.id} of rollout {self.rollout.id}: {self.dialect} {self.request.model!r}, {state}>"

    @property
    def conversation(self) -> Conversation:
        """See `Exchange.conversation`."""
        if self.claimed is not None and self.claimed.id:
            return self.claimed
        return self.rollout.records.writer.conversation_of(self._turn(Abandoned(), len(self.rollout.trace)))

    @property
    def settled(self) -> bool:
        """Whether it has its outcome."""
        return self.outcome is not None

    def keep_increments(self) -> None:
        """Keep in which pieces its answer comes, from here on, for whoever answers: its turn has them only where its
        rollout records them."""
        if self._increments is None:
            self._increments = IncrementLog()

    @property
    def kept_increments(self) -> Increments | None:
        """In which pieces its answer came; None: nobody kept that, or it came whole."""
        return self._increments.increments() if self._increments is not None else None

    @property
    def first_event(self) -> float | None:
        """Seconds from its call to the first increment of its answer; None: there was none."""
        return None if self.answer.began_at is None else self.answer.began_at - self._start

    @property
    def elapsed(self) -> float:
        """Seconds since its call."""
        return trio.current_time() - self._start

    async def respond(self, response: Response, document: bytes | None = None) -> None:
        """Answer, whole; `document` is a provider's own, in the agent's dialect."""
        if await self._begin_outcome():
            return
        await self.settle(Answered(self.complete(response), document))
        await self.answer.wait_delivered()

    async def respond_raw(self, raw: Raw) -> None:
        """Answer with raw bytes."""
        if await self._begin_outcome():
            return
        self.answer.check_raw(raw.sent)
        await self.settle(raw)
        await self.answer.wait_delivered()

    async def stream_raw(self, head: RawResponse, body: RawBody, said: Response | None) -> None:
        """Answer with raw bytes as they are made; `said` is what they say, where somebody knows."""
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
        """Answer with raw bytes, piece by piece; closing as of `open_stream`."""
        self.check_unbegun()
        self.answer.check_raw(head)
        most = self.rollout.addresses.limits.answer_bytes
        stream = self._raw_stream = RawStream(head, most, self._send_raw, self._pause)
        try:
            yield stream
            if self.from_outside or not self.settled:
                await self._end_raw(Raw(stream.sent(), said, complete=said is not None))
        except BaseException as exc:
            if not await self.leave_stream(exc):
                raise

    @trio.lowlevel.enable_ki_protection
    async def _send_raw(self, piece: RawPiece) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_awaited()
        await self.answer.put(piece)

    async def _pause(self, seconds: float) -> None:
        with self.work():
            await trio.sleep(seconds)
        self._check_awaited()

    @trio.lowlevel.enable_ki_protection
    async def _end_raw(self, raw: Raw) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_awaited()
        await self.settle(raw)
        await self.answer.wait_delivered()

    async def leave_stream(self, exc: BaseException) -> bool:
        """The block of a stream was left by this, its own end included; whether that ends there."""
        if isinstance(exc, RolloutClosed):
            return self._is_over
        if isinstance(exc, trio.Cancelled):  # whoever cancelled says what becomes of it
            return False
        try:
            await self.settle_by(exc)
        except Exception as failure:  # of the recorder: it hides no fault
            if isinstance(self.outcome, Failed):
                both = [exc, failure]
                raise BaseExceptionGroup("an answer failed, and could not be recorded", both) from None
            raise
        return False

    async def refuse(self, refusal: Refusal) -> None:
        """Refuse."""
        if await self._begin_outcome(whole=False):
            return
        await self.settle(Refused(refusal))
        await self.answer.wait_delivered()

    def annotate(self, **data: Json) -> None:
        """See `Exchange.annotate`."""
        if self.settled and not self.from_outside:
            raise AlreadySettled(f"{self!r}: its turn is written, and takes no more notes")
        notes = fit_notes(data)
        if not self.settled:  # a turn that is recorded stays as it is
            self._notes.update(notes)

    def check_open(self) -> None:
        if isinstance(self.outcome, Abandoned):
            raise ExchangeAbandoned(f"{self!r}: the agent hung up")
        if self.outcome is not None:
            raise AlreadySettled(f"{self!r} has its outcome already")

    def _check_awaited(self) -> None:
        """See whether somebody waits for the rest of a stream."""
        if self._is_over:
            raise RolloutClosed(
                f"{self!r}: its rollout has ended, and nobody waits for the rest of this stream"
            )
        self.check_open()

    @property
    def _is_over(self) -> bool:
        """Whether the end of its rollout has settled it: it takes no answer, and that is nobody's fault."""
        return self.from_outside and not isinstance(self.outcome, Abandoned)

    async def _begin_outcome(self, *, whole: bool = True) -> bool:
        """The checkpoint before an outcome, `whole` where no stream may have begun; whether there is nothing left to
        do."""
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
        """See whether a stream may begin: it may where the end of its rollout has come first, which takes it in."""
        if self.outcome is not None and not self._is_over:
            self.check_open()
        if self.fold is not None or self._raw_stream is not None:
            raise self._is_streamed()
        self.rollout.records.check_free()

    def _is_streamed(self) -> AlreadySettled:
        return AlreadySettled(f"{self!r} is being answered by a stream")

    @trio.lowlevel.enable_ki_protection
    async def hang_up(self) -> None:
        """Nobody reads its answer any more."""
        if self.outcome is not None or self.answer.subscriptions:
            return
        if self.rollout.on_hangup == "finish" and self.handed_over:
            return
        await self.settle(self.fix_from_outside(Abandoned()))

    def fix_from_outside(self, outcome: Outcome) -> Outcome:
        """Fix its outcome though somebody may be at work on its answer, and stop that work. To be recorded."""
        self.outcome, self.from_outside = outcome, True
        for scope in self._work_scopes:
            scope.cancel()
        if self.worker is not None:
            self.worker.stop()
        return outcome

    @contextmanager
    def work(self) -> Iterator[None]:
        """Work on its answer, that makes no sense any more once it has its outcome from elsewhere: by the agent's
        hang-up, or the end of its rollout.

        Raises:
            AlreadySettled: whoever answers has settled it before.
            ExchangeAbandoned: the agent has hung up.
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
            if not scope.cancel_called:  # else it is no fault of whoever was at work
                raise
        finally:
            self._work_scopes.discard(scope)
        if scope.cancel_called and isinstance(self.outcome, Abandoned):
            self.check_open()

    @trio.lowlevel.enable_ki_protection
    async def send(self, event: Increment) -> None:
        """One increment of a streamed answer."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.outcome is not None:
            self._check_awaited()
        fold = self.fold
        assert fold is not None
        self._weight += weight_of(event)
        if self._weight > (most := self.rollout.addresses.limits.answer_bytes):
            raise Refusal(502, f"the answer is over {most} bytes", should_retry=False)
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
        if isinstance(event, ResponseStart) and event.usage is None:
            tokens = self.rollout.estimator.input_tokens(self.request)
            usage = msgspec.structs.replace(_UNTOLD, input_tokens=tokens)
            event = msgspec.structs.replace(event, usage=usage)
        await self.answer.put(event)

    async def _pass_on(self, piece: Relayed, fold: Fold) -> None:
        """One piece of a provider's stream; its bytes go on as they are, unless they have another id than some agent
        was told."""
        data = None if self.answer.announced else piece.data
        events = tuple(self._complete_event(event) for event in piece.events)
        for event in events[:-1] if piece.last else events:
            fold.add(event)
            if self._increments is not None:
                self._increments.add(event, trio.current_time() - self._start)
        if isinstance(end := events[-1] if events else None, ResponseEnd):
            await self._end_stream(end, fold, Relayed(data, events))
            return
        if self.hold_calls:
            events = tuple([event for event in events if not self._held.hold(event)])
        if data or events:
            await self.answer.put(Relayed(data, events))
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def write_early(self, data: bytes) -> bool:
        """Give the agent a provider's bytes now, if that can be done. They are the whole data of the piece that is sent
        next, which says what is in them."""
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

    def _complete_event(self, event: Event) -> Event:
        """The event with the ids and the name that nobody bothered to give."""
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
        """The response with what nobody bothered to say: ids, the model's name, an estimate of the usage. Its own id is
        what the agent was told already, else what is given, else ours."""
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
            usage=response.usage or self.rollout.estimator.usage(self.request, response),
            stop_reason=response.stop_reason or settled_stop(None, calls=calls),
            content=tuple(content),
        )

    def estimate_input(self) -> int:
        """The tokens of its prompt, about."""
        return self.rollout.estimator.input_tokens(self.request)

    async def settle_by(self, exc: BaseException) -> None:
        """Fix the outcome that an exception of whoever answers amounts to, if there is none yet."""
        if not self.settled:
            self.cause = exc
            await self.settle(outcome_of(exc, self.dialect))

    @trio.lowlevel.enable_ki_protection
    async def settle(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Fix the outcome, record the turn, release the answer. If somebody else is at that, nothing."""
        if self.recording:
            return
        turn: Turn | None = None
        try:
            self.outcome, self.recording = outcome, True
            if self._wire is not None:  # what is about to leave is kept with the turn
                self.answer.prepare(outcome, last)
            turn = await self.rollout.records.record(partial(self._turn, outcome))
        except BaseException as exc:
            self.answer.end(Failed(exc))
            raise
        else:
            self.answer.end(outcome, last)
        finally:
            self.rollout.on_settled(self, turn)

    def _turn(self, outcome: Outcome, number: int) -> Turn:
        answer = self.answer
        response = outcome.response if isinstance(outcome, Answered | Raw) else None
        if response is None and self.fold is not None:
            response = self.fold.response()
        return Turn(
            id=self.id,
            rollout=self.rollout.id,
            run=self.rollout.trace.run,
            number=number,
            dialect=self.dialect,
            request=self._kept or self.recorded_request(),
            outcome=outcome.kind,
            response=response,
            error=outcome.why,
            conversation=self.claimed,
            attempt=self.attempt,
            started_at=self.started_at,
            first_event=None if answer.began_at is None else answer.began_at - self._start,
            duration=trio.current_time() - self._start,
            attended=bool(answer.subscriptions),
            rewritten=(
                self.sampled is not None
                and response is not None
                and said_in(response) != said_in(self.sampled())
            ),
            branch=self.rollout.trace.branch,
            notes=self._notes,
            tokens=self.tokens() if self.tokens is not None else None,
            agent=self.agent,
            increments=self.kept_increments if self.rollout.record_increments else None,
            wire=self._wire.view() if self._wire is not None else None,
            raw=self._raw_of(outcome) if self._raw_stream is not None or isinstance(outcome, Raw) else None,
        )

    def _raw_of(self, outcome: Outcome) -> RawResponse | None:
        """The raw bytes that its agent was sent; of a stream that was not ended what there is of it, and what became
        of the connection."""
        if isinstance(outcome, Raw):
            return outcome.sent
        if self._raw_stream is None:
            return None
        return self._raw_stream.sent("stall" if isinstance(outcome, Abandoned) else "reset")

    def recorded_request(self) -> Request:
        """Its call as it is recorded: redacted, its messages shared with those of other calls; made once."""
        if self._kept is None:
            self._kept = self.rollout.records.redactor.request(self.request)
        return self._kept
