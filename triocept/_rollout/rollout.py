"""One agent run: its key, its trace, its stream of exchanges. What a program holds of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
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
from .life import open_rollout
from .options import AgentOptions, OnHangup, RolloutOptions
from .rollout_state import RolloutState
from .tools import Given, HostTool
from .workers import run_workers

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

OpenAIName: TypeAlias = Literal["openai_chat", "openai_completions", "openai_responses"]
SERVICES = ("mcp", "tools", "user", "stop", "model", "state")


@final
class Rollout(Given):
    """One agent run. Made by `endpoint.open_rollout` only.

    Iterate over it (`async for exchange in rollout`) to hold the agent's calls in your own hands; the iteration ends
    when the rollout is stopped or closed. Or let `serve` do it. One that has a handler cannot be iterated over
    (RuntimeError): the handler gets every exchange.
    """

    def __init__(self, core: RolloutState) -> None:
        self._core = core
        core.public = self

    def __repr__(self) -> str:
        state = "open" if self._core.ending is None else "ended"
        return f"<Rollout {self.id}: {state}, {len(self.trace)} turns>"

    @property
    def id(self) -> str:
        """It stands in its URLs, and in every turn."""
        return self._core.id

    @property
    def api_key(self) -> str:
        """256 random bits. The agent's key: it opens this rollout, and nothing else."""
        return self._core.api_key

    @property
    def model(self) -> str:
        """The name that `/v1/models` lists and `config` gives. Agents may ask for any other."""
        return self._core.model

    @property
    def on_hangup(self) -> OnHangup:
        """What an agent's hang-up does to its exchange."""
        return self._core.on_hangup

    @property
    def trace(self) -> Trace:
        """The turns so far."""
        return self._core.trace

    @property
    def stopped(self) -> str | None:
        """Why it was stopped: the limit that was reached, or the reason that `stop` was given; None: it was not.

        A child that is stopped with its parent has its parent's reason.
        """
        return self.trace.stopped

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """What went wrong so far, each once: what its handler raised, say. The end of its block raises it."""
        return tuple(self._core.faults)

    @property
    def calls(self) -> list[Request]:
        """What its agent has asked so far, oldest first, as it is recorded; also what is not answered yet."""
        turns = self.trace.turns
        recorded = {turn.id for turn in turns}
        waiting = [exchange for exchange in self._core.calls.open if exchange.id not in recorded]
        asked = [(turn.started_at, turn.request) for turn in turns]
        asked += [(exchange.started_at, exchange.recorded_request()) for exchange in waiting]
        return [request for _, request in sorted(asked, key=itemgetter(0))]

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
        self._core.hold(reach)
        return self._core.addresses.base_url(self.id, dialect, reach)

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
            dialect: those of OpenAI give an `openai.AsyncOpenAI`, `anthropic_messages` an `anthropic.AsyncAnthropic`;
                `gemini` and `ollama` give none.
            sync: the blocking client, for a thread or another process: in trio's own thread it would block the
                endpoint that it waits for.
            options: go to the client's constructor (`max_retries`, `timeout`, …).

        Closing: it holds connections; `async with rollout.client(…) as client` closes them.

        Raises:
            ModuleNotFoundError: the SDK is not installed.
            ValueError: we make none for this dialect: `config` has what the client of another SDK needs.
        """
        config = self.config(dialect)
        return open_client(self._core.addresses.dialects[dialect], config, sync=sync, options=options)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """The environment variables that point agents at this rollout, and give them patience.

        Among them `TRIOCEPT_URL` and `TRIOCEPT_API_KEY`, for what calls its services: `$TRIOCEPT_URL/tools`.

        Args:
            reach: `local` for an agent on this machine, `public` for one elsewhere; errors as of `base_url`.
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
        """The tools of the program that its agent is offered."""
        return tuple(self._core.services.tools.values())

    @property
    def state(self) -> Any:
        """The state that its tools share, in this program and elsewhere; None where it has none.

        What comes by `PUT …/state` replaces it whole.

        Raises:
            TypeError: on assignment, of what is not of the state's type; or the rollout has no state.
        """
        return self._core.services.state

    @state.setter
    def state(self, value: Any) -> None:
        self._core.services.set_state(value)

    @property
    def state_key(self) -> str | None:
        """The key that opens `…/state`, and nothing else; None where there is no state. The agent's key does not."""
        return self._core.state_key

    def service_url(self, name: str, *, reach: Reach = "local") -> str:
        """Where a service is: `mcp`, `tools`, `tools/NAME`, `user`, `stop`, `model`, `state`.

        Errors are those of `base_url`, and ValueError for another name.
        """
        if name not in SERVICES and not name.startswith("tools/"):
            raise ValueError(f"there is no service {name!r}: there are {', '.join(SERVICES)}, tools/NAME")
        self._core.hold(reach)
        return f"{self._core.addresses.root_url(self.id, reach)}/{name}"

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
            asked = request_of(request, self.model)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's
        self._core.records.check_free()
        return await ask(self._core, asked)

    def open_child(
        self,
        handler: Handler | None = None,
        **options: Unpack[RolloutOptions],
    ) -> AbstractAsyncContextManager[Rollout]:
        """Open a rollout that is part of this one: for a sub-agent, or an agent that runs agents.

        It has a key, a trace and services of its own, and knows where it branched off (`child.trace.branch`); the
        parent's trace has its trace among its `children`. Its calls count against `limits`, and against those of its
        parent, too.

        Keywords: id, model, on_hangup, on_retry, on_fault, concurrency, recorder, tools, user, stop, state, state_type,
        embed, moderate, redact, metadata, record_increments, record_wire, limits; see `Endpoint.open_rollout`. model,
        recorder, redact, on_hangup, on_retry, record_increments, record_wire, embed and moderate are the parent's,
        where they are left out.

        Closing: as a rollout. It ends with its parent at the latest: a parent that is stopped stops its children,
        and a parent that closes closes them and cancels their bodies.

        Raises:
            TypeError: the handler is none.
            RolloutClosed: the parent has ended, or did so while the child was being opened, or before this body.
        """
        handler, concurrency = check_opening("open_child", handler, options)
        self._core.children.check_open()
        core = self._core
        child = with_face(
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

    # What the program does with its exchanges

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Exchange:
        core = self._core
        if core.handler is not None:
            core.check_untaken()
        exchange = await core.arrivals.next()
        if exchange is None:
            raise StopAsyncIteration
        assert exchange.face is not None
        return exchange.face

    async def serve(self, handler: Handler, *, concurrency: int | None = None) -> None:
        """Let `handler` answer every exchange, each in a task of its own, until the rollout is stopped or closed.

        Args:
            handler: `async (Exchange) -> None`. Raising a `Refusal` or an `UpstreamError` is an answer; any other
                exception ends the service.
            concurrency: how many exchanges are handled at once; None: as many as come. The others wait: with 1, a
                handler that itself asks this rollout (`ask`) waits for ever.

        Raises:
            TypeError: that is no handler.
            Exception: what a handler raised, bare (several at once: a group). The agent has got a 500 by then, and so
                does whatever else waits or comes, until somebody takes calls again.

        Cancellation: cancels the handlers; what they had not settled stays open until the rollout ends, which
        refuses it.
        """
        check_handler(handler)
        _check_concurrency(concurrency)
        # One that begins cancelled would take over from a service that has failed, and answer nothing.
        await trio.lowlevel.checkpoint_if_cancelled()
        errors: list[BaseException] = []
        try:
            await run_workers(self._core, awaiting(handler), concurrency, errors.append)
        finally:
            raise_all(errors)

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
            opened = open_agent(self._core, check_argv(argv), check_agent_options("run_agent", options))
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

        Errors and cancellation are those of `run_agent`.

        Keywords: env, cwd, input, output, output_limit, stdout_file, stderr_file, terminate_grace; see `run_agent`.

        Closing: an agent that still runs is ended, as by cancellation; then `agent.result` is there.
        """
        try:
            return open_agent(self._core, check_argv(argv), check_agent_options("open_agent", options))
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's

    @trio.lowlevel.enable_ki_protection
    async def stop(self, reason: str) -> None:
        """End the run: what waits and what still comes is refused with 404, the status that every known agent takes
        as final. Iteration and `serve` end. Stopping twice changes nothing.

        Raises:
            TypeError: the reason is no str.
            RuntimeError: from within a recorder that is being given a turn. Another task can do it.

        Cancellation: the refusals are given all the same.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        check_str("the reason", reason)
        self._core.check_recorder_is_free()
        await self._core.end(LimitReached(reason))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def score(self, name: str, value: float) -> None:
        """Say what you make of the run: one number, by name. True is 1, False is 0.

        It goes into the trace (`trace.scores`), and to recorders that want entries; also after the rollout's end, and
        that of its endpoint. The same name again takes the place of what it said before.

        Raises:
            TypeError, ValueError: the name is no str, or the value no finite number.
            Exception: what the recorder raised; the trace does not have it then.
            RuntimeError: from within a recorder that is being given something.

        Cancellation: what has begun is recorded.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        check_str("the name of a score", name)
        check_number("a score", int(value) if isinstance(value, bool) else value, negative=True)
        score = Score(
            rollout=self.id, run=self.trace.run, name=fit_json(name), value=float(value), at=time.time()
        )
        await self._core.records.record_entry(score)
        await trio.lowlevel.cancel_shielded_checkpoint()


def core_of_rollout(rollout: Rollout) -> RolloutState:
    """What a rollout is about, for those of us who ask it as a server does."""
    return rollout._core


def give_back(rollout: Rollout, exchange: Exchange) -> None:
    """Put an exchange back that was taken, and did not reach whoever asked for it."""
    rollout._core.arrivals.put_back(core_of(exchange))


def unanswered(rollout: Rollout) -> list[Request]:
    """The calls that nobody answers, where no handler does: those that wait, and those whose agent has hung up."""
    if rollout._core.handler is not None:
        return []
    gone = [turn.request for turn in rollout.trace if turn.outcome == "abandoned"]
    return gone + [call.recorded_request() for call in rollout._core.calls.open if not call.settled]


def last_refusal(rollout: Rollout) -> str | None:
    """Return the latest request to this rollout that was refused before it became a call, and why."""
    return rollout._core.last_refusal


def rested(rollout: Rollout) -> bool:
    """Whether no handler is at work on what it has answered."""
    return not any(exchange.settled for exchange in rollout._core.at_work)


async def wait_rested(rollout: Rollout, seconds: float) -> int:
    """Let handlers go on that have answered, and may still fail; how many have not ended after so many seconds."""
    core = rollout._core
    with trio.move_on_after(seconds):
        while not rested(rollout):
            await core.rested.wait()
    return sum(exchange.settled for exchange in core.at_work)


def report_fault(rollout: Rollout, error: BaseException) -> bool:
    """Have its owner told of what was raised where nobody waits for it; whether it is still open."""
    report = rollout._core.report
    if report is None:
        return False
    report(error)
    return True


def with_face(core: RolloutState) -> RolloutState:
    """A new core, with the rollout that its program will hold."""
    Rollout(core)
    return core


def check_opening(
    function: str, handler: Handler | None, options: RolloutOptions
) -> tuple[Handler | None, int | None]:
    """What a rollout's handler is, and how many exchanges it gets at once: looked at before anything is made.

    Raises:
        TypeError, ValueError: that is no handler, no such number, or a keyword that there is none of.
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
