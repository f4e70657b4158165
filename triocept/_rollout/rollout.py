"""One agent run: its key, its trace, its stream of exchanges."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, Unpack, final, overload

import trio

from .._canonical.content import Json, Message
from .._canonical.memory import Memory
from .._canonical.price import Price
from .._canonical.request import Request
from .._canonical.response import Response
from .._canonical.tokens import Estimator, estimate_input_tokens
from .._checks import check_choice, check_count, check_keywords, check_str, check_type
from .._failures import raise_all, run_each
from .._limits import EndpointLimits
from .._process.command import check_argv
from .._process.output import AgentResult
from .._process.watcher import Watcher
from .._trace.branch import Branch
from .._trace.conversation import CallKind, claimed_conversation
from .._trace.recorder import Recorder, check_recorder
from .._trace.trace import Trace
from ..errors import AgentFailed, LimitReached, MissingPrice, Refusal
from .addresses import Addresses, DialectName, Reach
from .agent import Agent, check_agent_options, open_agent
from .answer import Answer, ClientGone
from .arrivals import Arrivals
from .budget import Budget, Limits
from .calls import Calls, Deliver, OnRetry
from .children import Children, ask, request_of
from .clients import ClientConfig, open_client
from .environment import provider_environment
from .exchange import Exchange
from .handler import Handler, awaiting, check_handler, told_model
from .life import open_rollout
from .options import AgentOptions, OnHangup, RolloutOptions
from .outcome import Failed, Outcome, Refused
from .record_writer import RecordWriter
from .registry import Registry
from .retries import retry_key, retry_of
from .services import Services
from .tools import HostTool
from .workers import run_workers

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

__all__ = ["Rollout", "check_opening"]

T = TypeVar("T")

log = logging.getLogger("triocept.rollout")

OpenAIName: TypeAlias = Literal["openai_chat", "openai_completions", "openai_responses"]
SERVICES = ("mcp", "tools", "user", "stop", "model", "state")
DELIVERY_GRACE = 1.0
"""Seconds that a closing rollout waits for answers on their way to agents that do not read them."""


@final
class Rollout:
    """One agent run. Made by `endpoint.open_rollout` only.

    Iterate over it (`async for exchange in rollout`) to hold the agent's calls in your own hands; the iteration ends
    when the rollout is stopped or closed. Or let `serve` do it. One that has a handler cannot be iterated over
    (RuntimeError): the handler gets every exchange.
    """

    def __init__(
        self,
        addresses: Addresses,
        registry: Registry,
        watcher: Watcher,
        options: RolloutOptions,
        *,
        recorder: Recorder | None = None,
        branch: Branch | None = None,
        parent: Rollout | None = None,
    ) -> None:
        id = options.get("id")  # noqa: A001 - the field's own word
        model = _given(options.get("model"), parent.model if parent is not None else "triocept")
        on_hangup: OnHangup = _given(
            options.get("on_hangup"), parent.on_hangup if parent is not None else "cancel"
        )
        on_retry: OnRetry = _given(
            options.get("on_retry"), parent._calls.on_retry if parent is not None else "join"
        )
        recorder = _given(options.get("recorder"), recorder)
        limits = options.get("limits")
        check_str("model", model)
        check_choice("on_hangup", on_hangup, OnHangup)
        check_choice("on_retry", on_retry, OnRetry)
        if limits is not None:
            check_type("limits", limits, Limits, "a Limits", _hint(limits))
        if recorder is not None:
            check_recorder(recorder)
        if id is not None:
            check_str("id", id)
        if id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", id):
            raise ValueError(f"a rollout's id goes into URLs: letters, digits and . _ ~ - only, not {id!r}")
        self.id: str = id if id is not None else f"r_{token_hex(8)}"
        """It stands in its URLs, and in every turn."""
        self.api_key: str = f"sk-triocept-{token_urlsafe(32)}"
        """256 random bits. The agent's key: it opens this rollout, and nothing else."""
        self.model: str = model
        """The name that `/v1/models` lists and `config` gives. Agents may ask for any other."""
        self.on_hangup: OnHangup = on_hangup
        self._budget = self._make_budget(limits, parent)
        self.trace: Trace = Trace(
            self.id, run=f"run_{token_hex(8)}", branch=branch, prices=_prices(limits, parent)
        )
        """The turns so far."""
        self._memory = Memory()
        self._estimator = Estimator()
        self._handler: Handler | None = None
        """What answers its exchanges, where that is a handler."""
        self._addresses: Addresses = addresses
        self._registry = registry
        self._watcher = watcher
        self._records: RecordWriter = RecordWriter(
            self.trace, recorder, parent=parent._records if parent is not None else None
        )
        self._arrivals = Arrivals()
        self._lacks_price = False
        self._upstream_failed = False
        """A provider's failure was said in the log."""
        self._ending: Refusal | None = None
        self._finishes = False
        """It ends by a limit: what is on its way is finished."""
        self._calls: Calls = Calls(on_retry)
        self._services = Services(
            options.get("tools", ()),
            user=options.get("user"),
            stop=options.get("stop"),
            state=options.get("state"),
            state_type=options.get("state_type"),
        )
        self._children = Children(self)
        self._closing = trio.Event()
        self._ended = trio.Event()
        """Nothing is answered any more, and what waits is refused."""
        self._held_url: str | None = None
        """The public URL that was given to an agent, the last of them."""
        self._fail: Callable[[BaseException], None] | None = None
        """Ends the body with an error; set while the body runs."""
        self._report: Callable[[BaseException], None] | None = None
        """Takes an error that nobody is there to be told of but the owner; set until the rollout has closed."""

    def __repr__(self) -> str:
        state = "open" if self._ending is None else "ended"
        return f"<Rollout {self.id}: {state}, {len(self.trace)} turns>"

    @property
    def stopped(self) -> str | None:
        """Why it was stopped: the limit that was reached, or the reason that `stop` was given; None: it was not.

        A child that is stopped with its parent has its parent's reason.
        """
        return self.trace.stopped

    def _make_budget(self, limits: Limits | None, parent: Rollout | None) -> Budget | None:
        above = parent._budget if parent is not None else None
        if limits is None and above is None:
            return None
        return Budget(limits or Limits(), parent=above, on_reached=self._finish)

    # What an agent needs to reach it

    def base_url(self, dialect: DialectName | str, *, reach: Reach = "local") -> str:
        """Where the agent's SDK for `dialect` has to be pointed at, as that SDK takes it.

        Args:
            dialect: one of `openai_chat`, `anthropic_messages`, ….
            reach: `local` for an agent on this machine, `public` for one elsewhere. A rollout that has given its
                public URL away is told when that URL is lost: see `on_lost_url` of `serve_endpoint`.

        Raises:
            ValueError: no such dialect, or reach.
            TunnelError: it has no public URL, or none now.
        """
        self._hold(reach)
        return self._addresses.base_url(self.id, dialect, reach)

    def config(self, dialect: DialectName | str, *, reach: Reach = "local") -> ClientConfig:
        """Base URL, key and model for a client of `dialect`; errors as of `base_url`."""
        return ClientConfig(
            base_url=self.base_url(dialect, reach=reach), api_key=self.api_key, model=self.model
        )

    @overload
    def client(self, dialect: OpenAIName, *, sync: Literal[False] = False, **options: Any) -> AsyncOpenAI: ...
    @overload
    def client(self, dialect: OpenAIName, *, sync: Literal[True], **options: Any) -> OpenAI: ...
    @overload
    def client(
        self, dialect: Literal["anthropic_messages"], *, sync: Literal[False] = False, **options: Any
    ) -> AsyncAnthropic: ...
    @overload
    def client(
        self, dialect: Literal["anthropic_messages"], *, sync: Literal[True], **options: Any
    ) -> Anthropic: ...
    @overload
    def client(self, dialect: str, *, sync: bool = False, **options: Any) -> Any: ...
    def client(self, dialect: str, *, sync: bool = False, **options: Any) -> Any:
        """The official SDK's client for `dialect`, pointed at this rollout.

        Args:
            dialect: those of OpenAI give an `openai.AsyncOpenAI`, `anthropic_messages` an `anthropic.AsyncAnthropic`.
            sync: the blocking client, for a thread or another process: in trio's own thread it would block the
                endpoint that it waits for.
            options: go to the client's constructor (`max_retries`, `timeout`, …).

        Closing: it holds connections; `async with rollout.client(…) as client` closes them.

        Raises:
            ModuleNotFoundError: the SDK is not installed.
            ValueError: no official SDK speaks this dialect.
        """
        config = self.config(dialect)
        return open_client(self._addresses.dialects[dialect], config, sync=sync, options=options)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """The environment variables that point agents at this rollout, and give them patience.

        Among them `TRIOCEPT_URL` and `TRIOCEPT_API_KEY`, for what calls its services: `$TRIOCEPT_URL/tools`.

        Args:
            reach: `local` for an agent on this machine, `public` for one elsewhere; errors as of `base_url`.
        """
        self._hold(reach)
        own = {"TRIOCEPT_URL": self._addresses.root_url(self.id, reach), "TRIOCEPT_API_KEY": self.api_key}
        providers = (
            facts.environment(self.base_url(name, reach=reach), self.api_key, self.model)
            for name, facts in self._addresses.dialects.items()
            if facts.environment is not None
        )
        return own | provider_environment(providers)

    def _hold(self, reach: Reach) -> None:
        if reach not in ("local", "public"):
            raise ValueError(f"reach is 'local' or 'public', not {reach!r}")
        if reach == "public":
            self._held_url = self._addresses.public_url

    # Its services

    @property
    def tools(self) -> tuple[HostTool, ...]:
        """The tools of the program that its agent is offered."""
        return tuple(self._services.tools.values())

    @property
    def state(self) -> Any:
        """The state that its tools share, in this program and elsewhere; None where it has none.

        What comes by `PUT …/state` replaces it whole.

        Raises:
            TypeError: on assignment, of what is not of the state's type; or the rollout has no state.
        """
        return self._services.state

    @state.setter
    def state(self, value: Any) -> None:
        self._services.set_state(value)

    @property
    def state_key(self) -> str | None:
        """The key that opens `…/state`, and nothing else; None where there is no state. The agent's key does not."""
        return self._services.state_key

    def service_url(self, name: str, *, reach: Reach = "local") -> str:
        """Where a service is: `mcp`, `tools`, `tools/NAME`, `user`, `stop`, `model`, `state`.

        Errors are those of `base_url`, and ValueError for another name.
        """
        if name not in SERVICES and not name.startswith("tools/"):
            raise ValueError(f"there is no service {name!r}: there are {', '.join(SERVICES)}, tools/NAME")
        self._hold(reach)
        return f"{self._addresses.root_url(self.id, reach)}/{name}"

    async def ask(self, request: Request | str | Sequence[Message]) -> Response:
        """One model call of the program's own, for a tool of it: answered as the agent's calls are, and recorded.

        The exchange says so: `exchange.conversation.kind` is `tool`. It goes to the rollout's handler, as
        all do, and counts for its `concurrency`: a handler that asks its own rollout needs room for both calls. A model
        call of a handler's own is rather `upstream.fetch`.

        Args:
            request: what is asked; a text is the user's one message. A message's content may be a text, too.

        Raises:
            TypeError, ValueError: that is no request; the text names the place in it. Nothing was asked.
            Refusal: it was refused, or whoever answers failed (500).
            RuntimeError: from within a recorder that is being given a turn, which would wait for itself.

        Cancellation: as an agent's hang-up.
        """
        try:
            asked = request_of(self, request)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's
        self._records.check_free()
        return await ask(self, asked)

    def open_child(
        self,
        handler: Handler | None = None,
        **options: Unpack[RolloutOptions],
    ) -> AbstractAsyncContextManager[Rollout]:
        """Open a rollout that is part of this one: for a sub-agent, or an agent that runs agents.

        It has a key, a trace and services of its own, and knows where it branched off (`child.trace.branch`); the
        parent's trace has its trace among its `children`. The arguments are those of `endpoint.open_rollout`; model,
        recorder, `on_hangup` and `on_retry` are the parent's, where they are left out. Its calls count against
        `limits`, and against those of its parent, too.

        Closing: as a rollout. It ends with its parent at the latest: a parent that is stopped stops its children,
        and a parent that closes closes them and cancels their bodies.

        Raises:
            TypeError: the handler is none.
            RolloutClosed: the parent has ended, or did so while the child was being opened, or before this body.
        """
        handler, concurrency = check_opening("open_child", handler, options)
        self._children.check_open()
        child = Rollout(
            self._addresses,
            self._registry,
            self._watcher,
            options,
            recorder=self._records.recorder,
            branch=self._children.branch(),
            parent=self,
        )
        return self._children.open(child, open_rollout(child, handler, concurrency))

    # What the program does with its exchanges

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Exchange:
        self._check_untaken()
        exchange = await self._arrivals.next()
        if exchange is None:
            raise StopAsyncIteration
        return exchange

    def _check_untaken(self) -> None:
        """See whether a loop can get any exchange."""
        if self._handler is not None:
            raise RuntimeError(
                f"rollout {self.id} has a handler, which gets every exchange: a loop would get none. For a loop, open "
                "the rollout without a handler"
            )

    async def serve(self, handler: Handler, *, concurrency: int | None = None) -> None:
        """Let `handler` answer every exchange, each in a task of its own, until the rollout is stopped or closed.

        Args:
            handler: `async (Exchange) -> None`. Raising a `Refusal` or an `UpstreamError` is an answer; any other
                exception ends the service.
            concurrency: how many exchanges are handled at once; None: as many as come. The others wait: with 1, a
                handler that itself asks this rollout (`ask`) waits for ever.

        Raises:
            TypeError: that is no handler.
            Exception: what a handler raised, bare (several at once: a group). The agent has got a 500 by then.

        Cancellation: cancels the handlers; what they had not settled stays open until the rollout ends, which
        refuses it.
        """
        check_handler(handler)
        _check_concurrency(concurrency)
        errors: list[BaseException] = []
        try:
            await run_workers(self, awaiting(handler), concurrency, errors.append)
        finally:
            raise_all(errors)

    async def _count_input_tokens(self, request: Request) -> int:
        """The tokens of a prompt: as whatever answers counts them, if it can; else an estimate."""
        count = getattr(self._handler, "count_input_tokens", None)
        counted = None if count is None else await count(request)
        return estimate_input_tokens(request) if counted is None else int(counted)

    @trio.lowlevel.enable_ki_protection
    async def run_agent(
        self,
        argv: Sequence[str | os.PathLike[str]],
        **options: Unpack[AgentOptions],
    ) -> AgentResult:
        """Run an agent in this rollout, to its end.

        It gets the rollout's environment (`environ`), and none of this program's own provider keys and base URLs.
        Something has to answer its calls meanwhile: the handler of `open_rollout`, or a task that iterates.

        Args:
            argv: the command and its arguments.
            env: what is added to the environment, and wins; None as a value takes a variable out.
            cwd: its working directory; None is the program's.
            input: what it reads on stdin, a str as UTF-8; None is an empty stdin.
            output: `capture` keeps it, which is the default; `echo` also writes it to this program's own stdout and
                stderr; `inherit` lets the agent write there itself, and keeps nothing.
            output_limit: bytes of each stream that are kept in memory, 1 MiB by default: half from its start and half
                from its end.
            stdout_file: a path or a binary file that gets all of stdout, as it comes.
            stderr_file: likewise.
            terminate_grace: seconds that it has after SIGTERM, 5 by default.

        Returns:
            Its return code (negative is the signal that ended it), output and duration. A return code other than 0
            is no error; `result.check()` makes it one.

        Raises:
            AgentFailed: it cannot be started; the text says why, and what to do.
            TypeError, ValueError: `argv`, `env`, `input` or an option is not what it should be; nothing was started.
            RolloutClosed: the rollout has ended.
            trio.ClosedResourceError: its endpoint has ended, which a rollout of a pool may outlive.

        Cancellation: ends the agent and all that it started: SIGTERM to its group, `terminate_grace`, SIGKILL. Should
        this program itself be killed, its agents end within 2 s.
        """
        try:
            opened = self.open_agent(argv, **options)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's
        try:
            async with opened as agent:
                await agent.wait()
        except AgentFailed as exc:
            raise exc.with_traceback(None) from exc.__cause__
        return agent.result

    def open_agent(
        self,
        argv: Sequence[str | os.PathLike[str]],
        **options: Unpack[AgentOptions],
    ) -> AbstractAsyncContextManager[Agent]:
        """Run an agent, and take its calls in a loop that ends with it::

            async with rollout.open_agent(["claude", "-p", "fix the bug"]) as agent:
                async for exchange in agent:
                    await exchange.respond("hello")
            print(agent.result.returncode)

        Arguments, errors and cancellation are those of `run_agent`.

        Closing: an agent that still runs is ended, as by cancellation; then `agent.result` is there.
        """
        try:
            return open_agent(self, check_argv(argv), check_agent_options(options))
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's

    @trio.lowlevel.enable_ki_protection
    async def stop(self, reason: str) -> None:
        """End the run: what waits and what still comes is refused with 404, the status that every known agent takes
        as final. Iteration and `serve` end. Stopping twice changes nothing.

        Raises:
            RuntimeError: from within a recorder that is being given a turn. Another task can do it.

        Cancellation: the refusals are given all the same.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_recorder_is_free()
        await self._end(LimitReached(reason))
        await trio.lowlevel.cancel_shielded_checkpoint()

    # What the server asks of it

    @trio.lowlevel.enable_ki_protection
    async def _answer_call(
        self,
        request: Request,
        deliver: Deliver,
        *,
        raw: Json,
        headers: Mapping[str, str],
        query: str = "",
        kind: CallKind | None = None,
    ) -> None:
        """One connection's call: a new exchange, or one that it repeats. A rollout that has ended refuses, and records
        nothing.

        Args:
            request: the call.
            deliver: writes the answer to the connection that waits for it.
            raw, headers, query: how it came.
            kind: whose call it is, where the path said so.
        """
        if self._ending is not None and not self._finishes:
            await _end_call(deliver, Refused(self._ending))
            return
        try:
            claimed = claimed_conversation(headers, request, raw)
            key = (kind, retry_key(request, claimed))
            found = self._calls.find(request, key, retry_of(headers), named=bool(claimed and claimed.id))
        except Exception as exc:
            self._take_fault(exc)
            await _end_call(deliver, Failed(exc))
            return
        new = found is None
        if new and self._ending is not None:
            await _end_call(deliver, Refused(self._ending))
            return
        if found is None:
            found = Exchange(
                self,
                request,
                raw=raw,
                headers=headers,
                claimed=claimed,
                retry_key=key,
                query=query,
                kind=kind,
            )
            self._calls.add(found)
        exchange, answer = (found, found._answer) if isinstance(found, Exchange) else (None, found)
        subscription = answer.subscribe()
        self._calls.enter(subscription)
        try:
            if (
                new
                and exchange is not None
                and (self._budget is None or await self._admit(exchange, self._budget))
            ):
                self._arrivals.put(exchange)
            await deliver(subscription)
        except ClientGone:
            pass
        finally:
            if subscription.fault is not None:
                self._take_fault(subscription.fault)
            subscription.close()
            try:
                if exchange is not None and not exchange.settled:
                    with trio.CancelScope(shield=True):
                        await self._told(exchange._hang_up)
            finally:
                self._calls.leave(subscription, exchange)

    async def _admit(self, exchange: Exchange, budget: Budget) -> bool:
        """Whether a call is within the limits; one that is not has its outcome afterwards. No checkpoint else."""
        try:
            refusal = budget.admit(exchange, told_model(self._handler))
        except MissingPrice as exc:
            if self._fail is not None and not self._lacks_price:
                self._fail(exc)
            self._lacks_price = True
            await self._told(partial(exchange._settle, Failed(exc)))
            return False
        except Exception as exc:
            self._take_fault(exc)
            await self._told(partial(exchange._settle, Failed(exc)))
            return False
        if refusal is not None:
            await self._told(partial(exchange._settle, Refused(refusal)))
        return refusal is None

    def _take_fault(self, fault: Exception) -> None:
        """The program, or triocept, went wrong at one of its calls. The agent gets a 500; its owner hears of what."""
        if self._report is not None:
            self._report(fault)
        else:
            log.error("a call of rollout %s failed, which has closed", self.id, exc_info=fault)

    # What its endpoint asks of it

    def _on_url_lost(self, url: str, error: BaseException) -> None:
        """The public URL will not come back: end the body, if an agent was given that URL."""
        if self._held_url == url and self._fail is not None:
            self._fail(error)

    def _depart(self) -> None:
        """The endpoint ends, and this rollout does not: it waits for another. So do its children, and those that it
        opens meanwhile."""
        self._rebind(self._addresses, Registry(), self._watcher)

    def _rebind(self, addresses: Addresses, registry: Registry, watcher: Watcher) -> None:
        """Live on, on another endpoint; one that is being left has no key any more, and gets none there.

        Raises:
            ValueError: its id, or that of a child, is taken there.
        """
        if self in self._registry:
            self._registry.discard(self)
            registry.add(self)
        self._addresses, self._registry, self._watcher = addresses, registry, watcher
        self._children.rebind(addresses, registry, watcher)

    # Its end

    @trio.lowlevel.enable_ki_protection
    async def _endpoint_stops(self) -> None:
        self._closing.set()
        refusal = Refusal(503, "the endpoint is shutting down", should_retry=False)
        await self._told(partial(self._end, refusal))
        await self._services.calls.close()

    async def _told(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step for somebody who is not to be told that it failed (a recorder did): the owner is."""
        for error in await run_each(step):
            if self._report is None:
                raise error
            self._report(error)

    @trio.lowlevel.enable_ki_protection
    async def _end(self, refusal: Refusal) -> None:
        """No exchange comes any more; those that are open are refused: all at once, then recorded one by one.

        Raises:
            BaseException: what the recorder raised; the others were refused all the same.
        """
        with trio.CancelScope(shield=True):
            raise_all(await run_each(*self._refuse_open(refusal)))

    def _refuse_open(self, refusal: Refusal) -> list[Callable[[], Awaitable[None]]]:
        """Fix the end of this rollout, of its children, and of what is open in them; what is to be recorded then."""
        outcome = Refused(self._begin_end(refusal))
        self._finishes = False
        self._ended.set()
        self._arrivals.close()
        # Those that have an outcome which nobody records yet, too: an interrupt may have come in between.
        waiting = [exchange for exchange in self._calls.open if not exchange._recording]
        steps = [
            partial(exchange._settle, exchange._outcome or exchange._fix_from_outside(outcome))
            for exchange in waiting
        ]
        return [*steps, *(step for child in self._children for step in child._refuse_open(refusal))]

    def _check_recorder_is_free(self) -> None:
        """See that it is not the recorder that asks, of this rollout or a child."""
        self._records.check_free()
        for child in self._children:
            child._check_recorder_is_free()

    def _begin_end(self, refusal: Refusal) -> Refusal:
        """Fix how it ends; the first one counts, and is returned."""
        if self._ending is None:
            self._ending = refusal
            if isinstance(refusal, LimitReached):
                self.trace._stopped = refusal.message
        return self._ending

    def _finish(self, reached: LimitReached) -> None:
        """A limit is reached: no exchange comes any more; those that are open are finished."""
        if self._ending is None:
            self._begin_end(reached)
            self._finishes = True
            self._arrivals.finish()
            self._children.finish(reached)

    async def _time_out(self, seconds: float) -> None:
        """Wait for the end of its time, and end it."""
        await trio.sleep(seconds)
        over = LimitReached(f"the limit of {seconds:,g} {'second' if seconds == 1 else 'seconds'} is reached")
        await self._told(partial(self._end, over))

    @trio.lowlevel.enable_ki_protection
    async def _close(self) -> None:
        """Revoke the key, refuse what waits, see the answers out, seal the trace. Shielded, and always bounded.

        Raises:
            BaseException: what the recorder raised; all the rest was done.
        """
        refusal = Refusal(503, f"rollout {self.id} is closed", should_retry=False)
        with trio.CancelScope(shield=True):
            self._registry.discard(self)
            self._closing.set()
            errors = await run_each(
                self._children.close,
                self._services.calls.close,
                partial(self._end, refusal),
                self._records.see_through,
                partial(self._calls.see_out, DELIVERY_GRACE),
                self._records.seal,
            )
        raise_all(errors)


async def _end_call(deliver: Deliver, outcome: Outcome) -> None:
    """Tell a call that becomes no exchange, one that comes too late say, and record nothing."""
    answer = Answer()
    answer.end(outcome)
    subscription = answer.subscribe()
    try:
        await deliver(subscription)
    finally:
        subscription.close()


def check_opening(
    function: str, handler: Handler | None, options: RolloutOptions
) -> tuple[Handler | None, int | None]:
    """What a rollout's handler is, and how many exchanges it gets at once: looked at before anything is made.

    Raises:
        TypeError, ValueError: that is no handler, no such number, or a keyword that there is none of.
    """
    check_keywords(function, options, RolloutOptions)
    if handler is not None:
        check_handler(handler)
        handler = awaiting(handler)
    concurrency = options.get("concurrency")
    _check_concurrency(concurrency)
    return handler, concurrency


def _check_concurrency(concurrency: int | None) -> None:
    if concurrency is not None:
        check_count("concurrency", concurrency, least=1)


def _given(value: T | None, otherwise: T) -> T:
    return value if value is not None else otherwise


def _hint(limits: object) -> str:
    """What was meant by something that is no `Limits`."""
    if isinstance(limits, EndpointLimits):
        return "those are serve_endpoint's"
    return f"Limits(turns={limits})" if isinstance(limits, int) else "Limits(turns=…)"


def _prices(limits: Limits | None, parent: Rollout | None) -> Mapping[str, Price] | None:
    """The rollout's own, or those of its parent."""
    if limits is not None and limits.prices:
        return limits.prices
    return parent.trace._prices if parent is not None else None
