"""The state of one agent run. Programs use its facade, `Rollout`."""

from __future__ import annotations

import logging
import platform
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import trio

from .._canonical.content import Json, ToolCall
from .._canonical.form import arguments_value
from .._canonical.given import fit_metadata
from .._canonical.memory import Memory
from .._canonical.price import Price
from .._canonical.request import Request
from .._canonical.resent import BodyReader
from .._canonical.tokens import Estimator, estimate_input_tokens
from .._process.watcher import Watcher
from .._trace.conversation import CallKind
from .._trace.entries import Intent, Opening
from .._trace.recorder import Recorder, check_recorder
from .._trace.redaction import Redaction
from .._trace.trace import Trace
from .._trace.turn import Branch, Turn
from .._trace.wire import WireLog
from .._util.checks import check_bool, check_choice, check_str, check_type
from .._util.failures import raise_all, run_each
from .._util.limits import EndpointLimits
from ..errors import GateBypassed, LimitReached, MissingPrice, Refusal
from .addresses import Addresses, Reach
from .answer import Answer, ClientGone, Condition, Subscription
from .budget import Budget, Limits
from .calls import Arrivals, Calls, Deliver, OnRetry, Service, claimed_conversation, retry_key
from .children import Children
from .collecting import Collector, collector
from .embedding import Embed
from .event_sender import EventReceiver, EventSender
from .exchange import Exchange
from .exchange_state import ExchangeState
from .gate import GateState, gate_of
from .handler import Handler, configured_model
from .mistakes import warn_of_unknown_tools
from .moderation import Moderate
from .options import OnFault, OnHangup, RolloutOptions
from .outcome import Answered, Failed, Outcome, Raw, Refused, refused_after
from .record_writer import RecordWriter
from .registry import Refusals, Registry
from .services import Services

if TYPE_CHECKING:
    from .rollout import Rollout

T = TypeVar("T")
Step: TypeAlias = Callable[[], Awaitable[None]]

log = logging.getLogger("triocept.rollout")

VERSIONS = {"triocept": version("triocept"), "python": platform.python_version()}
DELIVERY_GRACE = 1.0
"""Maximum seconds that a closing rollout waits until its agents have read their answers."""


@final
class RolloutState:
    """The state of an agent run, such as its exchanges, connections and trace. Programs use its facade, `Rollout`.

    Args:
        addresses: the URLs of the rollout.
        registry: the registry for the rollout's key.
        watcher: the object that ends the rollout's agents if this program is killed.
        options: keyword arguments of `open_rollout`. These options have priority over the defaults in the following
            arguments.
        recorder: default recorder.
        redaction: default redaction.
        embed: default function for embeddings.
        moderate: default function for moderations.
        record_increments, record_wire: default values of these options.
        on_event: the function that receives the events of the rollout. If None, no events are created.
        branch: the place in the parent's trace where the rollout branches off.
        parent: the rollout that this rollout is part of.
    """

    public: Rollout
    """The public `Rollout`. The constructor of `Rollout` sets this attribute."""

    def __init__(
        self,
        addresses: Addresses,
        registry: Registry[RolloutState],
        watcher: Watcher,
        options: RolloutOptions,
        *,
        recorder: Recorder | None = None,
        redaction: Redaction | None = None,
        embed: Embed | None = None,
        moderate: Moderate | None = None,
        record_increments: bool = False,
        record_wire: bool = False,
        on_event: EventReceiver | None = None,
        branch: Branch | None = None,
        parent: RolloutState | None = None,
    ) -> None:
        id = options.get("id")  # noqa: A001 - the field's own word
        model = _given(options.get("model"), parent.model if parent is not None else "triocept")
        on_hangup: OnHangup = _given(options.get("on_hangup"), parent.on_hangup if parent else "cancel")
        on_retry: OnRetry = _given(options.get("on_retry"), parent.calls.on_retry if parent else "join")
        on_fault: OnFault = _given(options.get("on_fault"), "cancel")
        recorder = _given(options.get("recorder"), recorder)
        if parent is not None:
            record_increments, record_wire = parent.record_increments, parent.record_wire
        keeps = _given(options.get("record_increments"), record_increments)
        keeps_wire = _given(options.get("record_wire"), record_wire)
        limits = options.get("limits")
        check_str("model", model)
        check_choice("on_hangup", on_hangup, OnHangup)
        check_choice("on_retry", on_retry, OnRetry)
        check_choice("on_fault", on_fault, OnFault)
        redact = _given(options.get("redact"), parent.redaction if parent is not None else redaction)
        if redact is not None:
            check_type("redact", redact, Redaction, "a Redaction", 'write Redaction([r"\\d{16}"])')
        self.redaction: Redaction | None = redact
        above_collector = parent.collector if parent is not None else None
        self.collector: Collector | None = above_collector or collector()
        """The collector that receives all entries of the rollout, in addition to the rollout's own recorder."""
        metadata = fit_metadata(options.get("metadata"))
        if self.collector is not None:
            metadata = self.collector.metadata | metadata
        check_bool("record_increments", keeps)
        check_bool("record_wire", keeps_wire)
        if limits is not None:
            hint = f"write Limits(turns={limits if isinstance(limits, int) else '…'})"
            if isinstance(limits, EndpointLimits):
                hint = "pass EndpointLimits to serve_endpoint"
            check_type("limits", limits, Limits, "a Limits", hint)
        if recorder is not None:
            check_recorder(recorder)
        if self.collector is not None and (parent is None or recorder is not parent.records.recorder):
            recorder = self.collector.beside(recorder)
        if id is not None:
            check_str("id", id)
        if id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", id):
            raise ValueError(
                "id must consist of 1 to 128 letters, digits and the characters . _ ~ -, and begin with a letter or a "
                f"digit, because the id is part of URLs; it is {id!r}"
            )
        self.id: str = id if id is not None else f"r_{token_hex(8)}"
        self.api_key: str = f"sk-triocept-{token_urlsafe(32)}"
        self.model: str = model
        self.on_hangup: OnHangup = on_hangup
        self.on_fault: OnFault = on_fault
        self.parent: RolloutState | None = parent
        self.refusals: Refusals = Refusals()
        """Requests to this rollout that the endpoint refused before they became model calls."""
        self.faults: list[BaseException] = []
        """Errors of the rollout so far, without duplicates."""
        self.record_increments: bool = keeps
        self.record_wire: bool = keeps_wire
        budget = parent.budget if parent is not None else None
        if limits is not None or budget is not None:
            budget = Budget(limits or Limits(), parent=budget, on_reached=self.finish)
        self.budget: Budget | None = budget
        above = parent.prices if parent is not None else None
        self.prices: Mapping[str, Price] | None = limits.prices if limits and limits.prices else above
        run = f"run_{token_hex(8)}"
        self.opening: Opening = Opening(
            rollout=self.id, run=run, at=time.time(), versions=VERSIONS, metadata=metadata, branch=branch
        )
        self.trace: Trace = Trace(self.id, run=run, branch=branch, prices=self.prices, opening=self.opening)
        self.memory: Memory = Memory()
        self.bodies: BodyReader = BodyReader()
        """Reader of request bodies. The reader keeps the latest large body of each conversation, because the next body
        repeats most of this body."""
        self.estimator: Estimator = Estimator()
        self.handler: Handler | None = None
        """The handler that answers the rollout's exchanges. None if the rollout has no handler."""
        self.at_work: set[ExchangeState] = set()
        """Exchanges for which a handler is still running, even if the exchanges are settled."""
        self.rested: Condition = Condition()
        """Condition that is notified when a handler has returned."""
        self.addresses: Addresses = addresses
        self.registry: Registry[RolloutState] = registry
        self.watcher: Watcher = watcher
        if parent is not None and parent.records.events is not None:
            on_event = parent.records.events.receiver
        self.records: RecordWriter = RecordWriter(
            self.trace,
            recorder,
            redaction=self.redaction,
            parent=parent.records if parent is not None else None,
            events=EventSender(self, on_event) if on_event is not None else None,
        )
        self.arrivals: Arrivals = Arrivals()
        self._announced = 0
        """Number of calls that were recorded when they arrived, before they were put into the queue."""
        self._lacks_price = False
        self.unknown_tools: set[str] = set()
        """Names of tools that were already logged, because an answer called them although its request did not offer
        them."""
        self.on_unknown_tools: Callable[[str], object] | None = log.warning
        """Function that is called with a text if an answer calls tools that its request did not offer. None if the
        command line reports such calls itself."""
        self.logs_unused_replies = True
        """False if the command line or a test reports the unused replies of a script."""
        self.other_requests: dict[str, None] = {}
        """Requests that no handler answers, such as `GET /models`, without duplicates."""
        self.upstream_failed = False
        """True if the log already contains a failure of a provider."""
        self.ending: Refusal | None = None
        self._finishes = False
        """True if a limit ends the rollout; open calls are then finished, not refused."""
        self.calls: Calls = Calls(on_retry, self.records.redactor.request_as_given)
        self.services: Services = Services(
            _given(options.get("tools"), ()),
            user=options.get("user"),
            stop=options.get("stop"),
            state=options.get("state"),
            state_type=options.get("state_type"),
            embed=_given(options.get("embed"), parent.services.embedder if parent else embed),
            moderate=_given(options.get("moderate"), parent.services.moderator if parent else moderate),
        )
        gate = options.get("gate")
        self.gate: GateState = GateState(self, None if gate is None else gate_of(gate))
        self.children: Children = Children(self)
        self.closing: trio.Event = trio.Event()
        self.ended: trio.Event = trio.Event()
        """Set when the rollout accepts no more calls, and refuses the waiting calls."""
        self.on_end: set[Callable[[], object]] = set()
        """Functions that are called when `ended` is set; for example, to close the agent's connections."""
        self._held_url: str | None = None
        """The public URL that was last given to an agent."""
        self.fail: Callable[[BaseException], None] | None = None
        """Function that cancels the body of the rollout's block. The block then raises the error with which the
        function was called.

        This is None while the body does not run."""
        self.report: Callable[[BaseException], None] | None = None
        """Function that reports an error to the code that opened the rollout, if no other task can receive the error.
        It is set until the rollout has closed."""

    @property
    def state_key(self) -> str | None:
        return self.services.state_key

    @property
    def agents_own(self) -> RolloutState:
        """The rollout of the agent, which is this rollout itself.

        `_DraftHome` replaces the rollout for the exchange of a draft. There, this attribute is the agent's rollout.
        """
        return self

    def on_settled(self, exchange: ExchangeState, turn: Turn | None) -> None:
        """Remove a settled exchange from the open calls, and add the tool calls of its answer to the gate.

        `turn` is None if the exchange could not be recorded.
        """
        exchange.facade = None
        if self.gate.active and isinstance(outcome := exchange.outcome, Answered | Raw):
            self.gate.add(exchange, outcome.response)
        self.calls.end(exchange, turn)
        if not exchange.handed_over:
            self.arrivals.discard(exchange)
        if turn is not None and (response := turn.response) is not None:
            for part in response.content:
                if type(part) is ToolCall:  # nearly all answers of a chat have no tool call
                    warn_of_unknown_tools(self, turn, response.tool_calls)
                    break

    def outlives(self, error: BaseException) -> bool:
        """Return True if the rollout stays open after `error`.

        An error that ends programs, such as KeyboardInterrupt, always ends the rollout. A bypassed gate always ends the
        rollout, too.
        """
        stays = isinstance(error, Exception) and not isinstance(error, GateBypassed)
        return self.on_fault == "stay" and stays

    def fault_within(self) -> BaseException | None:
        """Return the fault that may have cancelled the body of this rollout, or of a rollout above it.

        Return None if there is no such fault.
        """
        arrivals, parent = self.arrivals, self.parent
        own = next((fault for fault in self.faults if not self.outlives(fault)), None)
        return arrivals.fault or arrivals.failed or own or (parent and parent.fault_within())

    def hold(self, reach: Reach) -> None:
        """Check that `reach` is valid.

        If `reach` is `public`, remember the current public URL, because an agent will use it.
        """
        if reach not in ("local", "public"):
            raise ValueError(f"reach must be 'local' or 'public', not {reach!r}")
        if reach == "public":
            self._held_url = self.addresses.public_url

    def check_untaken(self) -> None:
        if self.handler is not None:
            raise RuntimeError(
                f"rollout {self.id} has a handler, which receives every exchange, so a loop would receive none. For a "
                "loop, open the rollout without a handler"
            )

    async def count_input_tokens(self, request: Request) -> int:
        count = getattr(self.handler, "count_input_tokens", None)
        counted = None if count is None else await count(request)
        return estimate_input_tokens(request) if counted is None else int(counted)

    def reset_handler(self) -> None:
        reset = getattr(self.handler, "reset", None)
        if reset is None:
            text = f"the handler of rollout {self.id} has no `reset` method (a script has one), so it cannot be reset"
            raise Refusal(404, text, should_retry=False)
        reset()

    # Called by the server

    @trio.lowlevel.enable_ki_protection
    async def answer_call(
        self,
        request: Request,
        deliver: Deliver,
        *,
        raw: Json,
        headers: Mapping[str, str],
        query: str = "",
        kind: CallKind | None = None,
        wire: WireLog | None = None,
    ) -> None:
        """Answer a call on one connection. A retry gets the answer of the call that it repeats.

        Any other call gets a new exchange. If the rollout has ended, the call is refused and not recorded.

        Args:
            request: the call.
            deliver: writes the answer to the connection that waits for it.
            raw, headers, query: JSON body, headers and URL query of the call, as received.
            kind: the kind of the call, if its path gives it.
            wire: the log of the HTTP traffic. If None, the traffic is not logged.
        """
        if self.ending is not None and not self._finishes:
            await _end_call(deliver, Refused(self.ending))
            return
        try:
            claimed = claimed_conversation(headers, request, raw)
            key = (kind, retry_key(request, claimed))
            found = self.calls.find(request, key, headers, named=bool(claimed and claimed.id))
        except Exception as exc:
            self.take_fault(exc)
            await _end_call(deliver, Failed(exc))
            return
        new = found is None
        if new and self.ending is not None:
            await _end_call(deliver, Refused(self.ending))
            return
        if found is None:
            received: dict[str, Any] = {"raw": raw, "headers": headers, "query": query, "wire": wire}
            found = ExchangeState(self, request, claimed=claimed, retry_key=key, kind=kind, **received)
            self.calls.add(found)
        exchange, answer = (found, found.answer) if isinstance(found, ExchangeState) else (None, found)
        subscription = Subscription(answer)
        self.calls.subscriptions.add(subscription)
        try:
            if new and exchange is not None:
                await self._begin(exchange)
            await deliver(subscription)
        except ClientGone:
            pass
        finally:
            if subscription.fault is not None:
                self.take_fault(subscription.fault)
            subscription.close()
            try:
                if exchange is not None and exchange.outcome is None:
                    with trio.CancelScope(shield=True):
                        await self._run_reported(exchange.hang_up)
            finally:
                self.calls.leave(subscription, exchange)

    async def _admit(self, exchange: ExchangeState, budget: Budget) -> bool:
        """Return True if a call is within the limits. Otherwise settle its exchange, and return False.

        If the call is within the limits, the method has no checkpoint.
        """
        try:
            refusal = budget.admit(exchange, configured_model(self.handler))
        except Exception as exc:
            if not isinstance(exc, MissingPrice):
                self.take_fault(exc)
            elif self.fail is not None and not self._lacks_price:
                self._lacks_price = True
                self.fail(exc)
            await self._run_reported(partial(exchange.settle, Failed(exc)))
            return False
        if refusal is not None:
            await self._run_reported(partial(exchange.settle, Refused(refusal)))
        return refusal is None

    async def _check_gate(self, exchange: ExchangeState) -> bool:
        """If a tool call with a result in `exchange` has bypassed the gate, end the rollout and return False.

        Otherwise return True.
        """
        for call, error in tuple(self.gate.bypassed(exchange)):
            ends = self.gate.ends(exchange)

            async def fail(error: GateBypassed = error) -> None:
                raise error

            with suppress(Refusal):  # recorded, and reported to the owner if it ends the rollout
                arguments = {"arguments": arguments_value(call.arguments), "id": call.id}
                await self.services.calls.run(self, "gate", call.name, arguments, fail, owned=ends)
            if ends:
                await self._run_reported(partial(exchange.settle, Failed(error)))
                for each in self.fail_open(error):
                    await self._run_reported(each)
                return False
        return True

    async def _begin(self, exchange: ExchangeState) -> None:
        """Record a new call and put it into the queue. If a limit is reached, refuse the call.

        If the recorder does not record calls on arrival, the method has no checkpoint.
        """
        if (fault := self.arrivals.fault) is not None:  # no handler gets the call, and no limit counts it
            await self._refuse_untaken(exchange, fault)
            return
        if self.gate.active and not await self._check_gate(exchange):
            return
        if self.budget is not None and not await self._admit(exchange, self.budget):
            return
        if exchange.outcome is not None:
            return
        try:
            self.arrivals.coming += 1
            try:
                if self.estimator.needed:
                    exchange.estimate_input()
                intent = Intent(
                    id=exchange.id,
                    rollout=self.id,
                    run=self.trace.run,
                    number=self._announced,
                    at=exchange.started_at,
                    dialect=exchange.dialect,
                    request=exchange.recorded_request(),
                    agent=exchange.agent,
                )
                if self.records.events is not None:
                    self.records.events.conversations[exchange.id] = exchange.claimed
                await self.records.record_entry(intent)
            finally:
                self.arrivals.coming -= 1
        except Exception as exc:
            self.take_fault(exc)
            await self._run_reported(partial(exchange.settle, Failed(exc)))
            return
        self._announced += 1
        if exchange.outcome is None:
            if (fault := self.arrivals.fault) is not None:  # the fault arose meanwhile
                await self._refuse_untaken(exchange, fault)
            else:
                exchange.facade = Exchange(exchange, self.public)
                self.arrivals.put(exchange)

    async def give_back(self, exchange: ExchangeState) -> None:
        """Put an exchange back into the queue, because its worker was cancelled before it called the handler."""
        if exchange.outcome is not None:
            return
        if (fault := self.arrivals.fault) is not None:
            await self._refuse_untaken(exchange, fault)
        else:
            self.arrivals.put_back(exchange)

    async def let_go(self, exchange: ExchangeState) -> None:
        """Handle an exchange whose handler was cancelled before the exchange was settled.

        If a fault may have caused the cancellation, refuse the exchange. Otherwise leave the exchange open, because the
        program may still answer it.
        """
        if exchange.outcome is None and self.fail is not None and (fault := self.fault_within()) is not None:
            outcome = exchange.fix_from_outside(refused_after(fault))
            await self._run_reported(partial(exchange.settle, outcome))

    async def _refuse_untaken(self, exchange: ExchangeState, fault: BaseException) -> None:
        """Refuse an exchange immediately, because the task that should have taken it has failed.

        Without the refusal, the agent would wait for ever. A body of an `async with` block that waits for the agent
        would never end, either.
        """
        await self._run_reported(partial(exchange.settle, refused_after(fault)))

    def take_fault(self, fault: Exception) -> None:
        """Report an error of the program or of triocept that made a call fail.

        The agent gets a 500. The exception is raised to the rollout's owner, the code that opened the rollout.
        """
        if self.report is not None:
            self.report(fault)
        else:
            log.error("a call of rollout %s failed after the rollout had closed", self.id, exc_info=fault)

    # Called by the endpoint

    def on_url_lost(self, url: str, error: BaseException) -> None:
        """End the body of the rollout's block with `error` if an agent uses `url`, which no longer works."""
        if self._held_url == url and self.fail is not None:
            self.fail(error)

    def depart(self) -> None:
        """Detach the rollout from an endpoint that ends. Another endpoint may take the rollout over with `rebind`.

        The children of the rollout are detached as well, including children that are opened later.
        """
        self.rebind(self.addresses, Registry(), self.watcher)

    def rebind(self, addresses: Addresses, registry: Registry[RolloutState], watcher: Watcher) -> None:
        """Move the rollout to another endpoint.

        If the rollout is closing, its key does not become valid at the other endpoint.

        Raises:
            ValueError: an open rollout of the other endpoint has the same id as this rollout or one of its children.
        """
        if self in self.registry:
            self.registry.discard(self)
            registry.add(self)
        self.addresses, self.registry, self.watcher = addresses, registry, watcher
        self.children.rebind(addresses, registry, watcher)

    # Its end

    @trio.lowlevel.enable_ki_protection
    async def endpoint_stops(self) -> None:
        self.closing.set()
        refusal = Refusal(503, "the endpoint is shutting down", should_retry=False)
        await self._run_reported(partial(self.end, refusal))
        await self.services.calls.close()

    async def _run_reported(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step`, and report the errors that the recorder raises in `step`.

        The errors are reported to the code that opened the rollout. If the rollout has already closed, the first of the
        errors is raised.
        """
        for error in await run_each(step):
            if self.report is None:
                raise error
            self.report(error)

    @trio.lowlevel.enable_ki_protection
    async def end(self, refusal: Refusal) -> None:
        """End the rollout: accept no more exchanges, refuse all open exchanges with `refusal`, and record them.

        Raises:
            BaseException: the recorder failed. All exchanges were refused nevertheless.
        """
        with trio.CancelScope(shield=True):
            raise_all(await run_each(*self.refuse_open(refusal)))

    def refuse_open(self, refusal: Refusal) -> list[Step]:
        """Refuse the open exchanges of this rollout and its children.

        Return functions that record these exchanges. The caller must call these functions.
        """
        outcome = Refused(self._begin_end(refusal))
        self._finishes = False
        self.ended.set()
        for end in tuple(self.on_end):
            end()
        self.arrivals.close()
        # These include exchanges with an outcome that no task has begun to record, because of an interrupt.
        waiting = [exchange for exchange in self.calls.open if not exchange.recording]
        steps = [partial(each.settle, each.outcome or each.fix_from_outside(outcome)) for each in waiting]
        return [*steps, *(step for child in self.children for step in child.refuse_open(refusal))]

    def fail_open(self, fault: BaseException, besides: ExchangeState | None = None) -> list[Step]:
        """Refuse the open exchanges, except `besides`, because of a fault of the answering code.

        `besides` is the exchange in which the fault arose, or None.

        Return functions that record these exchanges. The caller must call these functions.

        Without the refusals, a cancelled body that still waits for its agent would never end, because no code answers
        the agent's calls any more.
        """
        self.arrivals.fail(fault)
        return _refuse_because(fault, [exchange for exchange in self.calls.open if exchange is not besides])

    def fail_taken(
        self, fault: BaseException, taken: Iterable[ExchangeState], service: Service
    ) -> list[Step]:
        """Refuse the exchanges that a failed service had taken, because the service raises `fault` to its own caller.

        If no other service takes calls, later calls are also refused, until a task takes calls again.

        Return functions that record these exchanges. The caller must call these functions.
        """
        return _refuse_because(fault, [*taken, *self.arrivals.leave(service, fault)])

    def leave(self, service: Service) -> list[Step]:
        """Remove a service that ends without a failure.

        If another service has failed and no task takes calls, refuse the waiting calls. Return functions that record
        the refused calls. The caller must call these functions.
        """
        waiting, fault = self.arrivals.leave(service), self.arrivals.fault
        return [] if fault is None else _refuse_because(fault, waiting)

    def check_recorder_is_free(self) -> None:
        """Raise an error if the caller is the recorder of this rollout or of a child, and is recording an entry."""
        self.records.check_free()
        for child in self.children:
            child.check_recorder_is_free()

    def _begin_end(self, refusal: Refusal) -> Refusal:
        if self.ending is None:
            self.ending = refusal
            if isinstance(refusal, LimitReached):
                self.records.stop(refusal.message)
        return self.ending

    def finish(self, reached: LimitReached) -> None:
        """Accept no more exchanges, because the limit `reached` is reached. Open exchanges are still finished."""
        if self.ending is None:
            self._begin_end(reached)
            self._finishes = True
            self.arrivals.finish()
            self.children.finish(reached)

    async def time_out(self, seconds: float) -> None:
        await trio.sleep(seconds)
        over = LimitReached(f"the limit of {seconds:,g} {'second' if seconds == 1 else 'seconds'} is reached")
        await self._run_reported(partial(self.end, over))

    @trio.lowlevel.enable_ki_protection
    async def close(self) -> None:
        """Close the rollout: revoke its key, refuse waiting calls, deliver the answers, and seal the trace.

        Raises:
            BaseException: the recorder failed. All other steps were done nevertheless.
        """
        refusal = Refusal(503, f"rollout {self.id} is closed", should_retry=False)
        with trio.CancelScope(shield=True):
            self.registry.discard(self)
            self.closing.set()
            self.bodies.clear()
            errors = await run_each(
                self.children.close,
                self.services.calls.close,
                partial(self.end, refusal),
                self.records.see_through,
                partial(self.calls.see_out, DELIVERY_GRACE),
                self.records.seal,
            )
        raise_all(errors)


def _refuse_because(fault: BaseException, exchanges: Iterable[ExchangeState]) -> list[Step]:
    """Refuse `exchanges` because of `fault`.

    Return functions that record them. The caller must call these functions.
    """
    return [
        partial(exchange.settle, exchange.outcome or exchange.fix_from_outside(refused_after(fault)))
        for exchange in exchanges
        if not exchange.recording
    ]


async def _end_call(deliver: Deliver, outcome: Outcome) -> None:
    """Send an outcome to a call that gets no exchange, for example after the end of the rollout.

    Nothing is recorded.
    """
    answer = Answer()
    answer.end(outcome)
    subscription = Subscription(answer)
    try:
        await deliver(subscription)
    finally:
        subscription.close()


def _given(value: T | None, otherwise: T) -> T:
    return value if value is not None else otherwise
