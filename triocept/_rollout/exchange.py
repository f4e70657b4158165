"""One caught model call, live.

Rules:

1. One exchange, one outcome: `_settle` is the only place that fixes it, and it fixes it before its first checkpoint.
2. Recorded before released: every recorder and the trace have the turn before the answer gets its end, and so before
   the agent can see the terminal event.
3. An outcome is never lost by cancellation: what was fixed is recorded and released, shielded.
4. Whoever is at work on an exchange that is settled from outside (a hang-up, the end of its rollout) is stopped first,
   and then the turn is recorded; and it is no fault of theirs. The table of who is told what is in `outcome`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, final

import msgspec
import trio

from .._canonical.content import Json, ToolCall
from .._canonical.events import Event, PartStart, ResponseEnd, ResponseStart
from .._canonical.fold import Fold
from .._canonical.given import fit_notes, given_response
from .._canonical.held import HeldCalls
from .._canonical.request import Request
from .._canonical.response import Response, ResponsePart, Usage
from .._contexts import protected_context
from .._trace.conversation import CallKind, Conversation
from .._trace.tokens import Tokens
from .._trace.turn import Turn
from ..errors import AlreadySettled, ExchangeAbandoned, Refusal, RolloutClosed, UpstreamError
from .addresses import call_id, response_id
from .answer import Answer, Entry, Relayed, weight_of
from .outcome import Abandoned, Answered, Failed, Outcome, Refused, error_of, kind_of, outcome_of
from .retries import attempt_of
from .stream import ResponseStream

if TYPE_CHECKING:
    from .budget import Budget
    from .rollout import Rollout

__all__ = ["Answerable", "Exchange", "Worker"]

Answerable = Response | str | ResponsePart
"""What `respond` takes: a whole response, or one part of it; a `str` is text."""


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
class Exchange:
    """One model call of the agent, waiting to be answered. Made by a rollout only.

    It gets exactly one outcome: answered (`respond`, `open_stream`), refused (`refuse`), failed (its handler raised)
    or abandoned (the agent hung up).
    """

    def __init__(
        self,
        rollout: Rollout,
        request: Request,
        *,
        raw: Json,
        headers: Mapping[str, str],
        claimed: Conversation | None,
        retry_key: Hashable,
        query: str = "",
        kind: CallKind | None = None,
    ) -> None:
        self.id: str = f"x_{token_hex(8)}"
        """Its own, and that of its turn."""
        self.rollout = rollout
        """The agent run that it belongs to."""
        self.request = request
        """What the agent asks, as a value."""
        self.raw = raw
        """The agent's document, decoded, as it came."""
        self.headers = headers
        """The agent's headers, names in lower case; those that hold a key say `[redacted]`."""
        self.query = query
        """The query of the agent's URL, e.g. `beta=true`; empty where there is none."""
        self.attempt: int = attempt_of(headers)
        """Which try of the agent's SDK this is, as far as the SDK tells; from 1."""
        self._claimed = Conversation(id=(claimed and claimed.id) or self.id, kind=kind) if kind else claimed
        self._retry_key = retry_key
        self._notes: dict[str, Json] = {}
        self._started_at = time.time()
        self._start = trio.current_time()
        self._first_event: float | None = None
        self._outcome: Outcome | None = None
        self._from_outside = False
        """Whether its outcome came from elsewhere than whoever answers."""
        self._recording = False
        """Whether somebody has begun to record its turn."""
        self._cause: BaseException | None = None
        self._fold: Fold | None = None
        self._on_wait: Callable[[bool], None] | None = None
        self._weight = 0
        """Bytes of the answer that is being streamed, about as much as is kept of it."""
        self._facts = rollout._addresses.dialects.get(request.dialect)
        self._answer = Answer(response_id(self._facts), f"req_{self.id[2:]}")
        self._hold_calls = True
        """Whether the calls of a streamed answer wait for its end; an upstream may be told otherwise."""
        self._held = HeldCalls()
        self._worker: Worker | None = None
        """The handler that is at work on it, where there is one."""
        self._handed_over = False
        self._work_scopes: set[trio.CancelScope] = set()
        self._budgets: tuple[Budget, ...] = ()
        """What it counts against."""
        self._tokens: Callable[[], Tokens] | None = None
        """Makes what the turn says of the tokens; set by an upstream that was asked for them."""

    def __repr__(self) -> str:
        state = kind_of(self._outcome) if self._outcome else "waiting"
        return f"<Exchange {self.id} of rollout {self.rollout.id}: {self.dialect} {self.request.model!r}, {state}>"

    @property
    def dialect(self) -> str:
        """The wire format that the agent speaks."""
        return self.request.dialect

    @property
    def conversation(self) -> Conversation:
        """Whose call it is: the agent's main conversation, a sub-agent's, or a side call such as a title.

        As the agent says; where it says nothing, by the messages, which takes a look at the whole trace.
        """
        if self._claimed is not None and self._claimed.id:
            return self._claimed
        return self.rollout.trace._conversation_of(self._turn(Abandoned(), len(self.rollout.trace)))

    @property
    def settled(self) -> bool:
        """Whether it has its outcome."""
        return self._outcome is not None

    async def respond(self, answer: Answerable) -> None:
        """Answer, whole. An agent that asked for a stream gets one.

        Returns once the answer is recorded and written to the agent's connection (or the agent has hung up
        meanwhile: the answer is in the trace all the same). Of an exchange that its rollout's end has refused meanwhile
        nothing is left to do, and nothing is done.

        Args:
            answer: a `Response`; or one part of it, a `str` being text.

        Raises:
            TypeError, ValueError: that is no answer. The exchange is as it was, and can still be answered.
            AlreadySettled: it has its outcome.
            ExchangeAbandoned: the agent has hung up.
            OSError: (or whatever else the recorder raises) the turn could not be recorded.

        Cancellation: before it begins, nothing has happened; later the answer is recorded and given, only the wait
        for its delivery is cut short.
        """
        try:
            response = given_response(answer)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's
        await self._respond(response)

    async def _respond(self, response: Response, document: bytes | None = None) -> None:
        """Answer, whole; `document` is a provider's own, in the agent's dialect."""
        if await self._begin_outcome():
            return
        if self._fold is not None:
            raise AlreadySettled(f"{self!r} is being answered by a stream")
        await self._settle(Answered(self._complete(response), document))
        await self._answer.wait_delivered()

    def open_stream(self) -> AbstractAsyncContextManager[ResponseStream, bool | None]:
        """Answer piece by piece: `async with exchange.open_stream() as stream: await stream.send("hel")`.

        An agent that did not ask for a stream gets the whole when it is whole.

        Closing: on a clean exit the answer ends with `ResponseEnd`, unless it was sent. Left by an exception, the
        exchange is failed (or refused, if that is a `Refusal`): the agent sees its stream break, never a clean end.
        When the rollout has ended meanwhile, the block ends with the next `send`, and the program goes on behind it.

        Raises:
            AlreadySettled: it has its outcome, or a stream already.
            ExchangeAbandoned: the agent has hung up.
        """
        return self._open_stream()

    @protected_context
    async def _open_stream(
        self, on_wait: Callable[[bool], None] | None = None
    ) -> AsyncIterator[ResponseStream]:
        """`open_stream`; `on_wait` is told when an increment begins to wait for the agent, and when that is over."""
        if not self._is_over:
            self._check_open()
        if self._fold is not None:
            raise AlreadySettled(f"{self!r} is being answered by a stream")
        self.rollout._records.check_free()
        self._fold, self._on_wait = Fold(), on_wait
        stream = ResponseStream(self._send)
        try:
            yield stream
            if not stream.ended and (self._from_outside or not self.settled):
                await stream.end()
        except trio.Cancelled:
            raise  # whoever cancelled says what becomes of it: hang-up, closing, or the handler's wrapper
        except RolloutClosed:
            if not self._is_over:
                raise
        except BaseException as exc:
            try:
                await self._settle_by(exc)
            except Exception as failure:  # of the recorder: it hides no fault
                if isinstance(self._outcome, Failed):
                    both = [exc, failure]
                    raise BaseExceptionGroup("an answer failed, and could not be recorded", both) from None
                raise
            raise

    async def refuse(
        self,
        status: int,
        message: str,
        *,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse, with this HTTP status, in the agent's dialect.

        What each status makes each agent do differs: 404 ends every known agent at once, 429 with `retry_after`
        makes nearly all of them wait and try again. In mid-stream the status is lost: the agent gets its dialect's
        in-band error and a broken stream.

        Args:
            status: 400 to 599.
            message: what the agent reads.
            retry_after: seconds.
            should_retry: what `x-should-retry` says; None sends no such header.
            code: the dialect's own error code; None chooses by status.
            headers: further response headers, such as rate limits (`x-ratelimit-remaining-tokens`, …).

        Raises:
            AlreadySettled, ExchangeAbandoned: as `respond`.
            ValueError, TypeError: as `Refusal`.

        Cancellation: as `respond`.
        """
        refusal = Refusal(
            status, message, retry_after=retry_after, should_retry=should_retry, code=code, headers=headers
        )
        if await self._begin_outcome():
            return
        await self._settle(Refused(refusal))
        await self._answer.wait_delivered()

    async def forward(self, upstream: Callable[[Exchange], Awaitable[None]]) -> None:
        """Let `upstream` (any handler) answer."""
        await upstream(self)

    def annotate(self, **data: Json) -> None:
        """Put notes into the turn: anything that JSON can say. One that was settled from outside takes none any more.

        Raises:
            AlreadySettled: the turn is written.
            TypeError: JSON cannot say that.
        """
        if self.settled and not self._from_outside:
            raise AlreadySettled(f"{self!r}: its turn is written, and takes no more notes")
        notes = fit_notes(data)
        if not self.settled:  # a turn that is recorded stays as it is
            self._notes.update(notes)

    def _check_open(self) -> None:
        if isinstance(self._outcome, Abandoned):
            raise ExchangeAbandoned(f"{self!r}: the agent hung up")
        if self._outcome is not None:
            raise AlreadySettled(f"{self!r} has its outcome already")

    @property
    def _is_over(self) -> bool:
        """Whether the end of its rollout has settled it: it takes no answer, and that is nobody's fault."""
        return self._from_outside and not isinstance(self._outcome, Abandoned)

    async def _begin_outcome(self) -> bool:
        """The checkpoint before an outcome; whether there is nothing left to do."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.rollout._records.check_free()
        if self._is_over:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return True
        self._check_open()
        return False

    @trio.lowlevel.enable_ki_protection
    async def _hang_up(self) -> None:
        """Nobody reads its answer any more."""
        if self.settled or self._answer.attended:
            return
        if self.rollout.on_hangup == "finish" and self._handed_over:
            return
        await self._settle(self._fix_from_outside(Abandoned()))

    def _fix_from_outside(self, outcome: Outcome) -> Outcome:
        """Fix its outcome though somebody may be at work on its answer, and stop that work. To be recorded."""
        self._outcome, self._from_outside = outcome, True
        for scope in self._work_scopes:
            scope.cancel()
        if self._worker is not None:
            self._worker.stop()
        return outcome

    @contextmanager
    def _work(self) -> Iterator[None]:
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
            self._check_open()
        self._work_scopes.add(scope)
        try:
            with scope:
                yield
        except (AlreadySettled, RolloutClosed, UpstreamError):
            if not scope.cancel_called:  # else it is no fault of whoever was at work
                raise
        finally:
            self._work_scopes.discard(scope)
        if scope.cancel_called and isinstance(self._outcome, Abandoned):
            self._check_open()

    @trio.lowlevel.enable_ki_protection
    async def _send(self, event: Entry) -> None:
        """One increment of a streamed answer."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_over:
            raise RolloutClosed(
                f"{self!r}: its rollout has ended, and nobody waits for the rest of this stream"
            )
        self._check_open()
        assert self._fold is not None
        self._weigh(event)
        if isinstance(event, Relayed):
            await self._pass_on(event, self._fold)
            return
        if isinstance(event, ResponseEnd):
            await self._end_stream(event)
            return
        event = self._complete_event(event)
        self._fold.add(event)
        if self._hold_calls and self._held.hold(event):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        if isinstance(event, ResponseStart) and event.usage is None:
            tokens = self.rollout._estimator.input_tokens(self.request)
            event = msgspec.structs.replace(
                event, usage=Usage(input_tokens=tokens, output_tokens=0, estimated=True)
            )
        await self._put(event)

    def _weigh(self, entry: Entry) -> None:
        self._weight += weight_of(entry)
        if self._weight > (most := self.rollout._addresses.limits.answer_bytes):
            raise Refusal(502, f"the answer is over {most} bytes", should_retry=False)

    async def _pass_on(self, piece: Relayed, fold: Fold) -> None:
        """One piece of a provider's stream; its bytes go on as they are."""
        events = tuple(self._complete_event(event) for event in piece.events)
        for event in events[:-1] if piece.last else events:
            fold.add(event)
        if isinstance(end := events[-1] if events else None, ResponseEnd):
            await self._end_stream(end, Relayed(piece.data, events))
            return
        if self._hold_calls:
            events = tuple([event for event in events if not self._held.hold(event)])
        if piece.data or events or not self._held.any:
            await self._put(Relayed(piece.data, events))
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _write_early(self, data: bytes) -> bool:
        """Give the agent a provider's bytes now, if that can be done. They are the whole data of the piece that is sent
        next, which says what is in them."""
        return self._outcome is None and not self._held.any and self._answer.write_early(data)

    async def _put(self, entry: Entry) -> None:
        if self._first_event is None:
            self._first_event = trio.current_time() - self._start
        await self._answer.put(entry, self._on_wait)

    async def _end_stream(self, end: ResponseEnd, piece: Relayed | None = None) -> None:
        assert self._fold is not None
        self._fold.add(end)
        response = self._complete(self._fold.response())
        last = msgspec.structs.replace(end, usage=response.usage, stop_reason=response.stopped)
        held = self._held.release()
        if piece is not None:
            entry: Entry = Relayed(piece.data, (*held, *piece.events[:-1], last))
        else:
            entry = Relayed(None, (*held, last)) if held else last
        await self._settle(Answered(response), entry)
        await self._answer.wait_delivered()

    def _complete_event(self, event: Event) -> Event:
        """The event with the ids and the name that nobody bothered to give."""
        match event:
            case ResponseStart():
                return msgspec.structs.replace(
                    event, id=self._response_id(event.id), model=event.model or self.request.model
                )
            case PartStart(part=ToolCall(id="") as call):
                return PartStart(event.index, msgspec.structs.replace(call, id=call_id(self._facts)))
            case _:
                return event

    def _response_id(self, given: str) -> str:
        """The one id of the answer: what the agent was told already, else what is given, else ours."""
        return self._answer.response_id if self._answer.announced or not given else given

    def _complete(self, response: Response) -> Response:
        """The response with what nobody bothered to say: ids, the model's name, an estimate of the usage."""
        return msgspec.structs.replace(
            response,
            id=self._response_id(response.id),
            model=response.model or self.request.model,
            usage=response.usage or self.rollout._estimator.usage(self.request, response),
            stop_reason=response.stopped,
            content=tuple([self._with_id(part) for part in response.content]),
        )

    def _with_id(self, part: ResponsePart) -> ResponsePart:
        if type(part) is ToolCall and not part.id:
            return msgspec.structs.replace(part, id=call_id(self._facts))
        return part

    async def _settle_by(self, exc: BaseException) -> None:
        """Fix the outcome that an exception of whoever answers amounts to, if there is none yet."""
        if not self.settled:
            self._cause = exc
            await self._settle(outcome_of(exc, self.dialect))

    @trio.lowlevel.enable_ki_protection
    async def _settle(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Fix the outcome, record the turn, release the answer. If somebody else is at that, nothing."""
        if self._recording:
            return
        turn: Turn | None = None
        try:
            self._outcome, self._recording = outcome, True
            turn = await self.rollout._records.record(lambda number: self._turn(outcome, number))
        except BaseException as exc:
            self._answer.end(Failed(exc))
            raise
        else:
            self._answer.end(outcome, last)
        finally:
            self.rollout._calls.end(self, turn)
            for budget in self._budgets:
                budget.end(self, turn)
            if not self._handed_over:
                self.rollout._arrivals.discard(self)

    def _turn(self, outcome: Outcome, number: int) -> Turn:
        response = outcome.response if isinstance(outcome, Answered) else None
        if response is None and self._fold is not None:
            response = self._fold.response()
        return Turn(
            id=self.id,
            rollout=self.rollout.id,
            run=self.rollout.trace.run,
            number=number,
            dialect=self.dialect,
            request=self.rollout.trace._intern(self.request),
            outcome=kind_of(outcome),
            response=response,
            error=error_of(outcome),
            conversation=self._claimed,
            attempt=self.attempt,
            started_at=self._started_at,
            first_event=self._first_event,
            duration=trio.current_time() - self._start,
            branch=self.rollout.trace.branch,
            notes=self._notes,
            tokens=self._tokens() if self._tokens is not None else None,
        )
