"""The endpoint: the object that connects the server, the rollouts and the tunnel.

To read the library, begin with `__init__`, and then read this module.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, TypedDict, Unpack, final
from urllib.parse import urlsplit

import trio

from ._process.watcher import Watcher, open_watcher
from ._rollout.addresses import Reach
from ._rollout.budget import Limits
from ._rollout.embedding import Embed, check_embed
from ._rollout.event_loop import check_loop
from ._rollout.event_sender import EventReceiver, OnEvent, check_on_event
from ._rollout.handler import Handler
from ._rollout.life import open_rollout
from ._rollout.moderation import Moderate, check_moderate
from ._rollout.options import RolloutOptions
from ._rollout.record_writer import recording
from ._rollout.registry import Registry
from ._rollout.rollout import Rollout, check_opening, with_facade
from ._rollout.rollout_state import RolloutState
from ._server.listen import dialable_host, open_listener
from ._trace.recorder import Recorder
from ._trace.redaction import Redaction
from ._tunnel.base import Scheme, Tunnel, check_host, in_url
from ._tunnel.health import Supervisor, TunnelHealth
from ._util.checks import (
    check_bool,
    check_count,
    check_keywords,
    check_number,
    check_str,
    check_type,
    described,
)
from ._util.contexts import protected_context
from ._util.failures import keeping, keeping_each, raise_all, split_cancelled, without
from ._util.limits import EndpointLimits
from ._util.loop_watch import logged_blocks
from .dialects import Dialect, known_dialects
from .dialects._registry import similar_dialect
from .errors import EndpointCrashed, TunnelError

if TYPE_CHECKING:
    from ._server.serve import Server
    from ._view.app import ViewApp
    from ._view.live import LiveView

TLS: TypeAlias = ssl.SSLContext | tuple[str, str]
"""An `ssl.SSLContext`, or the paths of a certificate (chain) and of its private key, both in PEM."""

MAX_BODY = 256 * 1024 * 1024
"""Default of `max_body`, in bytes. Agents send requests of 9 to 12 MiB, and providers accept 32 MB. (The predecessor of
triocept, in verifiers, had to raise its limit three times.)"""
GRACE = 1.0
"""Default of `grace`, in seconds."""
HEALTH = TunnelHealth()
LIMITS = EndpointLimits()
OnLostURL: TypeAlias = Literal["raise", "move"]
"""Effect on a rollout whose agent uses a public URL that is lost for good."""


@final
class Endpoint:
    """A running endpoint, which accepts connections. Only `serve_endpoint` and `run_endpoint` create instances."""

    def __init__(
        self,
        listener: trio.SocketListener,
        host: str,
        *,
        secure: bool,
        registry: Registry[RolloutState],
        dialects: Mapping[str, Dialect],
        watcher: Watcher,
        advertise: str | None,
        limits: EndpointLimits,
        make_state: Callable[[Endpoint, Registry[RolloutState], Watcher, RolloutOptions], RolloutState],
    ) -> None:
        self._view: ViewApp | None = None
        self.id: str = f"e_{token_hex(8)}"
        """Identifier that `/health` returns, so that a client can check that a URL leads to this endpoint. The
        identifier is not secret."""
        self.host: str = str(listener.socket.getsockname()[0])
        """The address that the listening socket is bound to."""
        self.port: int = listener.socket.getsockname()[1]
        """The port that the listening socket is bound to; never 0."""
        self.limits = limits
        """The resource limits of this endpoint."""
        self.dialects = dialects
        """The dialects that this endpoint serves, by name."""
        self._dialable = dialable_host(host, listener.socket)
        self._scheme: Scheme = "https" if secure else "http"
        self._advertise = advertise
        self._supervisor: Supervisor | None = None
        self._on_reach: Callable[[], None] = lambda: None
        """Function that is called when the tunnel comes up or goes down."""
        self._registry = registry
        self._watcher = watcher
        self._make_state = make_state
        """Function that creates a `RolloutState` with this endpoint's defaults."""

    @property
    def url(self) -> str:
        """URL under which programs on this machine reach the endpoint: `http://127.0.0.1:40001`."""
        return self._url(self._dialable)

    @property
    def public_url(self) -> str:
        """URL under which agents on other machines reach the endpoint.

        With a tunnel, this is the tunnel's URL. Without a tunnel, the URL consists of the port and the name
        `advertise`, or of the port and a bound address that other machines can reach.

        Raises:
            TunnelError: the endpoint has no public URL. This error is also raised while the tunnel is down and is being
                reopened (see `wait_reachable`).
        """
        if self._supervisor is not None:
            if self._supervisor.url is None:
                raise TunnelError(
                    "the endpoint has no public URL while its tunnel is down. triocept is opening the tunnel again: "
                    f"wait for it with endpoint.wait_reachable(). The last error was: {self._supervisor.error}"
                )
            return self._supervisor.url
        name = self._advertise
        if name is None:
            bound = ip_address(self.host.partition("%")[0])
            if not (bound.is_loopback or bound.is_unspecified):
                name = self._dialable
        if name is None:
            raise TunnelError(
                f"{self.url} can be reached only from this machine. For agents on other machines, pass serve_endpoint "
                "tunnel=, or advertise= (the name or address under which they reach this machine)"
            )
        return self._url(name)

    @property
    def view_url(self) -> str:
        """URL of the page on which people watch rollouts and decide about tool calls.

        An example is `http://127.0.0.1:40001/view/#key=…`.

        The URL contains the key of the page. A person who has this key can see everything that is recorded, and can
        decide about the tool calls of `ask_page`.

        Raises:
            RuntimeError: the endpoint has no page, because `serve_endpoint` was called without `view=True`.
        """
        if self._view is None:
            raise RuntimeError(
                "this endpoint does not serve the page of the live view: pass view=True to serve_endpoint"
            )
        return f"{self.url}/view/#key={self._view.key}"

    def _names(self) -> set[str]:
        """Return the host names, in lower case, by which clients reach this endpoint."""
        public = self._supervisor.url if self._supervisor is not None else None
        names = {self._dialable, self._advertise, urlsplit(public or "").hostname}
        return {name.lower() for name in names if name}

    @property
    def reachable(self) -> bool:
        """False while the tunnel is down.

        Always True without a tunnel, because a name passed as `advertise` is not checked.
        """
        return self._supervisor is None or self._supervisor.url is not None

    async def wait_reachable(self) -> str:
        """Wait until the tunnel is up, and return the public URL.

        Raises:
            TunnelError: the endpoint has neither a tunnel nor another public URL.

        Cancellation: immediate.
        """
        if self._supervisor is not None:
            return await self._supervisor.wait_up()
        await trio.lowlevel.checkpoint()
        return self.public_url

    def root_url(self, rollout_id: str, reach: Reach = "local") -> str:
        """Return the URL of a rollout, to which each dialect adds its own path.

        Raise TunnelError under the same conditions as `public_url`.
        """
        return f"{self.url if reach == 'local' else self.public_url}/rollout/{rollout_id}"

    def base_url(self, rollout_id: str, dialect: str, reach: Reach = "local") -> str:
        """Return the URL of a rollout in the form that the dialect's SDKs expect as their base URL.

        Raise ValueError if the dialect is unknown.
        """
        given: object = dialect
        if not isinstance(given, str):
            name = repr(given.name) if isinstance(given, Dialect) else "a str"
            raise TypeError(f"a dialect must be given by its name, {name}, not {described(given)}")
        if dialect not in self.dialects:
            raise ValueError(f"unknown dialect {dialect!r}{similar_dialect(dialect, self.dialects)}")
        return f"{self.root_url(rollout_id, reach)}{self.dialects[dialect].base_path}"

    def _url(self, name: str) -> str:
        return f"{self._scheme}://{in_url(name)}:{self.port}"

    def open_rollout(
        self, handler: Handler | None = None, **options: Unpack[RolloutOptions]
    ) -> AbstractAsyncContextManager[Rollout]:
        """Open a rollout: one agent run, with its own key and trace.

        Args:
            handler: the handler that answers every exchange, each in its own task. If None, the body answers, with
                `async for` or `rollout.serve`.
            id: part of the rollout's URLs, unique among the open rollouts. None means a generated id.
            model: the name that `/v1/models` lists. Default: `triocept`.
            on_hangup: effect of an agent's disconnect on its exchange. `cancel` (default): the handler is cancelled,
                and the outcome of the turn is `abandoned`. `finish`: the handler continues, and its answer is kept for
                a retry by the agent.
            on_retry: treatment of a call that the agent sends again, because the first call still runs or the agent did
                not receive its answer. `join` (default): the repeated call gets the answer of the first call, and no
                turn is added. `new`: the repeated call becomes a separate exchange.
            on_fault: effect of an exception of the handler on the rollout. `cancel` (default): the body is cancelled
                immediately. `stay`: the body continues; `rollout.faults` contains the exception immediately, and the
                exception is raised when the body has ended. In both cases, all waiting and later calls get a 500 until
                the body has ended, and the handler is not called again.
            concurrency: maximum exchanges that the handler answers at the same time. None means no limit.
            recorder: the recorder that receives the turns. None means the endpoint's recorder. The rollout opens the
                recorder, but does not close it, because other rollouts could share the recorder.
            tools: typed functions of this program, or results of `HostTool.of`, that the agent may call over MCP
                (`…/mcp`) or by `POST …/tools/NAME`. None means no tools.
            user: a simulated user that answers `POST …/user`. None means no user.
            stop: a function that returns the reason if the run is done, else None. `POST …/stop` returns its result.
                After `rollout.stop`, `POST …/stop` returns that the run is done, even if this argument is None.
            state: initial value of the state. Tools in other programs read and replace the state by `GET` and `PUT
                …/state`, with `rollout.state_key`. If `state` and `state_type` are None, the rollout has no state.
            state_type: the type of every value of the state. None means the type of the initial value.
            embed: a function of this program, async or not, that takes texts and returns a vector for each text. The
                function answers agents that request embeddings. None means the endpoint's function.
            moderate: a function of this program, async or not, that takes texts and returns findings for each text:
                True, categories, or scores by category. None means the endpoint's function.
            gate: a policy, or a `Gate`, that decides before the agent runs a tool. The agent requests the decision with
                its own hooks (`POST …/gate`), which the launches of `triocept.agents` configure. If a tool runs without
                a decision, the rollout fails: see `Gate`. If None, only decisions of `approve` apply.
            redact: definition of the texts that are removed from all records, in addition to keys. None means the
                endpoint's redaction.
            metadata: JSON values by name, such as a task, a seed or a policy. These values are written to the trace and
                to its file.
            record_increments: True if each turn contains the pieces of its answer with their times (`turn.increments`).
                A replay can then stream the answer at the same pace. None means the endpoint's setting.
            record_wire: True if each turn contains its HTTP traffic (`turn.wire`): URL, headers without keys, and
                bodies of up to 8 MiB each. An agent sends its whole conversation with every call, so each call adds the
                whole conversation to the file. None means the endpoint's setting.
            limits: maximum turns, tokens, cost and seconds of the rollout. None means no limit. When exceeded: the call
                that would exceed a limit is refused with 404 (`LimitReached`), and the rollout ends, as after `stop`.
                Calls in progress are completed, unless the time limit is reached. `rollout.stopped` names the limit.

        Closing: the key is revoked, and waiting calls are refused with 503 (`x-should-retry: false`). Answers in
        progress get one second to arrive. Then the trace is sealed, and no task of the rollout runs any more.

        Raises:
            ValueError: another open rollout has the id, the id cannot be part of a URL, or a tool's name is invalid.
            TypeError: an argument has the wrong type. For example, the handler is not callable, a tool's signature has
                no JSON Schema, or the state is not of the type `state_type`.
            trio.ClosedResourceError: the endpoint has ended.
            OSError: the recorder's file cannot be written; the error's text names the file. This error is raised before
                the body begins.
            Exception: the handler's exception, unwrapped. Before that, the body was cancelled (see `on_fault`). If the
                body raised an exception, too, a group is raised.
            MissingPrice: `limits` has a maximum cost, and a requested model has no price. The body was cancelled.
            GateBypassed: a tool ran without a decision of the gate. The body was cancelled.
            TunnelError: the public URL that the agent uses is lost, and `on_lost_url` is `raise`. The body was
                cancelled.
        """
        handler, concurrency = check_opening("open_rollout", handler, options)
        return open_rollout(self._make_rollout(options), handler, concurrency)

    def _make_rollout(self, options: RolloutOptions) -> RolloutState:
        """Create and return the state of a new rollout. The caller must open the rollout."""
        return with_facade(self._make_state(self, self._registry, self._watcher, options))

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}: {len(self._registry)} rollouts>"


@protected_context
async def serve_endpoint(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    recorder: Recorder | None = None,
    redact: Redaction | None = None,
    max_body: int = MAX_BODY,
    grace: float = GRACE,
    tls: TLS | None = None,
    advertise: str | None = None,
    tunnel: Tunnel | None = None,
    tunnel_health: TunnelHealth | None = HEALTH,
    on_lost_url: OnLostURL = "raise",
    limits: EndpointLimits = LIMITS,
    dialects: Iterable[Dialect] = (),
    embed: Embed | None = None,
    moderate: Moderate | None = None,
    record_increments: bool = False,
    record_wire: bool = False,
    on_event: OnEvent | None = None,
    view: bool = False,
    websocket: bool = True,
    keep_alive: bool = True,
) -> AsyncIterator[Endpoint]:
    """Run an endpoint while the body of the `async with` block runs.

    When the body begins, the port is bound and accepts connections.

    Args:
        host: an address or a name. Default: loopback. `0.0.0.0` and `::` mean every interface.
        port: the port to bind. If 0, the kernel chooses one.
        recorder: the recorder that receives every turn of every rollout before the agent gets the end of the answer.
            The recorder is opened before the body begins, and closed after the body.
        redact: definition of the texts that are removed from all records, even from records in memory. Keys are always
            removed.
        max_body: maximum bytes of a request body. When exceeded: the request is refused with 413 before its body is
            read.
        grace: seconds for which open connections may continue when the endpoint ends. After that, the connections are
            aborted.
        tls: certificate and key, or an `ssl.SSLContext`. None means plain HTTP.
        advertise: a name or address under which other machines reach this machine. The `public_url` consists of this
            name and the port. triocept does not check that the name leads to this machine.
        tunnel: a tunnel that makes the port reachable from other machines. The tunnel is opened and checked before the
            body begins. Until the endpoint ends, the tunnel is watched, and reopened if it dies.
        tunnel_health: settings for watching the tunnel. If None, no probes are sent through the tunnel's URL, and the
            tunnel counts as up while it is open.
        on_lost_url: effect on a rollout whose agent got a public URL (`reach="public"`) that is lost for good. A URL is
            lost when the tunnel has a new URL, or was down for `tunnel_health.patience`. `raise`: the rollout's body is
            cancelled with `TunnelError`. `move`: the rollout continues; its `base_url` and `environ` then contain the
            new URL.
        limits: resource limits of the endpoint, such as maximum connections, seconds and bytes. Each limit has a
            default.
        dialects: further dialects, in addition to those of triocept and of installed packages. Installed packages
            register dialects under the entry points `triocept.dialects`; a dialect that cannot be loaded is logged as a
            warning. `triocept.dialects` describes how to write a dialect.
        embed: a function, async or not, that returns vectors for texts in every rollout without its own `embed`. Its
            exceptions propagate to the code that opened the rollout, because the function takes the place of a model.
            None means that vectors of unit length are computed from the words: equal texts have equal vectors, and
            texts that share words have similar vectors.
        moderate: a function, async or not, that returns findings for texts in every rollout without its own `moderate`.
            Its exceptions propagate like the exceptions of `embed`. None means that no text is flagged.
        record_increments, record_wire: defaults for rollouts that do not set these options; see `open_rollout`.
        on_event: a function that is called with each event of each rollout when it happens
            (`triocept.traces.RolloutEvent`). Its exceptions are logged, once for each type. The function must not be
            async, and should return quickly, because the endpoint waits for the function. If None, no events are
            created.
        view: True if the endpoint serves a page on which people watch its rollouts, and decide about tool calls
            (`ask_page`): `endpoint.view_url`. The page has its own key. Every machine that can reach the endpoint can
            reach the page.
        websocket: True if the Responses dialect is served over websockets, too. If False, an upgrade request is
            answered with 426, after which Codex immediately sends POST requests.
        keep_alive: True if several calls may be sent on one connection. If False, each connection is closed after its
            first answer. Use False for a client that outlives its event loop: otherwise the client would reuse a
            connection of the ended loop.

    Closing: rollouts that are still open are ended, and their agents get a 503. Idle connections are closed
    immediately, other connections after at most `grace` seconds. Then the port is free.

    Raises:
        OSError: the address cannot be bound, the recorder's file cannot be written, or the certificate's file cannot be
            read; the error's text names the address or file.
        socket.gaierror: the host does not resolve.
        TunnelError: the tunnel cannot be opened, or its URL does not lead here. The error's text ends with the last
            output of the tunnel's program. This error is raised before the body begins.
        TypeError, ValueError: an argument is invalid.
        EndpointCrashed: the server crashed, and the body was cancelled. If the body raised an exception, too, a group
            is raised.
        RuntimeError: the event loop is not trio's (for example asyncio's).
        BaseException: the body's exception, unwrapped.

    Cancellation: the endpoint closes as after an exception of the body.
    """
    check_loop("serve_endpoint")
    from ._server.serve import Server  # Quart and hypercorn take half a second to import

    _check_reach(advertise, tunnel, tunnel_health, on_lost_url)
    check_str("host", host)
    check_count("port", port)
    check_count("max_body", max_body)
    check_number("grace", grace)
    is_of_rollout = isinstance(limits, Limits)
    hint = "pass Limits to open_rollout" if is_of_rollout else "write limits=EndpointLimits(connections=…)"
    check_type("limits", limits, EndpointLimits, "an EndpointLimits", hint)
    if embed is not None:
        check_embed(embed)
    if moderate is not None:
        check_moderate(moderate)
    if on_event is not None:
        check_on_event(on_event)
    switches = {
        "record_increments": record_increments,
        "record_wire": record_wire,
        "view": view,
        "websocket": websocket,
        "keep_alive": keep_alive,
    }
    for name, value in switches.items():
        check_bool(name, value)
    check_type("dialects", dialects, Iterable, "a list of triocept.dialects.Dialect")
    ssl_context = _ssl_context(tls)
    spoken = known_dialects(dialects)
    live: LiveView | None = None
    if view:
        from ._view.app import ViewApp
        from ._view.live import LiveView

        live = LiveView()
    make_state = partial(
        RolloutState,
        recorder=recorder,
        redaction=redact,
        embed=embed,
        moderate=moderate,
        record_increments=record_increments,
        record_wire=record_wire,
        on_event=EventReceiver(on_event, live) if on_event is not None or live is not None else None,
    )
    registry: Registry[RolloutState] = Registry()
    # Raised after all contexts have closed, so that none of these wraps or hides an error.
    errors: list[BaseException] = []
    server: Server | None = None
    with keeping(errors):
        async with AsyncExitStack() as stack:
            listener = await open_listener(host, port)

            @stack.push_async_callback
            async def close_listener() -> None:
                with trio.CancelScope(
                    shield=True
                ):  # a cancellation would hide the error that has closed the endpoint
                    await trio.aclose_forcefully(listener)

            if recorder is not None:
                await stack.enter_async_context(recording(recorder))
            watcher = await stack.enter_async_context(open_watcher())
            stack.enter_context(logged_blocks())
            endpoint = Endpoint(
                listener,
                host,
                secure=tls is not None,
                registry=registry,
                dialects=spoken,
                watcher=watcher,
                advertise=advertise,
                limits=limits,
                make_state=make_state,
            )
            if live is not None:
                live.title = endpoint.url
                endpoint._view = ViewApp(live, endpoint._names, endpoint._scheme)
                if tunnel is not None or not ip_address(endpoint.host.partition("%")[0]).is_loopback:
                    text = (
                        "the page of the live view can be opened from other machines: everyone with the page's URL, "
                        "which contains a key, can watch the rollouts and decide about tool calls"
                    )
                    logging.getLogger("triocept.view").warning(text)
            server = Server(
                listener,
                registry=registry,
                dialects=spoken,
                endpoint_id=endpoint.id,
                ssl_context=ssl_context,
                limits=limits,
                grace=grace,
                max_body=max_body,
                websocket=websocket,
                keep_alive=keep_alive,
                view=endpoint._view,
            )
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    with keeping(errors):
                        await nursery.start(server.run, nursery)
                        with server.body.scope:
                            if tunnel is not None:
                                loses = on_lost_url == "raise"
                                options = endpoint, tunnel, tunnel_health, registry if loses else ()
                                await nursery.start(_supervise, *options, server, nursery)
                            yield endpoint
                    try:
                        await server.stop()  # before the tunnel, which carries the last answers
                    except BaseException as exc:  # a second Ctrl-C
                        errors[:] = [exc]
                    registry.closing = True  # `stop` does not set it after a crash
                    if endpoint._supervisor is not None:
                        endpoint._supervisor.stop()
    if server is not None:
        if server.body.fatal is not None:
            errors.insert(0, server.body.fatal)
        elif (cause := server.body.crash) is not None:
            crash = EndpointCrashed(f"the endpoint has ended, because its server failed: {cause!r}")
            crash.__cause__ = cause
            errors[:] = [crash, *without(cause, errors)]  # the body raised these because of the crash
    raise_all(errors)


class EndpointOptions(TypedDict, total=False):
    """The keywords of `serve_endpoint` and `run_endpoint`, for type annotations: `**options: Unpack[EndpointOptions]`.

    If a key is omitted, the default in its description applies. `serve_endpoint` describes each option in full.
    """

    host: str
    """Address or name to listen on. Default: `127.0.0.1`."""
    port: int
    """Port to listen on. Default: 0, which means that the kernel chooses a free port."""
    recorder: Recorder | None
    """Recorder of every turn of every rollout. The recorder is closed when the endpoint ends. If None, only the traces
    in memory contain the turns."""
    redact: Redaction | None
    """Redaction that removes texts from all records, in addition to keys. If None, only keys are removed."""
    max_body: int
    """Maximum bytes of a request body. Default: 256 MiB."""
    grace: float
    """Seconds for which open connections may continue when the endpoint ends. Default: 1."""
    tls: TLS | None
    """Certificate and key. None means plain HTTP."""
    advertise: str | None
    """The name under which other machines reach this machine. Without this name and without a tunnel, the endpoint has
    a public URL only if the bound address is public."""
    tunnel: Tunnel | None
    """The tunnel that makes the port reachable from other machines. None means no tunnel."""
    tunnel_health: TunnelHealth | None
    """Settings of the tunnel's health checks. Default: `TunnelHealth()`. If None, no probes are sent through the
    tunnel's URL."""
    on_lost_url: OnLostURL
    """Effect on a rollout whose agent got a public URL that is lost for good. Default: `raise`."""
    limits: EndpointLimits
    """Resource limits of the endpoint. Default: `EndpointLimits()`."""
    dialects: Iterable[Dialect]
    """Further dialects, in addition to those of triocept and of installed packages. Default: none."""
    embed: Embed | None
    """Function that returns vectors for texts. None means that vectors are computed from the words."""
    moderate: Moderate | None
    """Function that returns findings for texts. None means that no text is flagged."""
    record_increments: bool
    """True if turns contain the pieces of their answers, with the times of the pieces. Default: False."""
    record_wire: bool
    """True if turns contain their HTTP traffic. Default: False."""
    on_event: OnEvent | None
    """Function that is called with each event of each rollout. If None, no events are created."""
    view: bool
    """True if the endpoint serves a page on which people watch its rollouts and decide about tool calls. Default:
    False."""
    websocket: bool
    """True if the Responses dialect is served over websockets, too. Default: True."""
    keep_alive: bool
    """True if several calls may be sent on one connection. Default: True (False for `testing.serve`)."""


async def run_endpoint(
    *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED, **options: Unpack[EndpointOptions]
) -> NoReturn:
    """Run an endpoint in a nursery of the caller, until cancelled: `await nursery.start(run_endpoint)`.

    `task_status.started(endpoint)` is called when the endpoint accepts connections. Raise the same errors, and close in
    the same steps, as `serve_endpoint`.

    Keywords: host, port, recorder, redact, max_body, grace, tls, advertise, tunnel, tunnel_health, on_lost_url,
    limits, dialects, embed, moderate, record_increments, record_wire, on_event, view, websocket, keep_alive; see
    `serve_endpoint`.
    """
    check_keywords("run_endpoint", options, EndpointOptions.__annotations__)
    async with serve_endpoint(**options) as endpoint:
        task_status.started(endpoint)
        await trio.sleep_forever()
    raise AssertionError("unreachable")


async def _supervise(
    endpoint: Endpoint,
    tunnel: Tunnel,
    health: TunnelHealth | None,
    losing: Iterable[RolloutState],
    server: Server,
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Run the tunnel. If the tunnel fails after its start, cancel the body of `serve_endpoint`.

    The block of `serve_endpoint` then raises the error.

    `losing` contains the rollouts that are notified if a public URL is lost.
    """
    started = False

    def on_lost(url: str, error: TunnelError) -> None:
        for rollout in losing:
            rollout.on_url_lost(url, error)

    endpoint._supervisor = supervisor = Supervisor(
        tunnel,
        port=endpoint.port,
        host=endpoint._dialable,
        scheme=endpoint._scheme,
        endpoint_id=endpoint.id,
        health=health,
        on_lost=on_lost,
        on_change=lambda: endpoint._on_reach(),
    )

    class Status:
        def started(self, value: None = None) -> None:
            nonlocal started
            started = True
            task_status.started(value)

    try:
        await supervisor.run(nursery, task_status=Status())
    except BaseException as exc:
        cancelled, error = split_cancelled(exc)
        if not started:
            raise
        if error is not None:
            server.body.on_fatal(error)
        if cancelled is not None:
            raise cancelled from None


def _check_reach(
    advertise: str | None, tunnel: Tunnel | None, tunnel_health: TunnelHealth | None, on_lost_url: str
) -> None:
    if advertise is not None:
        if tunnel is not None:
            raise ValueError("tunnel= and advertise= both define the public URL: pass only one of them")
        check_host(advertise, whose="advertise")
    if tunnel is not None and not isinstance(tunnel, Tunnel):
        raise TypeError(
            f"tunnel must be a Tunnel, such as FixedURL or SSHTunnel, not {type(tunnel).__name__}"
        )
    if tunnel_health is not None:
        check_type(
            "tunnel_health", tunnel_health, TunnelHealth, "a TunnelHealth", "write TunnelHealth(interval=…)"
        )
    if on_lost_url not in ("raise", "move"):
        raise ValueError(f"on_lost_url must be 'raise' or 'move', not {on_lost_url!r}")


def _ssl_context(tls: TLS | None) -> ssl.SSLContext | None:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    pair: object = tls
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"tls must be an ssl.SSLContext or two paths, (certificate, key), not {described(tls)}"
        )
    for path in tls:
        Path(path).open("rb").close()  # the error of `open` names the path
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*tls)
    except ssl.SSLError as exc:
        raise ValueError(
            f"tls: {tls[0]} and {tls[1]} are not a certificate and its private key in PEM format: {exc}"
        ) from exc
    context.set_alpn_protocols(["http/1.1"])
    return context
