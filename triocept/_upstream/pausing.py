"""Pauses of an upstream, for a change of the weights of its server.

Rules:

1. While an upstream is paused, its calls wait before they are sent. Agents get keep-alives meanwhile, and the time
   limits of calls stand still.
2. A pause always ends with a resume, within `RESUME_SECONDS`: also after an error, a cancellation or a Ctrl-C.
3. A route of the server is used only if its `/openapi.json` lists the route with the field for the mode. Routes and
   fields differ by release, and the default of each server is to abort.
4. Without routes, triocept alone holds the calls. A server that cannot keep calls gets `wait` in place of `keep`.
5. An agent that has a part of an answer cannot be given another one: `abort` lets such a call finish.
6. A call that was aborted by its server, by this program or by another one, is sent again at most `MAX_ABORTED` times.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias, final

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

MAX_ABORTED = 8
"""Maximum times that a call is sent again because its server aborted it."""
ROUTE_SECONDS = 60.0
"""Seconds for one call of a server's route, except for the pause that waits for running calls."""
LOOK_SECONDS = 10.0
"""Seconds for the list of a server's routes, and for its version."""
RESUME_SECONDS = 60.0
"""Seconds for a resume, all tries together."""
RESUME_PAUSE = 1.0
"""Seconds between two tries."""

PauseMode: TypeAlias = Literal["keep", "wait", "abort"]
"""What happens to the calls in progress: the server keeps them, they finish first, or they are aborted and sent again
later."""


@final
class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause of an upstream that is in effect."""

    mode: PauseMode
    """The mode in effect: `wait` if `keep` was requested, and the server cannot keep calls."""
    server: Literal["vllm", "sglang"] | None
    """The kind of server whose routes were used; None if triocept alone holds the calls."""


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """The routes by which a server is paused and resumed."""

    server: Literal["vllm", "sglang"]
    pauses: Mapping[PauseMode, tuple[str, Json]]
    """For each mode that the server has: a path, and a document."""
    resume: str
    version: str | None = None
    """The path of the version of its weights."""


def routes_of(document: Json) -> Routes | None:
    """Return the routes that an OpenAPI document lists; None if it has no known ones.

    Sources: vLLM, entrypoints/rl/online/api_router.py (`mode`; 0.14 had `wait_for_inflight_requests`). SGLang,
    "SGLang for RL systems" in its documentation. Its `retract` computes kept calls anew, and permits a flush of the
    cache, which its weight updates do by default; a flush fails after `in_place`.
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
        body = _object(
            paths, "/pause_generation", "post", "requestBody", "content", "application/json", "schema"
        )
        name = str(body.get("$ref")).rpartition("/")[2]
        if "mode" not in _object(document, "components", "schemas", name, "properties"):
            return None
        retract: tuple[str, Json] = ("/pause_generation", {"mode": "retract"})
        pauses = {"keep": retract, "wait": retract, "abort": ("/pause_generation", {"mode": "abort"})}
        known = ("/model_info", "/get_weight_version")
        version = next((path for path in known if path in paths), None)
        return Routes(server="sglang", pauses=pauses, resume="/continue_generation", version=version)
    return None


@final
class InFlight:
    """A call between its sending and the end of its answer."""

    partial: Response | None = None
    """The part of a whole answer that an aborted call came with."""
    tokens: Tokens | None = None
    """The tokens of that part."""

    def __init__(
        self, patience: Patience, begun: Callable[[], bool], version: str | None, *, stream: bool
    ) -> None:
        self.patience: Patience = patience
        self.begun: Callable[[], bool] = begun
        """Returns True if an agent has a part of the answer, so that the call cannot be sent again."""
        self.version: str | None = version
        """Version of the weights when the call was sent."""
        self.stream: bool = stream
        self.kept: bool = False
        """True if the server was paused meanwhile."""
        self.over: trio.Event = trio.Event()
        """Set when the provider's answer is complete."""
        self.scope: trio.CancelScope = trio.CancelScope()

    def keep(self) -> None:
        """Stop the clocks of the call, whose server is paused."""
        self.kept = True
        self.patience.hold()


@final
class Pauses:
    """The pauses of one upstream, its calls in flight, and the calls that wait."""

    def __init__(self, requests: Requests, transport: ProviderClient, reader: Reader) -> None:
        self.version: str | None = None
        """Version of the weights, as far as known."""
        self._requests = requests
        self._transport = transport
        self._reader = reader
        self._routes: Routes | None = None
        self._calls: dict[InFlight, None] = {}
        self._resumed: trio.Event | None = None
        """Set at the end of the pause. None if the upstream is not paused."""
        self._plan: tuple[Pause, tuple[str, Json] | None, tuple[InFlight, ...]] | None = None
        """The pause, the route for it, and the calls that were in flight when it began."""
        self._before: str | None = None
        """Version of the weights when the pause began."""

    @asynccontextmanager
    async def in_flight(
        self, patience: Patience, begun: Callable[[], bool], *, stream: bool
    ) -> AsyncIterator[InFlight]:
        """Wait while the upstream is paused; then count a call as in flight while the body runs.

        Raises:
            UpstreamError: with the code `abort`: a pause has cancelled the body.
        """
        while self._resumed is not None:
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
            raise UpstreamError("the call was aborted for a pause of its upstream", code=ABORTED)

    def versions(self, call: InFlight, reported: tuple[str, ...]) -> tuple[str | None, str | None]:
        """Return the versions of the weights at the start and at the end of an answer.

        `reported` has the versions in the answer itself; they have priority.
        """
        if not reported:
            return call.version, self.version
        is_mixed = call.kept and len(reported) == 1  # the server names the last version only
        return call.version if is_mixed else reported[0], reported[-1]

    @property
    def is_paused(self) -> bool:
        """True from the beginning of a pause to its end."""
        return self._resumed is not None

    @protected_context
    async def paused(self, mode: PauseMode) -> AsyncIterator[Pause]:
        """See `Upstream.paused`."""
        check_choice("mode", mode, PauseMode)
        self._check_free()
        errors: list[BaseException] = []
        with keeping(errors):
            yield await self.begin(mode)
        if self._resumed is not None:
            errors += await run_each(self.end)
        raise_all(errors)

    async def begin(self, mode: PauseMode) -> Pause:
        """Pause; if that fails, resume, and raise the error. Cancellation: resumes."""
        await self.hold_calls(mode)
        return await self.pause_server()

    async def hold_calls(self, mode: PauseMode) -> None:
        """Send no more calls, and let those finish that the mode lets finish; errors and cancellation as `begin`.

        Upstreams of one server do this before any of them pauses the server: it would hold calls that another waits
        for.
        """
        self._check_free()
        self._resumed = trio.Event()
        async with self._or_resume():
            routes = await self._find_routes()
            pauses = {} if routes is None else routes.pauses
            if self.version is None:
                self.version = await self._read_version()
            self._before = self.version
            if mode == "keep" and mode not in pauses:
                mode = "wait"
            route, calls = pauses.get(mode), tuple(self._calls)
            server = None if routes is None or route is None else routes.server
            self._plan = Pause(mode=mode, server=server), route, calls
            for call in calls:
                call.version = call.version or self.version
                # A server returns what it has of a whole answer. A stream could begin before it is aborted.
                if mode == "abort" and not call.begun() and (call.stream or route is None):
                    call.scope.cancel()
                elif mode == "keep":
                    call.keep()
            for call in calls:
                if mode == "wait" or (mode == "abort" and (call.begun() or call.scope.cancel_called)):
                    await call.over.wait()

    async def pause_server(self) -> Pause:
        """Pause the server, if it has a route, after `hold_calls`; errors and cancellation as `begin`."""
        assert self._plan is not None
        pause, route, calls = self._plan
        async with self._or_resume():
            if route is not None:
                path, document = route
                await self.send("POST", path, document, None if pause.mode == "wait" else ROUTE_SECONDS)
            if pause.mode == "abort":
                for call in calls:
                    await call.over.wait()
        return pause

    @asynccontextmanager
    async def _or_resume(self) -> AsyncIterator[None]:
        """Resume if the body fails."""
        errors: list[BaseException] = []
        with keeping(errors):
            yield
        if errors:
            raise_all([*errors, *await run_each(self.end)])

    async def end(self) -> None:
        """Resume, also if this object has not paused the server. Shielded, and bounded.

        Raises:
            UpstreamError: the server was not resumed. Calls are sent all the same.
        """
        errors: list[BaseException] = []
        with keeping_each(errors):
            async with trio.open_nursery() as nursery:  # a Ctrl-C interrupts the main task only
                nursery.start_soon(self._end)
        raise_all(errors)

    async def update_version(self) -> None:
        """Read the version of the weights from the server, unless the program has set another one in the pause."""
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
                    f"the server was not resumed within {RESUME_SECONDS:g} s: {error or 'no answer'}; resume it "
                    "yourself, or restart it",
                    status=504,
                )
        finally:
            for call in self._calls:
                call.patience.release()
            if self._resumed is not None:
                self._resumed.set()
                self._resumed = None

    async def close(self) -> None:
        """Resume, if the upstream is paused."""
        if self._resumed is not None:
            await self.end()

    def _check_free(self) -> None:
        if self._resumed is not None:
            raise RuntimeError("the upstream is paused already: end that pause first")

    async def _find_routes(self) -> Routes | None:
        """Return the server's routes. None if there are none, or no server answers."""
        if self._routes is None:
            try:
                self._routes = routes_of(await self.send("GET", "/openapi.json", {}, LOOK_SECONDS))
            except (UpstreamError, DialectError) as exc:
                log.debug("the server does not list its routes: %s", exc)
        return self._routes

    async def _read_version(self) -> str | None:
        """Return the version of the weights from the server's route; None if unknown."""
        if self._routes is None or self._routes.version is None:
            return None
        try:
            answer = await self.send("GET", self._routes.version, {}, LOOK_SECONDS)
            return next(iter(versions_in(answer)), None)
        except (UpstreamError, DialectError):
            return None

    async def send(self, method: str, path: str, document: Json, seconds: float | None) -> Json:
        """Call one of the server's routes; return the document of its answer, None without one."""
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
                return decode_json(body) if reply.media_type == "application/json" else None
        raise UpstreamError(f"{method} {path}: no answer within {seconds:g} s", status=504)


async def may_repeat(error: UpstreamError, tries: int) -> bool:
    """Return True, after a short wait, if an error means that a call was aborted, and may be sent again."""
    if error.code != ABORTED or tries > MAX_ABORTED:
        return False
    await trio.sleep(min(FIRST_PAUSE * 2.0 ** (tries - 2), LONGEST_PAUSE) if tries > 1 else 0)
    return True


def partial_answer(dialect: Dialect, body: bytes) -> Response | None:
    """Return what an aborted whole answer holds; None if it is not readable."""
    try:
        document = decode_json(body)
        choices = document["choices"]
        choices = [{**each, "finish_reason": "length"} for each in choices]
        response = dialect.parse_response({**document, "choices": choices})
    except (DialectError, UpstreamError, TypeError, KeyError):
        return None
    return msgspec.structs.replace(response, stop_reason=None)


def _object(document: Json, *path: str) -> Mapping[str, Json]:
    """Return the object at a path of a document; empty if there is none."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}
