"""The public object of one agent run, `Rollout`: its key, its trace, its agent's model calls."""

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
from .._util.checks import Misnamed, check_count, check_keywords, check_number, check_str
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
    """A run of an agent, whose model calls the program answers. Only `endpoint.open_rollout` creates instances.

    To answer the agent's calls, pass a handler to `open_rollout` or to `serve`. You can also answer the calls in a loop
    (`async for exchange in rollout`). The loop ends when the rollout is stopped or closed. If the rollout has a
    handler, a loop raises RuntimeError, because the handler gets every exchange.
    """

    if not TYPE_CHECKING:
        url = Misnamed('base_url("openai_chat"), or the name of another dialect')
        turns = Misnamed("trace, a list of the turns")
        requests, key = Misnamed("calls"), Misnamed("api_key")

    def __init__(self, core: RolloutState) -> None:
        self._core = core
        core.public = self

    def __repr__(self) -> str:
        state = "open" if self._core.ending is None else "ended"
        return f"<Rollout {self.id}: {state}, {len(self.trace)} turns>"

    @property
    def id(self) -> str:
        """Id of the rollout. The rollout's URLs and each turn contain the id."""
        return self._core.id

    @property
    def api_key(self) -> str:
        """The API key for the agent, with 256 random bits. The key is valid only for this rollout."""
        return self._core.api_key

    @property
    def model(self) -> str:
        """Name of the model that `/v1/models` lists and `config` contains. Agents may also request other names."""
        return self._core.model

    @property
    def on_hangup(self) -> OnHangup:
        """Effect of an agent's disconnect on its exchange: `cancel` or `finish`."""
        return self._core.on_hangup

    @property
    def trace(self) -> Trace:
        """The trace of the rollout, with its turns so far."""
        return self._core.trace

    @property
    def stopped(self) -> str | None:
        """Reason why the rollout was stopped: the limit that was reached, or the argument of `stop`.

        None if the rollout was not stopped.

        If a child rollout is stopped with its parent, both have the same reason.
        """
        return self.trace.stopped

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """Errors of the rollout so far, such as a handler's exceptions.

        These errors are raised when the rollout's block ends.
        """
        return tuple(self._core.faults)

    @property
    def calls(self) -> list[Request]:
        """Requests of the agent so far, oldest first, in their recorded form. Unanswered calls are included."""
        turns = self.trace.turns
        recorded = {turn.id for turn in turns}
        waiting = [exchange for exchange in self._core.calls.open if exchange.id not in recorded]
        asked = [(turn.started_at, turn.request) for turn in turns]
        asked += [(exchange.started_at, exchange.recorded_request()) for exchange in waiting]
        return [request for _, request in sorted(asked, key=itemgetter(0))]

    # How an agent reaches it

    def base_url(self, dialect: DialectName | str, *, reach: Reach = "local") -> str:
        """Return the base URL that the official SDK of `dialect` needs to call this rollout.

        Args:
            dialect: a name such as `openai_chat` or `anthropic_messages`.
            reach: `local` for an agent on this machine, `public` for an agent on another machine. If the public URL
                stops working, `on_lost_url` of `serve_endpoint` determines the effect on the rollout.

        Raises:
            ValueError: the dialect is unknown, or the reach is neither `local` nor `public`.
            TunnelError: the rollout has no public URL, or the tunnel is down.
        """
        self._core.hold(reach)
        return self._core.addresses.base_url(self.id, dialect, reach)

    def config(self, dialect: DialectName | str, *, reach: Reach = "local") -> ClientConfig:
        """Return the base URL, the key and the model name for a client of `dialect`.

        Raise the same errors as `base_url`.
        """
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
        """Return a client of the official SDK for `dialect`, configured to call this rollout.

        Args:
            dialect: a dialect of OpenAI for an `openai.AsyncOpenAI`, or `anthropic_messages` for an
                `anthropic.AsyncAnthropic`. triocept has no client for `gemini` and `ollama`.
            sync: True for the blocking client, which can be used in a thread or another process. In trio's own thread,
                it would block the endpoint for whose answer it waits.
            options: arguments of the client's constructor (`max_retries`, `timeout`, …).

        Closing: the client has open connections; `async with rollout.client(…) as client` closes them.

        Raises:
            ModuleNotFoundError: the SDK is not installed.
            ValueError: triocept has no client for this dialect. For the client of another SDK, use the values that
                `config` returns.
        """
        config = self.config(dialect)
        return open_client(self._core.addresses.dialects[dialect], config, sync=sync, options=options)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """Return environment variables that make agents send their model calls to this rollout, and set long timeouts.

        The variables include `TRIOCEPT_URL` and `TRIOCEPT_API_KEY`, for calls to the rollout's services, such as
        `$TRIOCEPT_URL/tools`.

        Args:
            reach: `local` for an agent on this machine, `public` for an agent on another machine. An invalid value
                raises the same errors as in `base_url`.
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
        """The program's functions that the agent can call as tools."""
        return tuple(self._core.services.tools.values())

    @property
    def state(self) -> Any:
        """The state that tools in this program and in other programs share. None if the rollout has no state.

        Tools in other programs read the state with `GET …/state`, and replace the whole state with `PUT …/state`.

        Raises:
            TypeError: the assigned value is not of the state's type, or the rollout has no state.
        """
        return self._core.services.state

    @state.setter
    def state(self, value: Any) -> None:
        self._core.services.set_state(value)

    @property
    def state_key(self) -> str | None:
        """Key for the state at `…/state`, and for nothing else. None if the rollout has no state.

        The agent's key is not valid for the state.
        """
        return self._core.state_key

    def service_url(self, name: str, *, reach: Reach = "local") -> str:
        """Return the URL of a service: `mcp`, `tools`, `tools/NAME`, `user`, `stop`, `model`, `state`, `gate`.

        Raise the same errors as `base_url`. Raise ValueError if `name` is not the name of a service.
        """
        if name not in SERVICES and not name.startswith(("tools/", "gate/")):
            raise ValueError(f"unknown service {name!r}; the services are {', '.join(SERVICES)}, tools/NAME")
        self._core.hold(reach)
        return f"{self._core.addresses.root_url(self.id, reach)}/{name}"

    async def ask(self, request: Request | str | Sequence[Message]) -> Response:
        """Send a model call of the program itself, for example from one of its tools, and return the response.

        The call is answered and recorded like the agent's calls.

        The rollout's handler gets an exchange with `exchange.conversation.kind == "tool"`. `concurrency` counts this
        exchange, too, so a handler that calls `ask` on its own rollout needs a `concurrency` of at least 2. For a model
        call of the handler itself, use `upstream.fetch`.

        Args:
            request: the request, or its messages. A text is sent as one message of the user. The content of a `Message`
                may be a text.

        Raises:
            TypeError, ValueError: the argument is not a request; the error's text names the invalid part. Nothing was
                sent.
            Refusal: the call was refused. If the handler failed, the status is 500.
            RuntimeError: the caller is a recorder that is recording a turn. The call would wait for this recorder, and
                the recorder for the call.

        Cancellation: has the same effect as an agent's disconnect (see `on_hangup`).
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
        """Open a rollout within this rollout: for a sub-agent, or for an agent that runs other agents.

        The child has its own key, trace and services. `child.trace.branch` is the place in the parent's trace at which
        the child branched off. The `children` of the parent's trace contain the child's trace. The child's calls count
        against its own `limits` and its parent's.

        Keywords: id, model, on_hangup, on_retry, on_fault, concurrency, recorder, tools, user, stop, state, state_type,
        embed, moderate, gate, redact, metadata, record_increments, record_wire, limits; see `Endpoint.open_rollout`.
        The parent's values are the defaults of model, recorder, redact, on_hangup, on_retry, record_increments,
        record_wire, embed and moderate.

        Closing: as for `Endpoint.open_rollout`. A child ends when its parent ends, or earlier. If a parent is stopped,
        its children are stopped. If the parent's block ends, the children are closed, and the bodies of the children's
        blocks are cancelled.

        Raises:
            TypeError: the handler is not valid.
            RolloutClosed: the parent ended before the child was opened, while it was being opened, or before the
                child's block had ended.
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
        """Run `handler` on every exchange, each in its own task, until the rollout is stopped or closed.

        Args:
            handler: `async (Exchange) -> None`. If the handler raises a `Refusal` or an `UpstreamError`, this is an
                answer. Any other exception of the handler ends `serve`.
            concurrency: maximum exchanges that are handled at the same time. None means no limit. When exceeded:
                further exchanges wait. If `concurrency` is 1, a handler that calls `ask` on this rollout waits for
                ever.

        Raises:
            TypeError: the argument is not a handler.
            Exception: a handler's exception, unwrapped; several exceptions are raised as a group. The agent has already
                received a 500. Every waiting and later call also gets a 500, until a task takes calls again.

        Cancellation: cancels the handlers. Exchanges that the handlers have not answered stay open, and are refused
        when the rollout ends.
        """
        check_handler(handler)
        _check_concurrency(concurrency)
        # Without this check, a cancelled `serve` would replace a failed `serve`, and answer nothing.
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
        """Run an agent process whose model calls go to this rollout, and wait until it has ended.

        The agent gets the rollout's environment (`environ`), but no provider keys and base URLs from this program's
        environment. While the agent runs, its calls must be answered by the handler of `open_rollout`, or by a task
        that iterates over the rollout.

        Args:
            argv: the command and its arguments.
            env: variables that are added to the agent's environment, or replace its variables; None removes a variable.
            cwd: the agent's working directory. None means the working directory of this program.
            input: bytes for the agent's stdin; a str is encoded as UTF-8. If None, stdin is empty.
            output: `capture` (default) keeps the output. `echo` keeps the output and writes it to this program's stdout
                and stderr. `inherit` lets the agent itself write to this program's stdout and stderr, and keeps no
                output. `terminal` gives the agent this program's terminal and keyboard until the agent ends: only the
                agent gets a Ctrl-C.
            output_limit: maximum bytes of each stream that are kept in memory, half from its start and half from its
                end. Default: 1 MiB.
            stdout_file: a path or a binary file that receives all of stdout, as it arrives.
            stderr_file: a path or a binary file that receives all of stderr, as it arrives.
            terminate_grace: seconds between SIGTERM and SIGKILL when the agent is ended. Default: 5.
            keep_home: if True, the agent uses the user's own configuration, and not the configuration directory of its
                function in `agents`. Except for Claude Code, `argv` and `env` must be those of this function.
                ValueError is raised if a setting of the user could select another provider, or if triocept cannot keep
                this agent from using other providers.

        Returns:
            The return code (negative: the signal that ended the agent), output and duration. If the return code is not
                0, `run_agent` raises no error; `result.check()` raises `AgentFailed`.

        Raises:
            AgentFailed: the agent cannot be started. The error's text gives the reason and the remedy.
            TypeError, ValueError: `argv`, `env`, `input` or an option is invalid, or something disables the hook with
                which the agent asks the rollout's gate; no process was started.
            RolloutClosed: the rollout has ended.
            trio.ClosedResourceError: the endpoint has ended. This can happen in a pool, where a rollout may outlive its
                endpoint.

        Cancellation: ends the agent and all processes that it started: SIGTERM is sent to its process group, and
        SIGKILL after `terminate_grace` seconds. If this program itself is killed, its agents end within 2 s.
        """
        try:
            opened = open_agent(
                self._core, *check_agent_options(self._core, "run_agent", check_argv(argv), options)
            )
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
        """Run an agent process. A loop in the `async with` block can answer the agent's model calls.

        The loop ends when the agent's process ends.

        For example::

            async with rollout.open_agent(["claude", "-p", "fix the bug"]) as agent:
                async for exchange in agent:
                    await exchange.respond("hello")
            print(agent.result.returncode)

        Raise the same errors as `run_agent`. A cancellation has the same effect as for `run_agent`.

        Keywords: env, cwd, input, output, output_limit, stdout_file, stderr_file, terminate_grace, keep_home; see
        `run_agent`.

        Closing: if the agent still runs, it is ended in the same way as by a cancellation of `run_agent`. After the
        block, `agent.result` is available.
        """
        try:
            return open_agent(
                self._core, *check_agent_options(self._core, "open_agent", check_argv(argv), options)
            )
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the relevant line is the caller's

    @trio.lowlevel.enable_ki_protection
    async def stop(self, reason: str) -> None:
        """Stop the rollout: waiting and later calls are refused with 404, after which no known agent retries.

        Loops over the rollout, and calls of `serve`, then end. A second call of `stop` has no effect.

        Raises:
            TypeError: the reason is not a str.
            RuntimeError: the caller is a recorder that is recording a turn. Call `stop` in another task.

        Cancellation: does not prevent the refusal of the calls.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        check_str("the reason", reason)
        self._core.check_recorder_is_free()
        await self._core.end(LimitReached(reason))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def score(self, name: str, value: float) -> None:
        """Record a score of the rollout, which is a name with a number. True is recorded as 1, False as 0.

        The score is added to the trace (`trace.scores`), and passed to recorders that have `record_entry`. A score may
        be recorded even after the end of the rollout and of its endpoint. A score replaces an earlier score with the
        same name.

        Raises:
            TypeError, ValueError: the name is not a str, or the value is not a finite number.
            Exception: the recorder failed. The trace then does not contain the score.
            RuntimeError: the caller is a recorder that is recording an entry.

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
    return rollout._core


@asynccontextmanager
async def open_unlimited_child(rollout: Rollout, handler: Handler) -> AsyncIterator[Rollout]:
    """Open a child rollout to which the parent's limits do not apply, even if a limit has already stopped the parent.

    For example, a scorer calls a model as a judge in such a child rollout.
    """
    core = rollout._core
    branch = core.children.branch()
    parts = core.addresses, core.registry, core.watcher, RolloutOptions()
    child = with_facade(RolloutState(*parts, recorder=core.records.recorder, branch=branch, parent=core))
    child.budget = None
    async with open_rollout(child, handler, None) as opened:
        core.records.writer.add_child(child.trace)
        yield opened


def take_hook(rollout: Rollout, hook: Hook) -> tuple[Literal["before", "after"], ...]:
    return rollout._core.gate.take(hook)


def refuse_gate(rollout: Rollout, agent: str) -> None:
    if rollout._core.gate.given:
        text = f"{agent} has no hooks, so it cannot ask the gate of rollout {rollout.id} about tool calls"
        raise ValueError(f"{text}: open the rollout without gate=, and use approve(handler, policy)")


def give_back(rollout: Rollout, exchange: Exchange) -> None:
    rollout._core.arrivals.put_back(core_of(exchange))


def unanswered(rollout: Rollout) -> list[Request]:
    """Return the calls of a rollout that were not answered; an empty list if the rollout has a handler.

    An unanswered call is still waiting, or was abandoned because the agent has disconnected.
    """
    if rollout._core.handler is not None:
        return []
    gone = [turn.request for turn in rollout.trace if turn.outcome == "abandoned"]
    return gone + [call.recorded_request() for call in rollout._core.calls.open if not call.settled]


def refusals(rollout: Rollout) -> Refusals:
    return rollout._core.refusals


def other_requests(rollout: Rollout) -> tuple[str, ...]:
    """Return the requests to this rollout that are not model calls, such as `GET /models`.

    Equal requests are listed once.
    """
    return tuple(rollout._core.other_requests)


def stray_refusals(rollout: Rollout) -> Refusals:
    """Return the requests that the rollout's endpoint has refused, and that belong to no open rollout."""
    return rollout._core.registry.refusals


def rested(rollout: Rollout) -> bool:
    """Return True if each handler whose exchange is settled has returned."""
    return not any(exchange.settled for exchange in rollout._core.at_work)


async def wait_rested(rollout: Rollout, seconds: float) -> int:
    """Wait, for at most `seconds`, for the handlers whose exchanges are settled. Return how many of them still run.

    The wait is needed because such a handler may still raise an error.
    """
    core = rollout._core
    with trio.move_on_after(seconds):
        while not rested(rollout):
            await core.rested.wait()
    return sum(exchange.settled for exchange in core.at_work)


def report_fault(rollout: Rollout, error: BaseException) -> bool:
    report = rollout._core.report
    if report is None:
        return False
    report(error)
    return True


def with_facade(core: RolloutState) -> RolloutState:
    Rollout(core)  # its constructor sets `core.public`
    return core


def check_opening(
    function: str, handler: Handler | None, options: RolloutOptions
) -> tuple[Handler | None, int | None]:
    """Check the handler and the options of a rollout before it is created. Return the handler and the concurrency.

    Raises:
        TypeError, ValueError: the handler, `concurrency` or a keyword is invalid.
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
