"""Sync counterpart of `Rollout`, for programs that do not run trio: its methods block."""

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
from .._util.checks import Misnamed
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
    """A rollout (one agent run) for sync programs. Only `SyncEndpoint.open_rollout` and `fake_model` create instances.

    Iterate over the rollout to answer the agent's calls in the program itself, while the agent runs in another thread
    or process. The iteration ends when the rollout is stopped or closed. Any number of threads may use the rollout,
    except the thread of the endpoint.
    """

    if not TYPE_CHECKING:
        requests, turns = Misnamed("calls"), Misnamed("trace, a list of the turns")

    def __init__(self, life: Life, loop: Loop) -> None:
        self._life = life
        self._rollout = life.rollout
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._rollout)

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(
                "the model is already open, and the test closes it: write `model = triocept_model(…)`, without `with`"
            )

        def __exit__(self, *error: object) -> None: ...

    @property
    def id(self) -> str:
        """Id of the rollout, which is a part of its URLs and of every turn in its trace."""
        return self._rollout.id

    @property
    def api_key(self) -> str:
        """API key that the agent must send. The key is valid for this rollout only."""
        return self._rollout.api_key

    @property
    def model(self) -> str:
        """Model name that `/v1/models` lists. Agents may request any other name, too."""
        return self._rollout.model

    @property
    def trace(self) -> Trace:
        """A copy of the trace so far, which does not change later. After the `with` block: the complete trace.

        Raises:
            RuntimeError, TimeoutError: see `SyncExchange.respond`.
        """
        return self._life.trace

    @property
    def calls(self) -> list[Request]:
        """The agent's requests so far, oldest first, including unanswered requests. Errors: see `trace`."""
        return self._life.calls

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """The faults of the rollout so far, such as exceptions of the handler. The end of the block raises them."""
        return self._life.faults

    @property
    def stopped(self) -> str | None:
        """Reason why the rollout was stopped; None if the rollout was not stopped."""
        return self._rollout.stopped

    # Address and credentials for an agent

    def base_url(self, dialect: DialectName | str, *, reach: Reach = "local") -> str:
        """Return the base URL to set in an agent's SDK for `dialect`. Errors: see `Rollout.base_url`."""
        return self._where(partial(self._rollout.base_url, dialect, reach=reach), reach)

    def config(self, dialect: DialectName | str, *, reach: Reach = "local") -> ClientConfig:
        """Return the base URL, API key and model name for a client of `dialect`. Errors: see `base_url`."""
        return self._where(partial(self._rollout.config, dialect, reach=reach), reach)

    def environ(self, *, reach: Reach = "local") -> dict[str, str]:
        """Return the environment variables with which agents of every dialect call this rollout.

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
        """Return the official SDK's sync client for `dialect`.

        The client calls this rollout, and is closed when the rollout closes.

        Args:
            dialect: the dialect. The client is an `openai.OpenAI` for OpenAI's dialects, and an `anthropic.Anthropic`
                for `anthropic_messages`.
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
        """Return the official SDK's async client for `dialect`, for asyncio or trio. Close it by `async with`.

        Arguments and errors: see `client`.
        """
        _import_sdk(dialect)
        return self._loop.ask(partial(self._rollout.client, dialect, **options))

    # Exchanges in the program

    def next(self, *, timeout: float | None = TIMEOUT) -> SyncExchange:
        """Wait for the agent's next model call, and return it as an exchange, which the program must answer.

        Args:
            timeout: maximum seconds. None means to wait as long as the rollout is open.

        Raises:
            TimeoutError: no call arrived in time. A call that arrives later is not lost.
            RolloutClosed: the rollout was stopped or closed.
            RuntimeError: the rollout has a handler, which answers every exchange. For other causes, see
                `SyncExchange.respond`.

        Ctrl-C: no exchange is lost; the next call of this method returns the exchange.
        """
        job = Job[Exchange](self._give_back)
        try:
            return self._twin(self._loop.do(job, self._take, timeout, runs_asyncio()))
        except BaseException:
            job.abandon()
            raise

    async def anext(self, *, timeout: float | None = TIMEOUT) -> SyncExchange:
        """Wait for the agent's next model call, as `next` does, in a task of asyncio or trio, while other tasks run.

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

        While the agent runs, the handler, or an iteration in another thread, must answer its calls.

        Ctrl-C: ends the agent, as a cancellation of `Rollout.run_agent` does.
        """
        return self._loop.call(partial(self._rollout.run_agent, argv, **options))

    def stop(self, reason: str) -> None:
        """Stop the rollout; see `Rollout.stop`."""
        self._loop.call(self._rollout.stop, reason)

    def score(self, name: str, value: float) -> None:
        """Record a score in the rollout's trace; see `Rollout.score`."""
        self._loop.call(self._rollout.score, name, value)

    # Assertions of a test

    def assert_called_with_tool(self, name: str, /, **arguments: Any) -> ToolResult:
        """Raise AssertionError unless the application has carried out a call of the tool `name`.

        A call is carried out if a later request contains the call and its result. If the application sends a result as
        plain text (as smolagents does), the call does not count as carried out; check such a text by `assert_messages`.

        Args:
            name: name of the tool.
            arguments: expected arguments of the tool call, which may have other arguments, too. A value may be `ANY`, a
                pattern or `containing(…)`.

        Returns:
            The result that the application sent for the first such call.

        Raises:
            AssertionError: the application has carried out no such tool call. The error's text lists the existing tool
                calls.
        """
        __tracebackhide__ = True
        calls = self._all_calls()
        return carried_out(calls, self.trace.turns, name, arguments)

    def assert_messages(self, *expected: ExpectedMessage, call: int = -1) -> None:
        """Raise AssertionError unless a model call has exactly the `expected` messages, in this order.

        For example::

            model.assert_messages(("system", containing("terse")), ..., ("user", "hi"))

        Args:
            expected: for each message one of: its text; a pair of its role and its text; a `ToolCall` that it contains,
                with any id; a `Message` with equal text, tool calls, results and media. Ids, name and reasoning are
                compared only if the expected message has them. In place of a text, a pattern (which must be found in
                the text) or an object with its own `__eq__` is allowed: `containing(…)`, `unittest.mock.ANY`. `...`
                matches any number of messages.
            call: index of the call in `calls`. Default: the last call.

        Raises:
            AssertionError: the messages differ. The error's text shows the differences.
        """
        __tracebackhide__ = True
        calls = self._all_calls()
        if not -len(calls) <= call < len(calls):
            raise AssertionError(
                f"there is no call with the index {call}: the model was called {len(calls)} times"
            )
        check_messages(calls[call], expected)

    def check(self) -> None:
        """Raise the problems of this rollout so far. The end of the `with` block does not raise these problems again.

        Raises:
            AssertionError: a reply is unused; or the rollout has no handler, and a call was not answered.
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
        """Return the address that `function` returns. If the address is public, call `function` in the loop."""
        return self._loop.ask(function) if reach == "public" else self._loop.read(function)

    async def _take(self, timeout: float | None, blocks_asyncio: bool) -> Exchange:
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                return await self._rollout.__anext__()
            except StopAsyncIteration:
                raise RolloutClosed(f"rollout {self.id} has ended: no further call can arrive") from None
        text = f"no call came within {timeout:g} s"
        if blocks_asyncio:
            text += "; asyncio runs in this thread, and `next` blocked it: use `await model.anext()`"
        elif not self._rollout.calls:
            text += f". The reason may be: {self._life.target.why_no_call()}"
        raise TimeoutError(text)

    def _give_back(self, exchange: Exchange) -> None:
        """Give `exchange` back to the rollout, so that the next call of `next` returns the exchange.

        May be called in any thread.
        """
        try:
            self._loop.soon(partial(give_back, self._rollout, exchange))
        except RuntimeError:  # the loop has ended, and has refused the exchange
            pass

    def _twin(self, exchange: Exchange) -> SyncExchange:
        return SyncExchange(exchange, self, self._loop)


def news_of(rollout: SyncRollout) -> list[BaseException]:
    """Return the rollout's problems since the last call of this function. Errors: see `SyncRollout.trace`."""
    return rollout._life.news()


def on_unknown_tools(rollout: SyncRollout, call: Callable[[str], object]) -> None:
    """Set the function that gets a warning text if a reply calls a tool which the request does not offer.

    Without such a function, the warning is logged.
    """
    core_of_rollout(rollout._life.rollout).on_unknown_tools = call


def target_of(rollout: SyncRollout) -> Target:
    return rollout._life.target


def _import_sdk(dialect: str) -> None:
    """Import the SDK of `dialect` in this thread. In the loop's thread, the import would block the loop for seconds."""
    facts = known_dialects().get(dialect)
    if facts is not None and facts.sdk is not None and find_spec(facts.sdk.package) is not None:
        import_module(facts.sdk.package)
