"""The endpoint: one of each floor, put together. After `__init__`, the second file to read."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, TypedDict, Unpack, final

import trio

from ._process.watcher import Watcher, open_watcher
from ._rollout.addresses import Reach
from ._rollout.budget import Limits
from ._rollout.embedding import Embed, check_embed
from ._rollout.event_loop import check_loop
from ._rollout.handler import Handler
from ._rollout.life import open_rollout
from ._rollout.moderation import Moderate, check_moderate
from ._rollout.options import RolloutOptions
from ._rollout.record_writer import recording
from ._rollout.registry import Registry
from ._rollout.rollout import Rollout, check_opening, with_face
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
from .dialects import Dialect, known_dialects
from .errors import EndpointCrashed, TunnelError

if TYPE_CHECKING:
    from ._server.serve import Server

TLS: TypeAlias = ssl.SSLContext | tuple[str, str]
"""A context of one's own, or the paths of a certificate (chain) and of its key, both PEM."""

MAX_BODY = 256 * 1024 * 1024
"""Bytes. Real turns of 9 to 12 MiB are known, providers take 32 MB; the ancestor had to raise its cap three times."""
GRACE = 1.0
"""Seconds."""
HEALTH = TunnelHealth()
LIMITS = EndpointLimits()
OnLostURL: TypeAlias = Literal["raise", "move"]
"""What becomes of a rollout whose public URL, given to its agent, will not come back."""


@final
class Endpoint:
    """A running endpoint. Made by `serve_endpoint` and `run_endpoint` only: whoever holds one can be connected to."""

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
        make_core: Callable[[Endpoint, Registry[RolloutState], Watcher, RolloutOptions], RolloutState],
    ) -> None:
        self.id: str = f"e_{token_hex(8)}"
        """What its `/health` says, so that a URL can be seen to lead here. No secret."""
        self.host: str = str(listener.socket.getsockname()[0])
        """The address that the socket is bound to."""
        self.port: int = listener.socket.getsockname()[1]
        """The live port, read back from the socket: never 0."""
        self.limits = limits
        """What it puts up with."""
        self.dialects = dialects
        """What it speaks, by name."""
        self._dialable = dialable_host(host, listener.socket)
        self._scheme: Scheme = "https" if secure else "http"
        self._advertise = advertise
        self._supervisor: Supervisor | None = None
        self._on_reach: Callable[[], None] = lambda: None
        """Called when the tunnel is up again, or down."""
        self._registry = registry
        self._watcher = watcher
        self._make_core = make_core
        """`RolloutState`, given already what holds for a rollout that does not say it itself."""

    @property
    def url(self) -> str:
        """An address that can be dialled from this machine, whatever `host` was: `http://127.0.0.1:40001`."""
        return self._url(self._dialable)

    @property
    def public_url(self) -> str:
        """The address for agents elsewhere: the tunnel's URL, or the advertised name with the live port, or the bound
        address where others can dial that.

        Raises:
            TunnelError: there is none, or the tunnel is down and is being opened again (`wait_reachable`).
        """
        if self._supervisor is not None:
            if self._supervisor.url is None:
                raise TunnelError(f"the tunnel is down, and is being opened again: {self._supervisor.error}")
            return self._supervisor.url
        name = self._advertise or (self._dialable if _is_elsewhere(self.host) else None)
        if name is None:
            raise TunnelError(
                f"{self.url} is an address for this machine only: give serve_endpoint an advertise= (a name or address "
                "under which others reach this machine) or a tunnel="
            )
        return self._url(name)

    @property
    def reachable(self) -> bool:
        """False while a tunnel is down. It says nothing of what `advertise` promises."""
        return self._supervisor is None or self._supervisor.url is not None

    async def wait_reachable(self) -> str:
        """Wait until the tunnel is up; the public URL.

        Raises:
            TunnelError: there is no tunnel, and no public URL either.

        Cancellation: immediate.
        """
        if self._supervisor is not None:
            return await self._supervisor.wait_up()
        await trio.lowlevel.checkpoint()
        return self.public_url

    def root_url(self, rollout_id: str, reach: Reach = "local") -> str:
        """The URL of a rollout, without anything of a dialect; TunnelError as of `public_url`."""
        return f"{self.url if reach == 'local' else self.public_url}/rollout/{rollout_id}"

    def base_url(self, rollout_id: str, dialect: str, reach: Reach = "local") -> str:
        """The URL of a rollout as the SDK of the dialect of that name takes it; ValueError where there is none."""
        _check_name(dialect)
        if dialect not in self.dialects:
            raise ValueError(f"no dialect {dialect!r}: there are {', '.join(self.dialects)}")
        return f"{self.root_url(rollout_id, reach)}{self.dialects[dialect].base_path}"

    def _url(self, name: str) -> str:
        return f"{self._scheme}://{in_url(name)}:{self.port}"

    def open_rollout(
        self, handler: Handler | None = None, **options: Unpack[RolloutOptions]
    ) -> AbstractAsyncContextManager[Rollout]:
        """Open a rollout: one agent run, with a key and a trace of its own.

        Args:
            handler: answers every exchange, each in a task of its own. None: the body does, with `async for` or
                `rollout.serve`.
            id: goes into its URLs; None makes one. Unique among the rollouts that are open.
            model: the name that `/v1/models` lists; `triocept`.
            on_hangup: what an agent's hang-up does to its exchange: `cancel` its handler, which is the default (the
                turn says `abandoned`), or let it `finish` and keep the answer for the agent's retry.
            on_retry: whether an agent's re-send of a call that still runs, or whose answer it did not get, shares the
                answer of the first (`join`, no second turn; the default), or is always an exchange of its own (`new`).
            on_fault: what an error of the handler does to the rollout: `cancel` its body at once, which is the default
                (until that has ended, which may take its time, all that waits and all further calls get a 500, too);
                or it can `stay` open until the body has ended, which raises the error then (`rollout.faults` has it
                before). Until then all further calls get what the first got, a 500, and the handler is not called.
            concurrency: how many exchanges the handler gets at once; None: as many as come.
            recorder: where the turns go; None: where the endpoint's go. It is opened, and not closed: it may be that
                of other rollouts, too.
            tools: typed functions of this program that the agent may call, over MCP (`…/mcp`) or by `POST
                …/tools/NAME`; or what `HostTool.of` made of one. None: it has none.
            user: a simulated user, asked by `POST …/user`; None: there is none.
            stop: says whether the run is done, and why; asked by `POST …/stop`. `rollout.stop` is an answer too. None:
                the only one.
            state: what `GET` and `PUT …/state` share with tools elsewhere, under `rollout.state_key`: its first value.
                None, and no `state_type`: there is no state.
            state_type: what every value of it has to be; None: what the first one is.
            embed: a function of this program, async or not, that is given texts and gives a vector for each, where an
                agent wants embeddings; None: the endpoint's.
            moderate: likewise, and gives what was found in each: True, categories, or scores by category; None: the
                endpoint's.
            redact: what is taken out of all that is recorded, beside keys; None: what the endpoint's says.
            metadata: what is known of it, JSON by name: a task, a seed, a policy. It goes into its trace and its file.
            record_increments: whether each turn keeps in which pieces its answer came, and when (`turn.increments`), so
                that a replay can stream it likewise; None: as the endpoint says.
            record_wire: whether each turn keeps how it went over the wire (`turn.wire`): URL, headers without keys, and
                bodies, each up to 8 MiB. An agent sends its whole conversation with every call: the file grows by that.
                None: as the endpoint says.
            limits: turns, tokens, cost and seconds that it may spend; None: any amount. The call that would cross one
                is refused with 404 (`LimitReached`), and the rollout has ended, as by `stop`; but what is on its way is
                finished, unless it is the time that is over. `rollout.stopped` says which it was.

        Closing: the key is revoked, what waits is refused with 503 (`x-should-retry: false`), answers on their way
        get one second to arrive, the trace is sealed. Nothing of it runs afterwards.

        Raises:
            ValueError: the id is taken, or cannot stand in a URL; a tool's name is none.
            TypeError: an argument is not what it should be: the handler is none, a tool's signature has no JSON
                Schema, the state is not of its type, ….
            trio.ClosedResourceError: the endpoint has ended.
            OSError: the recorder's file cannot be written; the text names it. Before the body has begun.
            Exception: what the handler raised, bare. It has cancelled the body (see `on_fault`). If the body failed
                too: a group.
            MissingPrice: `limits` has a cost, and a model was asked for that has no price. The body was cancelled.
            TunnelError: the public URL that its agent was given is lost (`on_lost_url="raise"`), the body cancelled.
        """
        handler, concurrency = check_opening("open_rollout", handler, options)
        return open_rollout(self._make_rollout(options), handler, concurrency)

    def _make_rollout(self, options: RolloutOptions) -> RolloutState:
        """A rollout that is not open yet."""
        return with_face(self._make_core(self, self._registry, self._watcher, options))

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
    websocket: bool = True,
    keep_alive: bool = True,
) -> AsyncIterator[Endpoint]:
    """Run an endpoint for as long as the body runs.

    Nobody can see it unstarted: when the body begins, the port is bound, listening and accepting.

    Args:
        host: an address or a name. Loopback unless asked; `0.0.0.0` and `::` mean every interface.
        port: 0 lets the kernel choose; another is taken as given.
        recorder: gets every turn of every rollout, before the agent sees the end of the answer; opened before the body
            begins, closed at the end.
        redact: what is taken out of all that is recorded, in memory too. Keys always are.
        max_body: bytes; a larger request body is refused with 413 before it is read.
        grace: seconds that connections have at the end, before they are broken off.
        tls: certificate and key, or an `ssl.SSLContext`; None serves plain HTTP.
        advertise: a name or address under which others reach this machine; with the live port it makes the
            `public_url`. Nothing is tried: whether it leads here is for you to know.
        tunnel: makes the port reachable from elsewhere. It is up, and was tried, before the body begins; it is
            watched, and opened again when it dies, until the endpoint ends.
        tunnel_health: how it is watched; None asks nothing through its URL, and believes it alive while it is open.
        on_lost_url: what becomes of a rollout whose agent was given a public URL (`reach="public"`) that will not
            come back, because the tunnel has another one now or has been down for `tunnel_health.patience`. `raise`
            cancels its body with `TunnelError`; `move` lets it live on, and what it says from then on is the new URL.
        limits: what the endpoint puts up with: connections, seconds, bytes; each has a default.
        dialects: spoken beside those of the package, and beside those that installed packages bring (the entry points
            `triocept.dialects`; one that cannot be loaded is a warning in the log). `triocept.dialects` says how to
            write one.
        embed: gives texts their vectors, in every rollout that has no `embed` of its own: a function of texts, async or
            not. It stands for a model: what it raises is its rollout's owner's to hear. None: vectors of unit length,
            made of the words: equal texts have equal ones, and those that share words are near.
        moderate: says what is found in texts, likewise; None: nothing is.
        record_increments, record_wire: as of `open_rollout`, in every rollout that does not say it itself.
        websocket: whether Responses is spoken over websockets too; False answers an upgrade with 426, which sends
            Codex to POST at once.
        keep_alive: whether a connection carries several calls. False closes it after each answer: for clients that
            outlive their event loop, and would use a connection of a loop that has ended.

    Closing: rollouts that are still open end, their agents get a 503; idle connections are closed at once, others
    after `grace` at the latest. The port is free again.

    Raises:
        OSError: the address cannot be had, or the recorder's file cannot be written; the text names it.
        socket.gaierror: the host does not resolve.
        TunnelError: the tunnel cannot be had, or its URL does not lead here; with its program's own last words.
            Before the body has begun; nothing is left.
        TypeError, ValueError: an argument is not what it should be; `OSError` for a certificate that cannot be read.
        EndpointCrashed: the server died by itself; the body was cancelled. If that raised too: a group.
        RuntimeError: trio does not run here (asyncio does).
        BaseException: the body's own, bare.

    Cancellation: as an exception of the body.
    """
    check_loop("serve_endpoint")
    from ._server.serve import Server  # Quart and hypercorn, which take half a second to load

    _check_reach(advertise, tunnel, tunnel_health, on_lost_url)
    _check_numbers(host, port, max_body, grace, limits)
    _check_functions(embed, moderate)
    switches = {
        "record_increments": record_increments,
        "record_wire": record_wire,
        "websocket": websocket,
        "keep_alive": keep_alive,
    }
    for name, value in switches.items():
        check_bool(name, value)
    check_type("dialects", dialects, Iterable, "several triocept.dialects.Dialect: a list of them, say")
    ssl_context = _ssl_context(tls)
    spoken = known_dialects(dialects)
    make_core = partial(
        RolloutState,
        recorder=recorder,
        redaction=redact,
        embed=embed,
        moderate=moderate,
        record_increments=record_increments,
        record_wire=record_wire,
    )
    registry: Registry[RolloutState] = Registry()
    errors: list[BaseException] = []  # raised where nothing wraps them, and nothing that is closed hides them
    server: Server | None = None
    with keeping(errors):
        async with AsyncExitStack() as stack:
            listener = await open_listener(host, port)
            stack.push_async_callback(_close_listener, listener)
            if recorder is not None:
                await stack.enter_async_context(recording(recorder))
            watcher = await stack.enter_async_context(open_watcher())
            endpoint = Endpoint(
                listener,
                host,
                secure=tls is not None,
                registry=registry,
                dialects=spoken,
                watcher=watcher,
                advertise=advertise,
                limits=limits,
                make_core=make_core,
            )
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
            )
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    with keeping(errors):
                        await nursery.start(server.run, nursery)
                        with server.body.scope:
                            if tunnel is not None:
                                how = tunnel, tunnel_health, registry, on_lost_url
                                endpoint._supervisor = _make_supervisor(endpoint, *how)
                                await nursery.start(_supervise, endpoint._supervisor, server, nursery)
                            yield endpoint
                    try:
                        await server.stop()  # before the tunnel, through which the last answers go
                    except BaseException as exc:  # a second Ctrl-C
                        errors[:] = [exc]
                    registry.closing = True  # a crash has not said so
                    if endpoint._supervisor is not None:
                        endpoint._supervisor.stop()
    _keep_end_of(server, errors)
    raise_all(errors)


class EndpointOptions(TypedDict, total=False):
    """The keywords of `serve_endpoint` and `run_endpoint`, as `Unpack[EndpointOptions]` types them.

    What is left out is as said here; `serve_endpoint` says more of each.
    """

    host: str
    """An address or a name to listen on: `127.0.0.1`, unless said otherwise."""
    port: int
    """0, which is the default, lets the kernel choose."""
    recorder: Recorder | None
    """Gets every turn of every rollout, and is closed at the end. None: nothing is kept but in the traces."""
    redact: Redaction | None
    """What is taken out of all that is recorded, beside keys. None: nothing."""
    max_body: int
    """Bytes of a request body: 256 MiB, unless said otherwise."""
    grace: float
    """Seconds that connections have at the end: 1, unless said otherwise."""
    tls: TLS | None
    """Certificate and key. None: plain HTTP."""
    advertise: str | None
    """The name under which others reach this machine. None: a public URL only where the bound address is one."""
    tunnel: Tunnel | None
    """Makes the port reachable from elsewhere. None: there is none."""
    tunnel_health: TunnelHealth | None
    """How the tunnel is watched: `TunnelHealth()`, unless said otherwise. None: nothing is asked through its URL."""
    on_lost_url: OnLostURL
    """What becomes of a rollout whose public URL is lost: `raise`, unless said otherwise."""
    limits: EndpointLimits
    """What the endpoint puts up with: `EndpointLimits()`, unless said otherwise."""
    dialects: Iterable[Dialect]
    """Spoken beside those of the package: none, unless said otherwise."""
    embed: Embed | None
    """Gives texts their vectors. None: they are made of the words."""
    moderate: Moderate | None
    """Says what is found in texts. None: nothing is."""
    record_increments: bool
    """Whether turns keep in which pieces their answers came, and when: False, unless said otherwise."""
    record_wire: bool
    """Whether turns keep how they went over the wire: False, unless said otherwise."""
    websocket: bool
    """Whether Responses is spoken over websockets, too: True, unless said otherwise."""
    keep_alive: bool
    """Whether a connection carries several calls: True, unless said otherwise (False for `testing.serve`)."""


async def run_endpoint(
    *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED, **options: Unpack[EndpointOptions]
) -> NoReturn:
    """Run an endpoint until cancelled, for those who own the nursery: `await nursery.start(run_endpoint)`.

    `task_status.started(endpoint)` is called once it accepts. Errors and end are those of `serve_endpoint`.

    Keywords: host, port, recorder, redact, max_body, grace, tls, advertise, tunnel, tunnel_health, on_lost_url, limits,
    dialects, embed, moderate, record_increments, record_wire, websocket, keep_alive; see `serve_endpoint`.
    """
    check_keywords("run_endpoint", options, EndpointOptions.__annotations__)
    async with serve_endpoint(**options) as endpoint:
        task_status.started(endpoint)
        await trio.sleep_forever()
    raise AssertionError("unreachable")


def _make_supervisor(
    endpoint: Endpoint,
    tunnel: Tunnel,
    health: TunnelHealth | None,
    registry: Registry[RolloutState],
    on_lost_url: OnLostURL,
) -> Supervisor:
    def on_lost(url: str, error: TunnelError) -> None:
        if on_lost_url == "raise":
            for rollout in registry:
                rollout.on_url_lost(url, error)

    return Supervisor(
        tunnel,
        port=endpoint.port,
        host=endpoint._dialable,
        scheme=endpoint._scheme,
        endpoint_id=endpoint.id,
        health=health,
        on_lost=on_lost,
        on_change=lambda: endpoint._on_reach(),
    )


async def _supervise(
    supervisor: Supervisor, server: Server, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]
) -> None:
    """The supervisor's task. Once it has started, what goes wrong in it is the body's to hear, as of the server."""
    started = False

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


def _check_name(dialect: object) -> None:
    if not isinstance(dialect, str):
        name = repr(dialect.name) if isinstance(dialect, Dialect) else "a str"
        raise TypeError(f"a dialect is given by its name, {name}, not {described(dialect)}")


def _check_numbers(host: str, port: int, max_body: int, grace: float, limits: EndpointLimits) -> None:
    check_str("host", host)
    check_count("port", port)
    check_count("max_body", max_body)
    check_number("grace", grace)
    hint = "Limits are open_rollout's" if isinstance(limits, Limits) else "EndpointLimits(connections=…)"
    check_type("limits", limits, EndpointLimits, "an EndpointLimits", hint)


def _check_functions(embed: Embed | None, moderate: Moderate | None) -> None:
    if embed is not None:
        check_embed(embed)
    if moderate is not None:
        check_moderate(moderate)


def _check_reach(
    advertise: str | None, tunnel: Tunnel | None, tunnel_health: TunnelHealth | None, on_lost_url: str
) -> None:
    if advertise is not None:
        if tunnel is not None:
            raise ValueError("the public URL is the tunnel's or the advertised one: give one of them")
        check_host(advertise, whose="advertise")
    if tunnel is not None and not isinstance(tunnel, Tunnel):
        raise TypeError(f"tunnel is a Tunnel, such as FixedURL or SSHTunnel, not {type(tunnel).__name__}")
    if tunnel_health is not None:
        check_type("tunnel_health", tunnel_health, TunnelHealth, "a TunnelHealth", "TunnelHealth(interval=…)")
    if on_lost_url not in ("raise", "move"):
        raise ValueError(f"on_lost_url is 'raise' or 'move', not {on_lost_url!r}")


def _is_elsewhere(address: str) -> bool:
    """Whether a bound address can be dialled by others."""
    bound = ip_address(address.partition("%")[0])
    return not (bound.is_loopback or bound.is_unspecified)


def _keep_end_of(server: Server | None, errors: list[BaseException]) -> None:
    """What ended the server, before all that the body met because of it."""
    if server is None:
        return
    if server.body.fatal is not None:
        errors.insert(0, server.body.fatal)
    elif (cause := server.body.crash) is not None:
        crash = EndpointCrashed(f"the server died: {cause!r}")
        crash.__cause__ = cause
        errors[:] = [crash, *without(cause, errors)]


async def _close_listener(listener: trio.SocketListener) -> None:
    """Without a cancellation, which would hide the error with which something else has closed."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(listener)


def _ssl_context(tls: TLS | None) -> ssl.SSLContext | None:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    pair: object = tls
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"tls is an ssl.SSLContext or (certificate, key), not {described(tls)}")
    for path in tls:
        Path(path).open("rb").close()  # its error names it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*tls)
    except ssl.SSLError as exc:
        raise ValueError(
            f"tls: no certificate and its key, as PEM, are in {tls[0]} and {tls[1]}: {exc}"
        ) from exc
    context.set_alpn_protocols(["http/1.1"])
    return context
