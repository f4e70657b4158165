"""The endpoint in a thread of its own, for programs in which trio does not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
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
    """A running endpoint, in a thread of its own. Made by `serve` only.

    It may be used from any number of threads, but its own.
    """

    def __init__(self, endpoint: Endpoint, loop: Loop) -> None:
        self._endpoint = endpoint
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._endpoint)

    @property
    def host(self) -> str:
        """The address that the socket is bound to."""
        return self._endpoint.host

    @property
    def port(self) -> int:
        """The live port, never 0."""
        return self._endpoint.port

    @property
    def url(self) -> str:
        """An address that can be dialled from this machine."""
        return self._endpoint.url

    @property
    def public_url(self) -> str:
        """The address for agents elsewhere; errors as of `Endpoint.public_url`."""
        return self._endpoint.public_url

    @block("rollout")
    def open_rollout(
        self,
        handler: AnyHandler | AbstractAsyncContextManager[Any] | None = None,
        *,
        must_be_used: bool = True,
        **options: Unpack[RolloutOptions],
    ) -> Iterator[SyncRollout]:
        """Open a rollout: one agent run, with a key and a trace of its own.

        Args:
            handler: answers every exchange: an async one (`async def handler(exchange: Exchange)`, an upstream, a
                script) in the endpoint's thread; a plain function (`def handler(exchange: SyncExchange)`), which may
                block, in a thread of its own. What is to be entered first (`open_upstream(…)`) is. None: the body
                answers, by `next` or iteration. Where it has not begun to for 30 s, though a call waits, that is an
                error (`Unanswered`), and that call and all later ones get a 500.
            must_be_used: whether a reply of a script that is left at the end is an error.
            options: as of `Endpoint.open_rollout`; `on_fault` is `stay` here, unless said otherwise. An `embed` or a
                `moderate` that is a plain function may block, as a handler.

        Closing: as of `Endpoint.open_rollout`. What the handler raised is raised at the end of the block, one bare,
        several as a group, in the context of the body's own exception if there is one: until then the rollout stays
        open, and its agent gets the same 500 for every call. A Ctrl-C and its like leave as they are.

        Raises:
            AssertionError: at the end of a body that has not failed: replies are left, or a call was never answered.
            ValueError, TypeError: as `Endpoint.open_rollout`.
            RuntimeError: the endpoint has ended; or this is its own thread, or another process.
            TimeoutError: the endpoint is blocked; the text says by whom.
        """
        __tracebackhide__ = True
        check_keywords("open_rollout", options, ("handler", "must_be_used", *RolloutOptions.__annotations__))
        with ExitStack() as stack:
            if is_unentered(handler):
                context = cast(AbstractAsyncContextManager[AnyHandler], handler)
                handler = stack.enter_context(self.enter(context))
            served = cast(AnyHandler | None, handler)
            yield stack.enter_context(self._open(served, options, must_be_used=must_be_used))

    @contextmanager
    def _open(
        self, handler: AnyHandler | None, options: RolloutOptions, *, must_be_used: bool
    ) -> Iterator[SyncRollout]:
        rollout: SyncRollout

        def twin(exchange: Exchange) -> SyncExchange:
            return SyncExchange(exchange, rollout, self._loop)

        served = in_loop(handler, twin) if handler is not None else None
        options.setdefault("on_fault", "stay")
        context = self._endpoint.open_rollout(served, **with_threads(options))
        script = handler if must_be_used and isinstance(handler, ScriptedModel) else None
        with living(context, self._loop, script) as life:
            rollout = SyncRollout(life, self._loop)
            yield rollout

    @block("value")
    def enter(self, context: AbstractAsyncContextManager[T, Any]) -> Iterator[T]:
        """Have an async context (`open_upstream(…)`, say) open in the endpoint's thread for as long as the block runs.

        Raises:
            BaseException: what it raised.
            RuntimeError, TimeoutError: as `open_rollout`.
        """
        with holding(self._loop, context) as value:
            yield value


@block("endpoint")
def serve(**options: Unpack[EndpointOptions]) -> Iterator[SyncEndpoint]:
    """Run an endpoint for as long as the block runs, in a thread of its own, for programs that are not trio's: sync,
    asyncio, or trio in a thread of theirs.

    Args:
        options: as of `serve_endpoint`; but `keep_alive` is False unless given: an async client that outlives its event
            loop (one of the whole process, say) would use a connection of the loop of an earlier test.

    Closing: as of `serve_endpoint`; rollouts that are still open are closed. In a process that was forked off
    meanwhile nothing is done: the endpoint is the parent's.

    Raises:
        OSError, TypeError, ValueError, TunnelError, EndpointCrashed: as `serve_endpoint`.
        TimeoutError: a handler blocks the endpoint's thread, which cannot end; the text says which. The thread is left
            behind: it keeps no program from ending.

    Ctrl-C: ends it, as any exception of the body does.
    """
    check_keywords("serve", options, EndpointOptions.__annotations__)
    options.setdefault("keep_alive", False)
    import_module("triocept._server.serve")  # for half a second: a loop that did it would be blocked
    loop = Loop("triocept-endpoint")
    with loop.running(serve_endpoint(**with_threads(options))) as endpoint:
        yield SyncEndpoint(endpoint, loop)
