"""One agent run, as a program holds it that is not the loop's: `Rollout`, with verbs that block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Unpack, final, overload

import trio

from .._canonical.content import ToolResult
from .._canonical.request import Request
from .._process.output import AgentResult
from .._rollout.addresses import DialectName, Reach
from .._rollout.clients import ClientConfig
from .._rollout.exchange import Exchange
from .._rollout.options import AgentOptions
from .._rollout.rollout import OpenAIName, give_back
from .._trace.trace import Trace
from .._util.failures import raise_all
from ..dialects import known_dialects
from ..errors import RolloutClosed
from ._assert_messages import ExpectedMessage, check_messages
from ._assert_tool import carried_out
from ._ending import Life
from ._environment import Target
from ._exchange import SyncExchange
from ._job import Job, runs_asyncio
from ._loop import Loop

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds that `next` waits for a call, unless said otherwise."""


@final
class SyncRollout:
    """One agent run. Made by `SyncEndpoint.open_rollout` and `fake_model` only.

    Iterate over it to hold the agent's calls in your own hands, while the agent runs in another thread or process; the
    iteration ends when the rollout is stopped or closed. It may be used from any number of threads, but the endpoint's
    own.
    """

    def __init__(self, life: Life, loop: Loop) -> None:
        self._life = life
        self._rollout = life.rollout
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._rollout)

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            """What `with` is told of a model that is open."""
            raise TypeError(
                "it is open already, and what opened it ends it: `model = triocept_model(…)`, with no `with`"
            )

        def __exit__(self, *error: object) -> None: ...

    @property
    def id(self) -> str:
        """It stands in its URLs, and in every turn."""
        return self._rollout.id

    @property
    def api_key(self) -> str:
        """The agent's key: it opens this rollout, and nothing else."""
        return self._rollout.api_key

    @property
    def model(self) -> str:
        """The name that `/v1/models` lists; agents may ask for any other."""
        return self._rollout.model

    @property
    def trace(self) -> Trace:
        """The turns so far: a copy, which does not grow. After its block, all of it.

        Raises:
            RuntimeError, TimeoutError: as `SyncExchange.respond`.
        """
        return self._life.trace

    @property
    def calls(self) -> list[Request]:
        """What its agent has asked so far, oldest first; also what is not answered yet. Errors as of `trace`."""
        return self._life.calls

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """What went wrong so far: what its handler raised, say. The end of its block raises it."""
        return self._life.faults

    @property
    def stopped(self) -> str | None:
        """Why it was stopped; None: it was not."""
        return self._rollout.stopped

    # What an agent needs to reach it

    def base_url(self, dialect: DialectName | str, *, reach: Reach = "local") -> str:
        """Where the agent's SDK for `dialect` has to be pointed at; errors as of `Rollout.base_url`."""
        return self._where(partial(self._rollout.base_url, dialect, reach=reach), reach)

    def config(self, dialect: DialectName | str, *, reach: Reach = "local") -> ClientConfig:
        """Base URL, key and model for a client of `dialect`; errors as of `base_url`."""
        return self._where(partial(self._rollout.config, dialect, reach=reach), reach)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """The environment variables that point agents of every dialect at this rollout; errors as of `base_url`."""
        return self._where(partial(self._rollout.environ, reach=reach), reach)

    @overload
    def client(self, dialect: OpenAIName, **options: Any) -> OpenAI: ...
    @overload
    def client(self, dialect: Literal["anthropic_messages"], **options: Any) -> Anthropic: ...
    @overload
    def client(self, dialect: str, **options: Any) -> Any: ...
    def client(self, dialect: str, **options: Any) -> Any:
        """The official SDK's blocking client for `dialect`, pointed at this rollout. It is closed with it.

        Args:
            dialect: those of OpenAI give an `openai.OpenAI`, `anthropic_messages` an `anthropic.Anthropic`.
            options: go to the client's constructor (`max_retries`, `timeout`, …).

        Raises:
            ModuleNotFoundError, ValueError: as `Rollout.client`.
        """
        _import_sdk(dialect)
        client: Any = self._loop.ask(partial(self._rollout.client, dialect, sync=True, **options))
        self._life.closers.append(client.close)
        return client

    @overload
    def async_client(self, dialect: OpenAIName, **options: Any) -> AsyncOpenAI: ...
    @overload
    def async_client(self, dialect: Literal["anthropic_messages"], **options: Any) -> AsyncAnthropic: ...
    @overload
    def async_client(self, dialect: str, **options: Any) -> Any: ...
    def async_client(self, dialect: str, **options: Any) -> Any:
        """The official SDK's async client, for asyncio or trio; `async with` closes it. Otherwise as `client`."""
        _import_sdk(dialect)
        return self._loop.ask(partial(self._rollout.client, dialect, **options))

    # What the program does with its exchanges

    def next(self, *, timeout: float | None = TIMEOUT) -> SyncExchange:
        """Wait for the next call.

        Args:
            timeout: seconds; None waits for as long as the rollout is open.

        Raises:
            TimeoutError: none came. It is not lost if it comes later.
            RolloutClosed: the rollout was stopped, or is closed.
            RuntimeError: it has a handler, which gets every exchange; or as `SyncExchange.respond`.

        Ctrl-C: an exchange that was on its way here is had by the next who asks.
        """
        job = Job[Exchange](self._give_back)
        try:
            return self._twin(self._loop.do(job, self._take, timeout, runs_asyncio()))
        except BaseException:
            job.abandon()
            raise

    async def anext(self, *, timeout: float | None = TIMEOUT) -> SyncExchange:
        """The same as `next`, for a task of asyncio's, or of trio's: other tasks run meanwhile.

        Cancellation: nothing is lost.
        """
        job = Job[Exchange](self._give_back)
        try:
            return self._twin(await self._loop.do_async(job, self._take, timeout, False))
        except BaseException:
            job.abandon()
            raise

    def __iter__(self) -> Iterator[SyncExchange]:
        return self

    def __next__(self) -> SyncExchange:
        try:
            return self.next(timeout=None)
        except RolloutClosed:
            raise StopIteration from None

    def __aiter__(self) -> SyncRollout:
        return self

    async def __anext__(self) -> SyncExchange:
        try:
            return await self.anext(timeout=None)
        except RolloutClosed:
            raise StopAsyncIteration from None

    def run_agent(
        self, argv: Sequence[str | os.PathLike[str]], **options: Unpack[AgentOptions]
    ) -> AgentResult:
        """Run an agent in this rollout, to its end; arguments, result and errors as of `Rollout.run_agent`.

        Something has to answer its calls meanwhile: the handler, or another thread that iterates.

        Ctrl-C: ends the agent, as a cancellation does.
        """
        return self._loop.call(partial(self._rollout.run_agent, argv, **options))

    def stop(self, reason: str) -> None:
        """End the run; as `Rollout.stop`."""
        self._loop.call(self._rollout.stop, reason)

    def score(self, name: str, value: float) -> None:
        """Say what you make of the run; as `Rollout.score`."""
        self._loop.call(self._rollout.score, name, value)

    # What a test says of it

    def assert_called_with_tool(self, name: str, /, **arguments: Any) -> ToolResult:
        """See that the application has carried out a call of this tool: that it came back to the model with the call
        and its result. What the model asked for, and nobody carried out, does not count; nor does a result that the
        application sends as plain text (smolagents does): `assert_messages` sees that.

        Args:
            name: the tool's.
            arguments: those that the call had, and perhaps others; `ANY`, a pattern, `containing(…)` stand for values.

        Returns:
            The result that the application gave, of the first such call.

        Raises:
            AssertionError: there is no such call; the text lists those that there are.
        """
        __tracebackhide__ = True
        calls = self._all_calls()
        return carried_out(calls, self.trace.turns, name, arguments)

    def assert_messages(self, *expected: ExpectedMessage, call: int = -1) -> None:
        """See what messages a call had, all of them in order::

            model.assert_messages(("system", containing("terse")), ..., ("user", "hi"))

        Args:
            expected: for each message its text; a pair of its role and its text; a `ToolCall` that is in it, whatever
                its id; or a `Message`, with the same text, tool calls, results and media (ids, the name and reasoning
                count where it has them). A text may be a pattern, which is searched for, or anything with an equality
                of its own: `containing(…)`, `unittest.mock.ANY`. `...` stands for any number of messages.
            call: which call; the last, unless said otherwise.

        Raises:
            AssertionError: they are others; the text shows the difference.
        """
        __tracebackhide__ = True
        calls = self._all_calls()
        if not -len(calls) <= call < len(calls):
            raise AssertionError(f"there is no call {call}: {len(calls)} came")
        check_messages(calls[call], expected)

    def check(self) -> None:
        """Raise what is wrong so far; the end of its block does the same, and raises nothing twice.

        Raises:
            AssertionError: replies are left, or a call was not answered.
            Exception: what its handler raised; several things: a group.
        """
        __tracebackhide__ = True
        raise_all(self._life.news())

    # Behind it

    def _all_calls(self) -> list[Request]:
        __tracebackhide__ = True
        calls = self.calls
        if not calls:
            raise AssertionError(self._life.target.why_no_call())
        return calls

    def _where(self, function: Callable[[], T], reach: Reach) -> T:
        """Where it is found. On this machine that never changes; a tunnel does, and what it is told."""
        return self._loop.ask(function) if reach == "public" else self._loop.read(function)

    async def _take(self, timeout: float | None, blocks_asyncio: bool) -> Exchange:
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                return await self._rollout.__anext__()
            except StopAsyncIteration:
                raise RolloutClosed(f"rollout {self.id} has ended: no call comes any more") from None
        raise TimeoutError(self._why_nothing(timeout, blocks_asyncio))

    def _why_nothing(self, timeout: float | None, blocks_asyncio: bool) -> str:
        text = f"for {timeout:g} s no call came"
        if blocks_asyncio:
            text += "; asyncio runs in this thread, and stood still meanwhile: `await model.anext()`"
        elif not self._rollout.calls:
            text += f". Indeed {self._life.target.why_no_call()}"
        return text

    def _give_back(self, exchange: Exchange) -> None:
        """Called in whatever thread."""
        try:
            self._loop.soon(partial(give_back, self._rollout, exchange))
        except RuntimeError:  # the loop has ended, and refused it
            pass

    def _twin(self, exchange: Exchange) -> SyncExchange:
        return SyncExchange(exchange, self, self._loop)


def news_of(rollout: SyncRollout) -> list[BaseException]:
    """What is wrong with it so far, and was not told before; errors as of `SyncRollout.trace`."""
    return rollout._life.news()


def target_of(rollout: SyncRollout) -> Target:
    """It, as somewhere that the environment may lead to."""
    return rollout._life.target


def _import_sdk(dialect: str) -> None:
    """Import the SDK of a dialect in this thread: that takes seconds on a busy machine, and would block the loop."""
    facts = known_dialects().get(dialect)
    if facts is not None and facts.sdk is not None and find_spec(facts.sdk.package) is not None:
        import_module(facts.sdk.package)
