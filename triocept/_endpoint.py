"""The endpoint: one of each floor, put together. After `__init__`, the second file to read."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NoReturn, TypeAlias, final

import trio

from ._rollout.calls import OnRetry
from ._rollout.registry import Registry
from ._rollout.rollout import OnHangup, Rollout, open_rollout
from ._rollout.service import Handler
from ._rollout.services import Services, StopCondition, UserSimulator
from ._rollout.tools import ToolLike
from ._rollout.watcher import Watcher, open_watcher
from ._server.app import make_app
from ._server.front import Front
from ._server.listen import dialable_host, open_listener
from ._server.routes import Routes
from ._server.serve import Server
from ._trace.recorder import Recorder
from .dialects import DIALECTS
from .errors import EndpointCrashed

__all__ = ["TLS", "Endpoint", "run_endpoint", "serve_endpoint"]

TLS: TypeAlias = ssl.SSLContext | tuple[str, str]
"""A context of one's own, or the paths of a certificate (chain) and of its key, both PEM."""

MAX_BODY = 256 * 1024 * 1024
"""Bytes. Real turns of 9 to 12 MiB are known, providers take 32 MB; the ancestor had to raise its cap three times."""
GRACE = 1.0
"""Seconds."""


@final
class Endpoint:
    """A running endpoint. Made by `serve_endpoint` and `run_endpoint` only: whoever holds one can be connected to."""

    def __init__(
        self,
        listener: trio.SocketListener,
        host: str,
        *,
        secure: bool,
        registry: Registry,
        watcher: Watcher,
        recorder: Recorder | None,
    ) -> None:
        self.host: str = str(listener.socket.getsockname()[0])
        """The address that the socket is bound to."""
        self.port: int = listener.socket.getsockname()[1]
        """The live port, read back from the socket: never 0."""
        self._name = dialable_host(host, listener.socket)
        self._scheme = "https" if secure else "http"
        self._registry = registry
        self._watcher = watcher
        self._recorder = recorder

    @property
    def url(self) -> str:
        """An address that can be dialled from this machine, whatever `host` was: `http://127.0.0.1:40001`."""
        return f"{self._scheme}://{self._name}:{self.port}"

    def root_url(self, rollout_id: str) -> str:
        """The URL of a rollout, without anything of a dialect."""
        return f"{self.url}/rollout/{rollout_id}"

    def base_url(self, rollout_id: str, dialect: str) -> str:
        """The URL of a rollout as the SDK of `dialect` takes it; ValueError for an unknown dialect."""
        if dialect not in DIALECTS:
            raise ValueError(f"no dialect {dialect!r}: there are {', '.join(DIALECTS)}")
        return f"{self.root_url(rollout_id)}{DIALECTS[dialect].base_path}"

    def open_rollout(
        self,
        handler: Handler | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the field's own word
        model: str = "triocept",
        on_hangup: OnHangup = "cancel",
        on_retry: OnRetry = "join",
        concurrency: int | None = None,
        recorder: Recorder | None = None,
        tools: Iterable[ToolLike] = (),
        user: UserSimulator | None = None,
        stop: StopCondition | None = None,
        state: Any = None,
        state_type: Any = None,
    ) -> AbstractAsyncContextManager[Rollout]:
        """Open a rollout: one agent run, with a key and a trace of its own.

        Args:
            handler: answers every exchange, each in a task of its own. None: the body does, with `async for` or
                `rollout.serve`.
            id: goes into its URLs; None makes one. Unique among the rollouts that are open.
            model: the name that `/v1/models` lists.
            on_hangup: what an agent's hang-up does to its exchange: `cancel` its handler (the turn says `abandoned`),
                or let it `finish` and keep the answer for the agent's retry.
            on_retry: whether an agent's re-send of a call that still runs, or whose answer it did not get, shares the
                answer of the first (`join`, no second turn), or is always an exchange of its own (`new`).
            concurrency: how many exchanges the handler gets at once; None: as many as come.
            recorder: where the turns go; None: where the endpoint's go.
            tools: typed functions of this program that the agent may call, over MCP (`…/mcp`) or by `POST
                …/tools/NAME`; or what `HostTool.of` made of one.
            user: a simulated user, asked by `POST …/user`.
            stop: says whether the run is done, and why; asked by `POST …/stop`. `rollout.stop` is an answer too.
            state: what `GET` and `PUT …/state` share with tools elsewhere, under `rollout.state_key`: its first value.
            state_type: what every value of it has to be; None: what the first one is.

        Closing: the key is revoked, what waits is refused with 503 (`x-should-retry: false`), answers on their way
        get one second to arrive, the trace is sealed. Nothing of it runs afterwards.

        Raises:
            ValueError: the id is taken, or cannot stand in a URL; a tool's name is none.
            TypeError: a tool's signature has no JSON Schema, or the state is not of its type.
            Exception: what the handler raised, bare. It has cancelled the body. If the body failed too: a group.
        """
        rollout = Rollout(
            self,
            self._registry,
            self._watcher,
            id=id,
            model=model,
            on_hangup=on_hangup,
            on_retry=on_retry,
            recorder=recorder or self._recorder,
            services=Services(tools, user=user, stop=stop, state=state, state_type=state_type),
        )
        return open_rollout(rollout, handler, concurrency)

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}: {len(self._registry)} rollouts>"


@asynccontextmanager
async def serve_endpoint(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    recorder: Recorder | None = None,
    max_body: int = MAX_BODY,
    grace: float = GRACE,
    tls: TLS | None = None,
    fast: bool = True,
    websocket: bool = True,
) -> AsyncIterator[Endpoint]:
    """Run an endpoint for as long as the body runs.

    Nobody can see it unstarted: when the body begins, the port is bound, listening and accepting.

    Args:
        host: an address or a name. Loopback unless asked; `0.0.0.0` and `::` mean every interface.
        port: 0 lets the kernel choose; another is taken as given.
        recorder: gets every turn of every rollout, before the agent sees the end of the answer; closed at the end.
        max_body: bytes; a larger request body is refused with 413 before it is read.
        grace: seconds that connections have at the end, before they are broken off.
        tls: certificate and key, or an `ssl.SSLContext`; None serves plain HTTP.
        fast: model calls on HTTP/1.1 go straight to their rollout. False takes them through hypercorn and ASGI, as
            HTTP/2 and every other route: slower, and otherwise the same.
        websocket: whether Responses is spoken over websockets too; False answers an upgrade with 426, which sends
            Codex to POST at once.

    Closing: rollouts that are still open end, their agents get a 503; idle connections are closed at once, others
    after `grace` at the latest. The port is free again.

    Raises:
        OSError: the address cannot be had; the text names it.
        socket.gaierror: the host does not resolve.
        EndpointCrashed: the server died by itself; the body was cancelled.
        BaseException: the body's own, bare.

    Cancellation: as an exception of the body.
    """
    ssl_context = _ssl_context(tls)
    registry = Registry()
    async with AsyncExitStack() as stack:
        listener = await open_listener(host, port)
        stack.push_async_callback(trio.aclose_forcefully, listener)
        if recorder is not None:
            stack.push_async_callback(recorder.aclose)
        watcher = await stack.enter_async_context(open_watcher())
        endpoint = Endpoint(
            listener, host, secure=tls is not None, registry=registry, watcher=watcher, recorder=recorder
        )
        server = Server(
            listener,
            ssl_context=ssl_context,
            grace=grace,
            refuse_waiting=registry.close,
            fast=fast,
            max_message=max_body,
        )
        app: Any = make_app(registry, max_body=max_body)
        front = Front(
            app,
            Routes(DIALECTS.values()),
            registry,
            max_body=max_body,
            websocket=websocket,
            on_fatal=server.on_fatal,
        )
        error: BaseException | None = None  # kept, and raised outside the nursery, which would wrap it
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(server.run, front, app, nursery)
                with server.body_scope:
                    yield endpoint
            except BaseException as exc:
                error = exc
            try:
                await server.stop()
            except BaseException as exc:  # a second Ctrl-C
                error = exc
        _raise_first(server, error)


async def run_endpoint(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    recorder: Recorder | None = None,
    max_body: int = MAX_BODY,
    grace: float = GRACE,
    tls: TLS | None = None,
    fast: bool = True,
    websocket: bool = True,
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Run an endpoint until cancelled, for those who own the nursery: `await nursery.start(run_endpoint)`.

    `task_status.started(endpoint)` is called once it accepts. Arguments, errors and end are those of
    `serve_endpoint`.
    """
    serve = partial(
        serve_endpoint,
        host=host,
        port=port,
        recorder=recorder,
        max_body=max_body,
        grace=grace,
        tls=tls,
        fast=fast,
        websocket=websocket,
    )
    async with serve() as endpoint:
        task_status.started(endpoint)
        await trio.sleep_forever()
    raise AssertionError("unreachable")


def _raise_first(server: Server, error: BaseException | None) -> None:
    if server.fatal is not None:
        raise server.fatal
    if server.crash is not None:
        raise EndpointCrashed(f"the server died: {server.crash!r}") from server.crash
    if error is not None:
        raise error


def _ssl_context(tls: TLS | None) -> ssl.SSLContext | None:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    certificate, key = tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
