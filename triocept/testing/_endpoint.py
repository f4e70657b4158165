"""An endpoint that runs in its own thread, for programs that do not run trio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from importlib import import_module
from typing import Any, TypeVar, Unpack, cast, final

from .._endpoint import Endpoint, EndpointOptions, serve_endpoint
from .._rollout.exchange import Exchange
from .._rollout.handler import is_unentered
from .._rollout.options import RolloutOptions
from .._util.checks import check_keywords
from ..handlers.script import ScriptedModel
from ._blocks import block
from ._ending import living
from ._exchange import AnyHandler, SyncExchange
from ._handlers import in_loop, with_threads
from ._held import holding
from ._loop import Loop
from ._rollout import SyncRollout

T = TypeVar("T")


@final
class SyncEndpoint:
    """An endpoint that runs in its own thread. Only `serve` creates instances.

    Any number of threads may use the endpoint, except the thread in which it runs.
    """

    def __init__(self, endpoint: Endpoint, loop: Loop) -> None:
        self._endpoint = endpoint
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._endpoint)

    @property
    def host(self) -> str:
        """Address that the socket is bound to."""
        return self._endpoint.host

    @property
    def port(self) -> int:
        """Port on which the endpoint listens, never 0."""
        return self._endpoint.port

    @property
    def url(self) -> str:
        """URL for clients on this machine."""
        return self._endpoint.url

    @property
    def public_url(self) -> str:
        """URL for agents on other machines. Errors: see `Endpoint.public_url`."""
        return self._endpoint.public_url

    @property
    def view_url(self) -> str:
        """URL of the web page that shows the rollouts while they run. Errors: see `Endpoint.view_url`."""
        return self._endpoint.view_url

    @block("rollout")
    def open_rollout(
        self,
        handler: AnyHandler | AbstractAsyncContextManager[Any] | None = None,
        *,
        must_be_used: bool = True,
        **options: Unpack[RolloutOptions],
    ) -> Iterator[SyncRollout]:
        """Open a rollout: one agent run, with its own key and trace.

        Args:
            handler: the handler that answers every exchange. An async handler (`async def handler(exchange: Exchange)`,
                an upstream, a script) runs in the endpoint's thread; a plain function (`def handler(exchange:
                SyncExchange)`) runs in its own thread, and may block. If `handler` is a context manager
                (`open_upstream(…)`), the context is entered, and its value is the handler. If None, the body of the
                `with` block answers, by `next` or iteration. If the body does not begin to answer a call within 30 s,
                the rollout fails with `Unanswered`. This call and all later calls then get a 500.
            must_be_used: True if an unused reply of a script is an error at the end of the block.
            options: see `Endpoint.open_rollout`. Here the default of `on_fault` is `stay`. `embed` and `moderate` may
                be plain functions, which run in their own threads and may block.

        Closing: see `Endpoint.open_rollout`. The end of the block raises the handler's exceptions: a single exception
        unchanged, several exceptions as a group. If the body raised an exception, too, this exception becomes the
        context of the handler's exceptions. After an exception of the handler, the rollout stays open until the end of
        the block, and its agent gets the same 500 for every call. A Ctrl-C and similar exceptions of the body propagate
        unchanged.

        Raises:
            AssertionError: the body raised no exception, but replies are unused. This error is also raised if there is
                no handler, and the body has left a call unanswered. (If there is a handler, an unanswered call is
                refused.)
            ValueError, TypeError: see `Endpoint.open_rollout`.
            RuntimeError: the endpoint has ended, or this method was called in the endpoint's own thread or in another
                process.
            TimeoutError: the endpoint's loop is blocked; the error's text names the blocking function.
        """
        __tracebackhide__ = True
        check_keywords("open_rollout", options, ("handler", "must_be_used", *RolloutOptions.__annotations__))
        with ExitStack() as stack:
            if is_unentered(handler):
                context = cast(AbstractAsyncContextManager[AnyHandler], handler)
                handler = stack.enter_context(self.enter(context))
            rollout: SyncRollout

            def twin(exchange: Exchange) -> SyncExchange:
                return SyncExchange(exchange, rollout, self._loop)

            served = in_loop(cast(AnyHandler, handler), twin) if handler is not None else None
            options.setdefault("on_fault", "stay")
            opening = self._endpoint.open_rollout(served, **with_threads(options))
            script = handler if must_be_used and isinstance(handler, ScriptedModel) else None
            rollout = SyncRollout(stack.enter_context(living(opening, self._loop, script)), self._loop)
            yield rollout

    @block("value")
    def enter(self, context: AbstractAsyncContextManager[T, Any]) -> Iterator[T]:
        """Keep an async context, for example `open_upstream(…)`, open in the endpoint's thread while the block runs.

        Raises:
            BaseException: an exception that the context raises.
            RuntimeError, TimeoutError: see `open_rollout`.
        """
        with holding(self._loop, context) as value:
            yield value


@block("endpoint")
def serve(**options: Unpack[EndpointOptions]) -> Iterator[SyncEndpoint]:
    """Run an endpoint in its own thread while the block runs, for code that is sync or that uses asyncio or trio.

    Args:
        options: see `serve_endpoint`, but the default of `keep_alive` is False. (With keep-alive, an async client that
            is used in several event loops, such as a global client in several tests, would reuse a connection of an
            earlier loop.)

    Closing: see `serve_endpoint`; open rollouts are closed. In a forked process, closing has no effect, because the
    endpoint belongs to the parent process.

    Raises:
        OSError, TypeError, ValueError, TunnelError, EndpointCrashed: see `serve_endpoint`.
        TimeoutError: a handler blocks the endpoint's thread, so that the thread cannot end. The error's text names the
            handler. The thread keeps running, but because it is a daemon, the program can still end.

    Ctrl-C: closes the endpoint, as any exception of the body does.
    """
    check_keywords("serve", options, EndpointOptions.__annotations__)
    options.setdefault("keep_alive", False)
    import_module("triocept._server.serve")  # takes half a second, which would block the loop
    loop = Loop("triocept-endpoint")
    with loop.running(serve_endpoint(**with_threads(options))) as endpoint:
        yield SyncEndpoint(endpoint, loop)
