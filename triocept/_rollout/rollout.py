"""The facade of one agent run: its key, its trace, its stream of exchanges."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, Unpack, final, overload

import trio

from .._canonical.content import Message
from .._canonical.given import fit_json
from .._canonical.request import Request
from .._canonical.response import Response
from .._process.command import check_argv
from .._process.output import AgentResult
from .._trace.entries import Score
from .._trace.trace import Trace
from .._util.checks import check_count, check_keywords, check_number, check_str
from .._util.failures import raise_all
from ..errors import AgentFailed, LimitReached
from .addresses import DialectName, Reach
from .agent import Agent, check_agent_options, open_agent
from .asking import ask, request_of
from .clients import ClientConfig, open_client
from .environment import provider_environment
from .exchange import Exchange, core_of
from .handler import Handler, awaiting, check_handler
from .hooks import Hook
from .life import open_rollout
from .options import AgentOptions, OnHangup, RolloutOptions
from .registry import Refusals
from .rollout_state import RolloutState
from .tools import Given, HostTool
from .workers import run_workers

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

OpenAIName: TypeAlias = Literal["openai_chat", "openai_completions", "openai_responses"]
SERVICES = ("mcp", "tools", "user", "stop", "model", "state", "gate")


@final
class Rollout(Given):
    """A run of an agent. Only `endpoint.open_rollout` creates one.

    Iterate over it (`async for exchange in rollout`) to answer the agent's calls yourself; the iteration ends when
    the rollout is stopped or closed. Or let `serve` answer them. A rollout with a handler cannot be iterated over
    (RuntimeError), because the handler gets every exchange.
    """

    def __init__(self, core: RolloutState) -> None:
        self._core = core
        core.public = self

    def __repr__(self) -> str:
        state = "open" if self._core.ending is None else "ended"
        return f"<Rollout {self.id}: {state}, {len(self.trace)} turns>"

    @property
    def id(self) -> str:
        """Id of the rollout, part of its URLs and of every turn."""
        return self._core.id

    @property
    def api_key(self) -> str:
        """The agent's key, of 256 random bits. It opens this rollout, and nothing else."""
        return self._core.api_key

    @property
    def model(self) -> str:
        """Name of the model in the list of `/v1/models` and in `config`. Agents may request any other model."""
        return self._core.model

    @property
    def on_hangup(self) -> OnHangup:
        """Effect of an agent's disconnect on its exchange."""
        return self._core.on_hangup

    @property
    def trace(self) -> Trace:
        """The turns so far."""
        return self._core.trace

    @property
    def stopped(self) -> str | None:
        """Reason for which the rollout was stopped: the limit that was reached, or the argument of `stop`.

        None if not stopped.

        A child that is stopped with its parent has its parent's reason.
        """
        return self.trace.stopped

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """Errors so far, each once, such as a handler's exception. Leaving the rollout's block raises them."""
        return tuple(self._core.faults)

    @property
    def calls(self) -> list[Request]:
        """The agent's calls so far, oldest first, as recorded, including those without an answer."""
        turns = self.trace.turns
        recorded = {turn.id for turn in turns}
        waiting = [exchange for exchange in self._core.calls.open if exchange.id not in recorded]
        asked = [(turn.started_at, turn.request) for turn in turns]
        asked += [(exchange.started_at, exchange.recorded_request()) for exchange in waiting]
        return [request for _, request in sorted(asked, key=itemgetter(0))]

    # How an agent reaches it

    def base_url(self, dialect: DialectName | str, *, reach: Reach = "local") -> str:
        """Return the base URL for an agent, in the form that the official SDK of `dialect` needs.

        Args:
            dialect: a name such as `openai_chat` or `anthropic_messages`.
            reach: `local` for an agent on this machine, `public` for an agent elsewhere. A loss of the public URL then
                affects the rollout: see `on_lost_url` of `serve_endpoint`.

        Raises:
            ValueError: the dialect is unknown, or the reach is neither `local` nor `public`.
            TunnelError: the rollout has no public URL, or the tunnel is down.
        """
        self._core.hold(reach)
        return self._core.addresses.base_url(self.id, dialect, reach)

    def config(self, dialect: DialectName | str, *, reach: Reach = "local") -> ClientConfig:
        """Return base URL, key and model for a client of `dialect`; errors as in `base_url`."""
        base_url = self.base_url(dialect, reach=reach)
        return ClientConfig(base_url=base_url, api_key=self.api_key, model=self.model)

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
        """Return the official SDK's client for `dialect`, pointed at this rollout.

        Args:
            dialect: a dialect of OpenAI for an `openai.AsyncOpenAI`, or `anthropic_messages` for an
                `anthropic.AsyncAnthropic`. There is no client for `gemini` and `ollama`.
            sync: True for the blocking client, for use in a thread or another process. In trio's own thread it would
                block the endpoint that it waits for.
            options: arguments of the client's constructor (`max_retries`, `timeout`, …).

        Closing: the client has open connections; `async with rollout.client(…) as client` closes them.

        Raises:
            ModuleNotFoundError: the SDK is not installed.
            ValueError: there is no client for this dialect; `config` contains the values for the client of another SDK.
        """
        config = self.config(dialect)
        return open_client(self._core.addresses.dialects[dialect], config, sync=sync, options=options)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """Return the environment variables that point agents at this rollout, and give them long timeouts.

        They include `TRIOCEPT_URL` and `TRIOCEPT_API_KEY`, for calls to the rollout's services, such as
        `$TRIOCEPT_URL/tools`.

        Args:
            reach: `local` for an agent on this machine, `public` for an agent elsewhere; errors as `base_url`.
        """
        self._core.hold(reach)
        own = {
            "TRIOCEPT_URL": self._core.addresses.root_url(self.id, reach),
            "TRIOCEPT_API_KEY": self.api_key,
        }
        providers = (
            facts.environment(self.base_url(name, reach=reach), self.api_key, self.model)
            for name, facts in self._core.addresses.dialects.items()
            if facts.environment is not None
        )
        return own | provider_environment(providers)

    # Its services

    @property
    def tools(self) -> tuple[HostTool, ...]:
        """The program's tools that the agent is offered."""
        return tuple(self._core.services.tools.values())

    @property
    def state(self) -> Any:
        """The state that the tools share, in this program and elsewhere; None if the rollout has no state.

        `PUT …/state` replaces the whole state.

        Raises:
            TypeError: a value was assigned that is not of the state's type, or the rollout has no state.
        """
        return self._core.services.state

    @state.setter
    def state(self, value: Any) -> None:
        self._core.services.set_state(value)

    @property
    def state_key(self) -> str | None:
        """The key that opens `…/state`, and nothing else; None if there is no state.

        The agent's key does not open it.
        """
        return self._core.state_key

    def service_url(self, name: str, *, reach: Reach = "local") -> str:
        """Return the URL of a service: `mcp`, `tools`, `tools/NAME`, `user`, `stop`, `model`, `state`, `gate`.

        Errors are those of `base_url`. Raise ValueError for any other name.
        """
        if name not in SERVICES and not name.startswith(("tools/", "gate/")):
            raise ValueError(f"unknown service {name!r}; the services are {', '.join(SERVICES)}, tools/NAME")
        self._core.hold(reach)
        return f"{self._core.addresses.root_url(self.id, reach)}/{name}"

    async def ask(self, request: Request | str | Sequence[Message]) -> Response:
        """Send a model call of the program itself, for example of one of its tools.

        The call is answered and recorded like the agent's calls.

        In its exchange, `exchange.conversation.kind` is `tool`. The rollout's handler gets it, and it counts toward
        `concurrency`: a handler that calls `ask` on its own rollout needs capacity for two exchanges. For a model call
        of the handler itself, use `upstream.fetch`.

        Args:
            request: the request. A text is sent as one message of the user. A message's content may be a text, too.

        Raises:
            TypeError, ValueError: the argument is not a request; the text names the place in it. Nothing was sent.
            Refusal: the call was refused, or the handler failed (500).
            RuntimeError: called by a recorder that is recording a turn, which would wait for itself.

        Cancellation: has the effect of an agent's disconnect.
        """
        try:
            asked = request_of(request, self.model)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the relevant line is the caller's
        self._core.records.check_free()
        return await ask(self._core, asked)

    def open_child(
        self, handler: Handler | None = None, **options: Unpack[RolloutOptions]
    ) -> AbstractAsyncContextManager[Rollout]:
        """Open a rollout that is part of this rollout: for a sub-agent, or an agent that runs agents.

        It has its own key, trace and services. `child.trace.branch` is the place in the parent's trace where the child
        branched off. The `children` of the parent's trace contain the child's trace. The child's calls count against
        its own `limits` and its parent's.

        Keywords: id, model, on_hangup, on_retry, on_fault, concurrency, recorder, tools, user, stop, state, state_type,
        embed, moderate, gate, redact, metadata, record_increments, record_wire, limits; see `Endpoint.open_rollout`.
        The parent's values are the defaults of model, recorder, redact, on_hangup, on_retry, record_increments,
        record_wire, embed and moderate.

        Closing: as for a rollout. A child ends when its parent ends, or earlier: a parent that is stopped stops its
        children. A parent whose block ends closes its children and cancels their bodies.

        Raises:
            TypeError: the handler is not valid.
            RolloutClosed: the parent has ended, perhaps while the child was being opened; or it ended before the
                child's block.
        """
        handler, concurrency = check_opening("open_child", handler, options)
        self._core.children.check_open()
        core = self._core
        child = with_facade(
            RolloutState(
                core.addresses,
                core.registry,
                core.watcher,
                options,
                recorder=core.records.recorder,
                branch=core.children.branch(),
                parent=core,
            )
        )
        return core.children.open_child(child, open_rollout(child, handler, concurrency))

    # How the program answers its exchanges

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Exchange:
        self._core.check_untaken()
        exchange = await self._core.arrivals.next()
        if exchange is None:
            raise StopAsyncIteration
        assert exchange.facade is not None
        return exchange.facade

    async def serve(self, handler: Handler, *, concurrency: int | None = None) -> None:
        """Let `handler` answer every exchange, each in its own task, until the rollout is stopped or closed.

        Args:
            handler: `async (Exchange) -> None`. A `Refusal` or an `UpstreamError` that it raises is an answer; any
                other exception ends the service.
            concurrency: maximum exchanges that are handled at the same time. None means no limit. When reached: further
                exchanges wait. With 1, a handler that calls `ask` on this rollout waits for ever.

        Raises:
            TypeError: the argument is not a handler.
            Exception: a handler's exception, unwrapped; several exceptions are raised as a group. The agent has already
                received a 500. Every waiting and later call also gets a 500, until a task takes calls again.

        Cancellation: cancels the handlers; exchanges that they have not settled stay open until the end of the
        rollout, which refuses them.
        """
        check_handler(handler)
        _check_concurrency(concurrency)
        # A cancelled service would take over from a failed service, and answer nothing.
        await trio.lowlevel.checkpoint_if_cancelled()
        errors: list[BaseException] = []
        try:
            await run_workers(self._core, awaiting(handler), concurrency, errors.append)
        finally:
            raise_all(errors)

    @trio.lowlevel.enable_ki_protection
    async def run_agent(
        self, argv: Sequence[str | os.PathLike[str]], **options: Unpack[AgentOptions]
    ) -> AgentResult:
        """Run an agent in this rollout, to its end.

        The agent gets the rollout's environment (`environ`), and none of this program's own provider keys and base
        URLs. Its calls must be answered meanwhile, by the handler of `open_rollout`, or by a task that iterates over
        the rollout.

        Args:
            argv: the command and its arguments.
            env: variables that are added to the agent's environment, or replace its variables; None removes a variable.
            cwd: the agent's working directory. None means the program's.
            input: bytes for the agent's stdin; a str is encoded as UTF-8. If None, stdin is empty.
            output: `capture` (default) keeps the output. `echo` also writes it to this program's stdout and stderr.
                `inherit` lets the agent write there itself, and keeps nothing. `terminal` gives the agent the terminal
                of this program until its end, with the keyboard: Ctrl-C goes to the agent alone.
            output_limit: maximum bytes of each stream that are kept in memory, half from its start and half from its
                end. Default: 1 MiB.
            stdout_file: a path or a binary file that receives all of stdout, as it arrives.
            stderr_file: a path or a binary file that receives all of stderr, as it arrives.
            terminate_grace: seconds that the agent has after SIGTERM. Default: 5.
            keep_home: True if Claude Code has the user's own configuration, not the empty one of `agents.claude_code`:
                `CLAUDE_CONFIG_DIR` is left out of `env`. ValueError if the configuration names another provider, and
                for other agents.

        Returns:
            Return code (negative: the signal that ended the agent), output and duration. A return code other than 0
                raises no error here; `result.check()` raises one.

        Raises:
            AgentFailed: the agent cannot be started; the text gives the reason, and what to do.
            TypeError, ValueError: `argv`, `env`, `input` or an option is invalid; nothing was started.
            RolloutClosed: the rollout has ended.
            trio.ClosedResourceError: the endpoint has ended. A rollout of a pool may outlive its endpoint.

        Cancellation: ends the agent and all processes that it started, with SIGTERM to its process group, and SIGKILL
        after `terminate_grace`. If this program itself is killed, its agents end within 2 s.
        """
        try:
            opened = open_agent(self._core, check_argv(argv), check_agent_options("run_agent", argv, options))
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the relevant line is the caller's
        try:
            async with opened as agent:
                await agent.wait()
        except AgentFailed as exc:
            raise exc.with_traceback(None) from exc.__cause__
        return agent.result

    def open_agent(
        self, argv: Sequence[str | os.PathLike[str]], **options: Unpack[AgentOptions]
    ) -> AbstractAsyncContextManager[Agent]:
        """Run an agent, and answer its calls in a loop that ends when the agent ends.

        For example::

            async with rollout.open_agent(["claude", "-p", "fix the bug"]) as agent:
                async for exchange in agent:
                    await exchange.respond("hello")
            print(agent.result.returncode)

        Errors and cancellation are those of `run_agent`.

        Keywords: env, cwd, input, output, output_limit, stdout_file, stderr_file, terminate_grace, keep_home; see
        `run_agent`.

        Closing: an agent that still runs is ended, as by a cancellation of `run_agent`. Afterwards `agent.result` is
        available.
        """
        try:
            return open_agent(self._core, check_argv(argv), check_agent_options("open_agent", argv, options))
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the relevant line is the caller's

    @trio.lowlevel.enable_ki_protection
    async def stop(self, reason: str) -> None:
        """End the run: waiting and later calls are refused with 404, the status that every known agent treats as final.

        Iteration and `serve` end. A second call changes nothing.

        Raises:
            TypeError: the reason is not a str.
            RuntimeError: called by a recorder that is recording a turn. Call it in another task.

        Cancellation: does not prevent the refusals.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        check_str("the reason", reason)
        self._core.check_recorder_is_free()
        await self._core.end(LimitReached(reason))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def score(self, name: str, value: float) -> None:
        """Record a score of the run: one number, by name. True is 1, False is 0.

        It is added to the trace (`trace.scores`), and passed to recorders that accept entries. A score may also be
        recorded after the end of the rollout and of its endpoint. A score with an existing name replaces the earlier
        score.

        Raises:
            TypeError, ValueError: the name is not a str, or the value is not a finite number.
            Exception: the recorder failed; then the trace does not contain the score.
            RuntimeError: called by a recorder that is recording an entry.

        Cancellation: a recording that has begun is finished.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        check_str("the name of a score", name)
        check_number("a score", int(value) if isinstance(value, bool) else value, negative=True)
        run, name = self.trace.run, fit_json(name)
        score = Score(rollout=self.id, run=run, name=name, value=float(value), at=time.time())
        await self._core.records.record_entry(score)
        await trio.lowlevel.cancel_shielded_checkpoint()


def core_of_rollout(rollout: Rollout) -> RolloutState:
    """Return the state of a rollout, for internal code that uses it as the server does."""
    return rollout._core


@asynccontextmanager
async def open_unlimited_child(rollout: Rollout, handler: Handler) -> AsyncIterator[Rollout]:
    """Open a child that the parent's limits do not bind, even if they have stopped the parent: for a judge."""
    core = rollout._core
    branch = core.children.branch()
    parts = core.addresses, core.registry, core.watcher, RolloutOptions()
    child = with_facade(RolloutState(*parts, recorder=core.records.recorder, branch=branch, parent=core))
    child.budget = None
    async with open_rollout(child, handler, None) as opened:
        core.records.writer.add_child(child.trace)
        yield opened


def take_hook(rollout: Rollout, hook: Hook) -> tuple[Literal["before", "after"], ...]:
    """Store the hook of the agent, before the agent starts. Return the hook's events that must be configured.

    Raises:
        ValueError: the hook cannot do what the rollout's gate needs.
    """
    return rollout._core.gate.take(hook)


def refuse_gate(rollout: Rollout, agent: str) -> None:
    """Raise ValueError if the rollout was opened with a gate, because this agent has no hooks that use it."""
    if rollout._core.gate.given:
        text = f"{agent} has no hooks that could ask the gate of rollout {rollout.id}"
        raise ValueError(f"{text}: open the rollout without gate=, and use approve(handler, policy)")


def give_back(rollout: Rollout, exchange: Exchange) -> None:
    """Put an exchange back in the queue, because the task that took it was cancelled before it received it."""
    rollout._core.arrivals.put_back(core_of(exchange))


def unanswered(rollout: Rollout) -> list[Request]:
    """Return the unanswered calls of a rollout without a handler.

    These are the waiting calls, and the calls whose agent has disconnected.
    """
    if rollout._core.handler is not None:
        return []
    gone = [turn.request for turn in rollout.trace if turn.outcome == "abandoned"]
    return gone + [call.recorded_request() for call in rollout._core.calls.open if not call.settled]


def refusals(rollout: Rollout) -> Refusals:
    """Return the requests to this rollout that were refused before they became calls."""
    return rollout._core.refusals


def other_requests(rollout: Rollout) -> tuple[str, ...]:
    """Return the requests to this rollout that no handler answers, such as `GET /models`, each once."""
    return tuple(rollout._core.other_requests)


def stray_refusals(rollout: Rollout) -> Refusals:
    """Return the refused requests to the rollout's endpoint that belong to no open rollout."""
    return rollout._core.registry.refusals


def rested(rollout: Rollout) -> bool:
    """Return True if no handler still runs for an exchange that it has already answered."""
    return not any(exchange.settled for exchange in rollout._core.at_work)


async def wait_rested(rollout: Rollout, seconds: float) -> int:
    """Wait until the handlers that have answered have returned, since they may still fail.

    Return the number of those that still run after `seconds`.
    """
    core = rollout._core
    with trio.move_on_after(seconds):
        while not rested(rollout):
            await core.rested.wait()
    return sum(exchange.settled for exchange in core.at_work)


def report_fault(rollout: Rollout, error: BaseException) -> bool:
    """Report an error to the rollout's owner, if no task would raise it. Return True if the rollout is still open."""
    report = rollout._core.report
    if report is None:
        return False
    report(error)
    return True


def with_facade(core: RolloutState) -> RolloutState:
    """Create the facade of a rollout's state. Return the state."""
    Rollout(core)
    return core


def check_opening(
    function: str, handler: Handler | None, options: RolloutOptions
) -> tuple[Handler | None, int | None]:
    """Return the checked handler and concurrency of a rollout, before anything is created.

    Raises:
        TypeError, ValueError: the handler, the number or a keyword is invalid.
    """
    check_keywords(function, options, RolloutOptions.__annotations__)
    if handler is not None:
        check_handler(handler)
        handler = awaiting(handler)
    concurrency = options.get("concurrency")
    _check_concurrency(concurrency)
    return handler, concurrency


def _check_concurrency(concurrency: int | None) -> None:
    if concurrency is not None:
        check_count("concurrency", concurrency, least=1)
