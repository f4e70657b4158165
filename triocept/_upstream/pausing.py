"""Pauses of an upstream, during which a program changes the weights of the model server.

Rules:

1. While an upstream is paused, new calls are not sent: they wait. While calls wait, their agents get keep-alives, and
   the time limits of the calls do not run.
2. Every pause ends with a resume, even after an error, a cancellation or a Ctrl-C. The resume takes at most
   `RESUME_SECONDS`.
3. Routes and fields differ between releases of a server. So a route is used only if the server's `/openapi.json` lists
   the route with a field for the mode. Without this field, every server aborts the calls in progress.
4. If the server has no such route, triocept does not pause the server, and only stops sending calls to it. If the
   server cannot keep calls in progress, the mode `wait` is used in place of `keep`.
5. If an agent has received a part of an answer, its call is not aborted: the mode `abort` waits until such a call has
   finished.
6. Only some dialects have a field which shows that the server aborted an answer. In the other dialects, the mode
   `abort` cancels the calls before the server is paused. It also cancels a call that the server aborted, but did not
   answer within `ABORT_SECONDS`.
7. A call that was aborted for a pause of this upstream is always sent again. A call that the server aborted for
   another program is sent again at most `MAX_ABORTED` times. If the agent has received a part of the answer, only the
   rest is requested (see `continuing`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, final

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.response import Response
from .._trace.tokens import Tokens
from .._util.checks import check_choice
from .._util.contexts import protected_context
from .._util.failures import keeping, keeping_each, raise_all, run_each
from ..dialects import Dialect
from ..dialects._failures import ABORTED
from ..dialects.kit import ProviderCall, decode_json
from ..errors import DialectError, UpstreamError
from .failures import MAX_ERROR, Reader
from .patience import FIRST_PAUSE, LONGEST_PAUSE, Patience
from .request import Requests
from .versions import versions_in

if TYPE_CHECKING:
    from .transport import ProviderClient

log = logging.getLogger("triocept.upstream")
T = TypeVar("T")

MAX_ABORTED = 8
"""Maximum times that a call is sent again after its server has aborted the call for a pause of another program."""
_SHOWN = frozenset({"openai_chat", "openai_completions"})
"""Dialects whose answers, if they are not streamed, always show that the server aborted them. In other dialects, vLLM
and SGLang report an abort never, or only for some models. An aborted answer then looks like a complete answer."""
ROUTE_SECONDS = 60.0
"""Maximum seconds for one call to a server's route. (A call that pauses the server and waits for running calls has no
limit.)"""
LOOK_SECONDS = 10.0
"""Maximum seconds to read the list of a server's routes, or the version of its weights."""
ABORT_SECONDS = 10.0
"""Maximum seconds until the server has answered the calls that a pause has aborted. vLLM 0.32 sometimes never answers
such a call."""
RESUME_SECONDS = 60.0
"""Maximum seconds for a resume, including all tries."""
RESUME_PAUSE = 1.0
"""Seconds between two tries to resume."""

PauseMode: TypeAlias = Literal["keep", "wait", "abort"]
"""Treatment of calls in progress at a pause. `keep`: the server keeps the calls. `wait`: the pause begins when the
calls have finished. `abort`: the calls are aborted, and sent again later."""


@final
class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """The current pause of an upstream."""

    mode: PauseMode
    """The mode in effect. The mode is `wait` if `keep` was requested but the server cannot keep calls."""
    server: Literal["vllm", "sglang"] | None
    """The kind of server that was paused by its own routes. None if the server itself is not paused, and triocept only
    stops sending calls to it."""


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """The routes by which a server is paused and resumed."""

    server: Literal["vllm", "sglang"]
    pauses: Mapping[PauseMode, tuple[str, Json]]
    """For each mode that the server supports: the path to call, and the JSON body to send."""
    resume: str
    version: str | None = None
    """The path that returns the version of the server's weights; None if unknown."""


def routes_of(document: Json) -> Routes | None:
    """Return the routes for pauses that an OpenAPI document lists. Return None if the document lists no known routes.

    Sources: for vLLM, entrypoints/rl/online/api_router.py (`mode`; 0.14 had `wait_for_inflight_requests`); for SGLang,
    "SGLang for RL systems" in its documentation. For the modes `keep` and `wait`, SGLang's mode `retract` is used:
    SGLang computes the kept calls again later, so that its cache can be flushed. SGLang's weight updates flush the
    cache by default, and this flush fails after the mode `in_place`.
    """
    paths = _object(document, "paths")
    if "/pause" in paths and "/resume" in paths:
        listed = _object(paths, "/pause", "post").get("parameters")
        names = {each.get("name") for each in listed if isinstance(each, dict)} if listed else set()
        pauses: dict[PauseMode, tuple[str, Json]] = {}
        if "mode" in names:
            pauses = {mode: (f"/pause?mode={mode}", {}) for mode in ("keep", "wait", "abort")}
        elif "wait_for_inflight_requests" in names:
            pauses = {"wait": ("/pause?wait_for_inflight_requests=true", {}), "abort": ("/pause", {})}
        version = "/weight_info" if "/weight_info" in paths else None
        return Routes(server="vllm", pauses=pauses, resume="/resume", version=version) if pauses else None
    if "/pause_generation" in paths and "/continue_generation" in paths:
        if "mode" not in _fields(document, "/pause_generation"):
            return None
        retract: tuple[str, Json] = ("/pause_generation", {"mode": "retract"})
        pauses = {"keep": retract, "wait": retract, "abort": ("/pause_generation", {"mode": "abort"})}
        known = ("/model_info", "/get_weight_version")
        version = next((path for path in known if path in paths), None)
        return Routes(server="sglang", pauses=pauses, resume="/continue_generation", version=version)
    return None


@final
class InFlight:
    """A call that was sent to the provider, and whose answer is not complete."""

    partial: Response | None = None
    """The part of the answer that the server returned before it aborted the call. None if the server did not abort the
    call, or returned no part."""
    tokens: Tokens | None = None
    """The tokens of `partial`."""

    def __init__(
        self, patience: Patience, begun: Callable[[], bool], version: str | None, *, stream: bool
    ) -> None:
        self.patience: Patience = patience
        self.begun: Callable[[], bool] = begun
        """Function that returns True if the agent has a part of the answer, so that the call cannot be sent again."""
        self.version: str | None = version
        """Version of the weights when the call was sent."""
        self.stream: bool = stream
        self.kept: bool = False
        """True if the server kept the call during a pause."""
        self.over: trio.Event = trio.Event()
        """Event that is set when the provider's answer is complete, or when the call has ended without an answer."""
        self.scope: trio.CancelScope = trio.CancelScope()

    def keep(self) -> None:
        self.kept = True
        self.patience.hold()


@final
class Pauses:
    """The pauses of one upstream, its calls in flight, and the calls that wait for a resume."""

    def __init__(self, requests: Requests, transport: ProviderClient, reader: Reader, dialect: str) -> None:
        self.version: str | None = None
        """Version of the server's weights now; None if unknown."""
        self.aborts: int = 0
        """Number of pauses, so far, that have aborted calls."""
        self._aborts_show = dialect in _SHOWN
        self._requests = requests
        self._transport = transport
        self._reader = reader
        self._routes: Routes | None = None
        self._continues = False
        """True if the server can continue a text."""
        self._calls: dict[InFlight, None] = {}
        self._resumed: trio.Event | None = None
        """Event that is set at the end of the pause; None if the upstream is not paused."""
        self._holds = False
        """True if new calls wait for the end of the pause; False while the server's routes are still being read."""
        self._plan: tuple[Pause, tuple[str, Json] | None, tuple[InFlight, ...]] | None = None
        """The current pause, the path and JSON body of the request that starts the pause, and the calls in flight when
        the pause began."""
        self._before: str | None = None
        """Version of the weights at the beginning of the pause."""
        self._beginning: trio.CancelScope | None = None
        """The cancel scope of the task that is beginning a pause; None if no task is beginning one."""

    @asynccontextmanager
    async def in_flight(
        self, patience: Patience, begun: Callable[[], bool], *, stream: bool
    ) -> AsyncIterator[InFlight]:
        """Wait while the upstream is paused. Then run the body, and count the call as in flight while the body runs.

        Raises:
            UpstreamError: a pause has cancelled the body. The error has the code `abort`.
        """
        while self._holds and self._resumed is not None:
            patience.hold()
            try:
                await self._resumed.wait()
            finally:
                patience.release()
        call = InFlight(patience, begun, self.version, stream=stream)
        patience.on_stop = call.over.set
        self._calls[call] = None
        try:
            with call.scope:
                yield call
        finally:
            del self._calls[call]
            call.over.set()
        if call.scope.cancelled_caught:
            raise UpstreamError("the call was aborted, because its upstream was paused", code=ABORTED)

    def versions(self, call: InFlight, reported: tuple[str, ...]) -> tuple[str | None, str | None]:
        """Return the versions of the weights at the start and at the end of an answer.

        `reported` contains the versions that the answer itself names. These versions take precedence.
        """
        if not reported:
            return call.version, self.version
        is_mixed = call.kept and len(reported) == 1  # the server names the last version only
        return call.version if is_mixed else reported[0], reported[-1]

    @property
    def is_paused(self) -> bool:
        return self._resumed is not None

    @protected_context
    async def paused(self, mode: PauseMode) -> AsyncIterator[Pause]:
        """Pause the upstream while the body runs; see `Upstream.paused`."""
        check_choice("mode", mode, PauseMode)
        self._check_free()
        errors: list[BaseException] = []
        with keeping(errors):
            await self.hold_calls(mode)
            yield await self.pause_server()
        if self._resumed is not None:
            errors += await run_each(self.end)
        raise_all(errors)

    async def hold_calls(self, mode: PauseMode) -> None:
        """Read the server's routes, stop sending new calls, and wait for calls that must finish before the pause.

        After a failure or a cancellation, the upstream is resumed.

        If several upstreams use one server, call `hold_calls` of all these upstreams before one of them pauses the
        server. In any other order, one upstream could pause the server while another upstream still waits for its calls
        in progress. These calls would then never end.
        """
        self._check_free()
        self._resumed, self._holds = trio.Event(), False
        async with self._or_resume():
            routes = await self._find_routes()  # vLLM may need seconds to make the document
            pauses = {} if routes is None else routes.pauses
            if self.version is None:
                self.version = await self._read_version()
            self._holds = True
            self._before = self.version
            if mode == "keep" and mode not in pauses:
                mode = "wait"
            self.aborts += mode == "abort"
            route, calls = pauses.get(mode), tuple(self._calls)
            server = None if routes is None or route is None else routes.server
            self._plan = Pause(mode=mode, server=server), route, calls
            for call in calls:
                call.version = call.version or self.version
                # A server returns the finished part of a whole answer. A stream could begin before it is aborted.
                is_cancelled = call.stream or route is None or not self._aborts_show
                if mode == "abort" and is_cancelled and not call.begun():
                    call.scope.cancel()
                elif mode == "keep":
                    call.keep()
            for call in calls:
                if mode == "wait" or (mode == "abort" and (call.begun() or call.scope.cancel_called)):
                    await call.over.wait()

    async def pause_server(self) -> Pause:
        """Pause the server, if it has a route for a pause. Call this method after `hold_calls`.

        After a failure, resume the upstream.
        """
        assert self._plan is not None
        pause, route, calls = self._plan
        async with self._or_resume():
            if route is not None:
                path, document = route
                await self.send("POST", path, document, None if pause.mode == "wait" else ROUTE_SECONDS)
            if pause.mode == "abort":
                with trio.move_on_after(ABORT_SECONDS):
                    for call in calls:
                        await call.over.wait()
                for call in calls:
                    if not call.over.is_set() and not call.begun():
                        log.warning("the server did not answer an aborted call: the call will be sent again")
                        call.scope.cancel()
                    await call.over.wait()
        return pause

    @asynccontextmanager
    async def _or_resume(self) -> AsyncIterator[None]:
        """Resume the upstream if the body raises an exception, or if the upstream is closed while the body runs."""
        errors: list[BaseException] = []
        with keeping(errors):
            with trio.CancelScope() as self._beginning:
                yield
            if self._beginning.cancelled_caught:
                raise trio.ClosedResourceError("the upstream was closed before its pause began")
        self._beginning = None
        if errors:
            raise_all([*errors, *await run_each(self.end)])

    async def end(self) -> None:
        """Resume the upstream and its server. The server is resumed even if another program paused the server.

        Cancellation: does not interrupt the resume, which has a time limit.

        Raises:
            UpstreamError: the server could not be resumed. Calls are then sent to the server nevertheless.
        """
        errors: list[BaseException] = []
        with keeping_each(errors):
            async with trio.open_nursery() as nursery:  # a Ctrl-C interrupts the main task only
                nursery.start_soon(self._end)
        raise_all(errors)

    async def update_version(self) -> None:
        """Read the version of the weights from the server.

        If the program has set a version during the pause, keep that version.
        """
        version = await self._read_version()
        if version is not None and self.version == self._before:
            self.version = self._before = version

    async def _end(self) -> None:
        error: UpstreamError | None = None
        try:
            with trio.move_on_after(RESUME_SECONDS, shield=True) as scope:
                routes = await self._find_routes()
                while routes is not None:
                    await self.update_version()
                    try:
                        await self.send("POST", routes.resume, {}, ROUTE_SECONDS)
                        break
                    except UpstreamError as exc:
                        error = exc
                        await trio.sleep(RESUME_PAUSE)
            if scope.cancelled_caught:
                raise UpstreamError(
                    f"the server was not resumed within {RESUME_SECONDS:g} s ({error or 'no answer'}): resume the "
                    "server yourself, or restart it",
                    status=504,
                )
        finally:
            for call in self._calls:
                call.patience.release()
            if self._resumed is not None:
                self._resumed.set()
                self._resumed = None

    async def close(self) -> None:
        """Resume the upstream if the upstream is paused.

        If a task is just beginning a pause, that task raises a `ClosedResourceError`, and itself resumes the upstream.
        """
        if self._beginning is not None and self._resumed is not None:
            self._beginning.cancel()
            with trio.move_on_after(RESUME_SECONDS, shield=True):
                await self._resumed.wait()
        elif self._resumed is not None:
            await self.end()

    def _check_free(self) -> None:
        if self._resumed is not None:
            raise RuntimeError("the upstream is paused already: end that pause first")

    async def _find_routes(self) -> Routes | None:
        if self._routes is None:
            try:
                document = await self.send("GET", "/openapi.json", {}, LOOK_SECONDS)
                self._routes = routes_of(document)
                self._continues = "continue_final_message" in _fields(document, "/v1/chat/completions")
            except UpstreamError as exc:
                log.debug("the server does not list its routes: %s", exc)
        return self._routes

    async def _read_version(self) -> str | None:
        """Return the version of the weights that the server reports. Return None if the version is unknown."""
        if self._routes is None or self._routes.version is None:
            return None
        try:
            answer = await self.send("GET", self._routes.version, {}, LOOK_SECONDS)
            return next(iter(versions_in(answer)), None)
        except UpstreamError:
            return None

    async def can_continue(self) -> bool:
        """Return True if the server is known to continue the text of an aborted answer."""
        return self._aborts_show and await self._find_routes() is not None and self._continues

    async def repeat(
        self,
        attempt: Callable[[], Awaitable[T]],
        may_repeat: Callable[[UpstreamError], Awaitable[bool]] | None = None,
    ) -> T:
        """Return the result of `attempt()`, which sends a call. If the server aborts the call, call `attempt` again.

        `may_repeat` is called with the error of each aborted call. If `may_repeat` returns False, the error is raised.
        """
        aborts, others = self.aborts, 0
        while True:
            try:
                return await attempt()
            except UpstreamError as exc:
                is_own, aborts = aborts != self.aborts, self.aborts
                others += exc.code == ABORTED and not is_own
                if exc.code != ABORTED or others > MAX_ABORTED:
                    raise
                if may_repeat is not None and not await may_repeat(exc):
                    raise
            seconds = 0.0 if is_own or others < 2 else FIRST_PAUSE * 2.0 ** (others - 2)
            await trio.sleep(min(seconds, LONGEST_PAUSE))

    async def send(self, method: str, path: str, document: Json, seconds: float | None) -> Json:
        """Call one of the server's routes. Return the response's JSON body, or None if the body is not JSON.

        `seconds` is the maximum duration of the call; None means no limit.
        """
        call = self._requests.of_provider(ProviderCall(path=path, document=document, at_root=True))
        call = replace(call, method=method, body=b"" if method == "GET" else call.body)
        patience = Patience(seconds, None)
        with patience.scope:
            async with self._transport.open(call, patience) as reply:
                body = await reply.read()
                if not 200 <= reply.status < 300:
                    error = self._reader.failure(reply.status, body[:MAX_ERROR], reply.headers, call.address)
                    error.message = f"{method} {path}: {error.message}"
                    raise error
                try:
                    return decode_json(body) if reply.media_type == "application/json" else None
                except DialectError as exc:
                    raise self._reader.unreadable(exc, body, reply.headers) from exc
        raise UpstreamError(f"{method} {path}: no answer within {seconds:g} s", status=504)


def partial_answer(dialect: Dialect, body: bytes) -> Response | None:
    """Return the content of an aborted answer that was not streamed.

    Return None if the answer has no `choices`.
    """
    try:
        document = decode_json(body)
        choices = document["choices"]
        choices = [{**each, "finish_reason": "length"} for each in choices]
        response = dialect.parse_response({**document, "choices": choices})
    except (DialectError, UpstreamError, TypeError, KeyError):
        return None
    return msgspec.structs.replace(response, stop_reason=None)


def _fields(document: Json, path: str) -> Mapping[str, Json]:
    """Return the fields of the JSON body that the route `path` accepts."""
    body = _object(document, "paths", path, "post", "requestBody", "content", "application/json", "schema")
    name = str(body.get("$ref")).rpartition("/")[2]
    return _object(document, "components", "schemas", name, "properties")


def _object(document: Json, *path: str) -> Mapping[str, Json]:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}
