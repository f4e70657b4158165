"""Sync counterpart of `Rollout` for programs that do not run trio: its methods block."""

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
from .._rollout.rollout import OpenAIName, core_of_rollout, give_back
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
"""Default seconds that `next` waits for a call."""


@final
class SyncRollout:
    """An agent run. Made by `SyncEndpoint.open_rollout` and `fake_model` only.

    Iterate over it to answer the agent's calls in the program itself, while the agent runs in another thread or
    process. The iteration ends when the rollout is stopped or closed. Any number of threads may use the rollout, but
    not the thread of the endpoint.
    """

    def __init__(self, life: Life, loop: Loop) -> None:
        self._life = life
        self._rollout = life.rollout
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._rollout)

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            """Raise TypeError: the model is already open."""
            raise TypeError(
                "the model is already open, and the test closes it: write `model = triocept_model(…)`, without `with`"
            )

        def __exit__(self, *error: object) -> None: ...

    @property
    def id(self) -> str:
        """Id of the rollout, which is part of its URLs and of every turn."""
        return self._rollout.id

    @property
    def api_key(self) -> str:
        """API key of the agent; it is valid for this rollout only."""
        return self._rollout.api_key

    @property
    def model(self) -> str:
        """Model name that `/v1/models` lists; agents may request any other name."""
        return self._rollout.model

    @property
    def trace(self) -> Trace:
        """Trace: a copy of the turns so far, to which no turns are added; after the block, the complete trace.

        Raises:
            RuntimeError, TimeoutError: see `SyncExchange.respond`.
        """
        return self._life.trace

    @property
    def calls(self) -> list[Request]:
        """Requests of the agent so far, oldest first, including unanswered calls. Errors: see `trace`."""
        return self._life.calls

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """Faults so far, for example exceptions of the handler. The end of the block raises them."""
        return self._life.faults

    @property
    def stopped(self) -> str | None:
        """Reason why the rollout was stopped; None if it was not stopped."""
        return self._rollout.stopped

    # Address and credentials for an agent

    def base_url(self, dialect: DialectName | str, *, reach: Reach = "local") -> str:
        """Return the base URL for the agent's SDK of `dialect`. Errors: see `Rollout.base_url`."""
        return self._where(partial(self._rollout.base_url, dialect, reach=reach), reach)

    def config(self, dialect: DialectName | str, *, reach: Reach = "local") -> ClientConfig:
        """Return base URL, key and model for a client of `dialect`. Errors: see `base_url`."""
        return self._where(partial(self._rollout.config, dialect, reach=reach), reach)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """Return the environment variables that point agents of every dialect at this rollout.

        Errors: see `base_url`.
        """
        return self._where(partial(self._rollout.environ, reach=reach), reach)

    @overload
    def client(self, dialect: OpenAIName, **options: Any) -> OpenAI: ...
    @overload
    def client(self, dialect: Literal["anthropic_messages"], **options: Any) -> Anthropic: ...
    @overload
    def client(self, dialect: str, **options: Any) -> Any: ...
    def client(self, dialect: str, **options: Any) -> Any:
        """Return the official SDK's blocking client for `dialect`, pointed at this rollout; it closes with the rollout.

        Args:
            dialect: for OpenAI's dialects the client is an `openai.OpenAI`, for `anthropic_messages` an
                `anthropic.Anthropic`.
            options: options of the client's constructor (`max_retries`, `timeout`, …).

        Raises:
            ModuleNotFoundError, ValueError: see `Rollout.client`.
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
        """Return the official SDK's async client, for asyncio or trio; `async with` closes it.

        Arguments and errors: see `client`.
        """
        _import_sdk(dialect)
        return self._loop.ask(partial(self._rollout.client, dialect, **options))

    # Exchanges in the program

    def next(self, *, timeout: float | None = TIMEOUT) -> SyncExchange:
        """Wait for the next call.

        Args:
            timeout: maximum seconds; None waits as long as the rollout is open.

        Raises:
            TimeoutError: no call arrived in time. A call that arrives later is not lost.
            RolloutClosed: the rollout was stopped or closed.
            RuntimeError: the rollout has a handler, which gets every exchange; or see `SyncExchange.respond`.

        Ctrl-C: no exchange is lost; the next caller gets it.
        """
        job = Job[Exchange](self._give_back)
        try:
            return self._twin(self._loop.do(job, self._take, timeout, runs_asyncio()))
        except BaseException:
            job.abandon()
            raise

    async def anext(self, *, timeout: float | None = TIMEOUT) -> SyncExchange:
        """Wait for the next call as `next` does, in a task of asyncio or trio, while other tasks run.

        Cancellation: no exchange is lost.
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
        """Start an agent in this rollout and wait until it ends. Arguments, result and errors: see `Rollout.run_agent`.

        Meanwhile the handler, or an iteration in another thread, must answer the agent's calls.

        Ctrl-C: ends the agent, as a cancellation of `Rollout.run_agent` does.
        """
        return self._loop.call(partial(self._rollout.run_agent, argv, **options))

    def stop(self, reason: str) -> None:
        """Stop the run; see `Rollout.stop`."""
        self._loop.call(self._rollout.stop, reason)

    def score(self, name: str, value: float) -> None:
        """Record a score of the run; see `Rollout.score`."""
        self._loop.call(self._rollout.score, name, value)

    # Assertions of a test

    def assert_called_with_tool(self, name: str, /, **arguments: Any) -> ToolResult:
        """Check that the application has carried out a call of this tool.

        A later request must contain the tool call and its result. A result that the application sends as plain text (as
        smolagents does) does not count. To check plain text, use `assert_messages`.

        Args:
            name: name of the tool.
            arguments: expected arguments; the call may have others, too. A value may be `ANY`, a pattern or
                `containing(…)`.

        Returns:
            The result that the application sent for the first such call.

        Raises:
            AssertionError: there is no such tool call; the text lists the existing tool calls.
        """
        __tracebackhide__ = True
        calls = self._all_calls()
        return carried_out(calls, self.trace.turns, name, arguments)

    def assert_messages(self, *expected: ExpectedMessage, call: int = -1) -> None:
        """Check all messages of a call, in order.

        For example::

            model.assert_messages(("system", containing("terse")), ..., ("user", "hi"))

        Args:
            expected: for each message one of: its text; a pair of its role and its text; a `ToolCall` that it contains,
                with any id; a `Message` with equal text, tool calls, results and media. Ids, name and reasoning are
                compared only if the expected message has them. A text may be a pattern, which is searched for, or an
                object with its own equality: `containing(…)`, `unittest.mock.ANY`. `...` stands for any number of
                messages.
            call: index of the call in `calls`. Default: the last call.

        Raises:
            AssertionError: the messages differ; the text shows the difference.
        """
        __tracebackhide__ = True
        calls = self._all_calls()
        if not -len(calls) <= call < len(calls):
            raise AssertionError(
                f"there is no call with the index {call}: the model was called {len(calls)} times"
            )
        check_messages(calls[call], expected)

    def check(self) -> None:
        """Raise the problems that exist so far; the end of the block does not raise them again.

        Raises:
            AssertionError: a reply is unused, or a call was not answered.
            Exception: the handler raised an exception; several exceptions are raised as a group.
        """
        __tracebackhide__ = True
        raise_all(self._life.news())

    # Private helpers

    def _all_calls(self) -> list[Request]:
        __tracebackhide__ = True
        calls = self.calls
        if not calls:
            raise AssertionError(self._life.target.why_no_call())
        return calls

    def _where(self, function: Callable[[], T], reach: Reach) -> T:
        """Return an address. Only public addresses need the loop, which has the state of the tunnel."""
        return self._loop.ask(function) if reach == "public" else self._loop.read(function)

    async def _take(self, timeout: float | None, blocks_asyncio: bool) -> Exchange:
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                return await self._rollout.__anext__()
            except StopAsyncIteration:
                raise RolloutClosed(f"rollout {self.id} has ended: no further call can arrive") from None
        text = f"for {timeout:g} s no call came"
        if blocks_asyncio:
            text += "; asyncio runs in this thread, and was blocked meanwhile: `await model.anext()`"
        elif not self._rollout.calls:
            text += f". The reason may be: {self._life.target.why_no_call()}"
        raise TimeoutError(text)

    def _give_back(self, exchange: Exchange) -> None:
        """Return an exchange to the rollout, so that the next caller gets it. May be called in any thread."""
        try:
            self._loop.soon(partial(give_back, self._rollout, exchange))
        except RuntimeError:  # the loop has ended, and has refused the exchange
            pass

    def _twin(self, exchange: Exchange) -> SyncExchange:
        return SyncExchange(exchange, self, self._loop)


def news_of(rollout: SyncRollout) -> list[BaseException]:
    """Return the new problems of the rollout. Errors: see `SyncRollout.trace`."""
    return rollout._life.news()


def on_unknown_tools(rollout: SyncRollout, call: Callable[[str], object]) -> None:
    """Call `call` in the endpoint's thread if a reply calls a tool that the request did not offer; log nothing then."""
    core_of_rollout(rollout._life.rollout).on_unknown_tools = call


def target_of(rollout: SyncRollout) -> Target:
    return rollout._life.target


def _import_sdk(dialect: str) -> None:
    """Import a dialect's SDK in this thread: the import takes seconds on a busy machine, and would block the loop."""
    facts = known_dialects().get(dialect)
    if facts is not None and facts.sdk is not None and find_spec(facts.sdk.package) is not None:
        import_module(facts.sdk.package)
