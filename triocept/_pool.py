"""A pool of endpoints, which serves many rollouts with few endpoints, and therefore needs few tunnels.

Rules:

1. A rollout is opened on the reachable endpoint that has the fewest rollouts. There is no checkpoint between choosing
   the endpoint and counting the rollout, so no endpoint gets more rollouts than allowed.
2. When all endpoints are full, the pool opens as many endpoints as the waiting rollouts need. The pool closes endpoints
   that were idle for `shrink_after` seconds.
3. If an endpoint dies, only its own rollouts fail or move. The pool stays open.
4. If no endpoint can be opened at the start of the pool, `serve_pool` raises the error. If an endpoint cannot be opened
   later, and the pool has no other endpoint, `open_rollout` raises the error. All other failures are logged, and the
   pool tries again to open an endpoint.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, Literal, TypeAlias, Unpack, final

import trio

from ._endpoint import Endpoint, serve_endpoint
from ._rollout.event_loop import check_loop
from ._rollout.handler import Handler
from ._rollout.life import open_rollout
from ._rollout.options import RolloutOptions
from ._rollout.record_writer import recording
from ._rollout.rollout import Rollout, check_opening
from ._rollout.rollout_state import RolloutState
from ._trace.recorder import Recorder
from ._trace.redaction import Redaction
from ._util.checks import check_choice, check_count, check_number, described
from ._util.contexts import protected_context
from ._util.failures import keeping, keeping_each, raise_all, split_cancelled
from .errors import EndpointCrashed

log = logging.getLogger("triocept.pool")

OpenEndpoint: TypeAlias = Callable[[], AbstractAsyncContextManager[Endpoint]]
"""A function that opens an endpoint: `serve_endpoint`, or a `functools.partial` of `serve_endpoint`."""
OnLostEndpoint: TypeAlias = Literal["raise", "move"]

PER_ENDPOINT = 32
"""Default maximum of rollouts per endpoint, as in the elastic pool of verifiers 0.3.1."""
SHRINK_AFTER = 60.0
"""Default of `shrink_after`, in seconds."""
BACK_OFF, MAX_BACK_OFF = 1.0, 30.0
"""First and maximum number of seconds to wait after an endpoint could not be opened. The wait is doubled after each
failure."""


@final
class Pool:
    """Running endpoints, over which rollouts are distributed. Only `serve_pool` creates instances."""

    def __init__(
        self,
        nursery: trio.Nursery,
        openers: Sequence[OpenEndpoint],
        *,
        grows: bool,
        per_endpoint: float,
        max_endpoints: float,
        shrink_after: float,
        on_lost_endpoint: OnLostEndpoint,
        recorder: Recorder | None,
        redact: Redaction | None,
    ) -> None:
        self._nursery = nursery
        self._openers = openers
        self._grows = grows
        self._per_endpoint = per_endpoint
        self._max = max_endpoints
        self._shrink_after = shrink_after
        self._moves = on_lost_endpoint == "move"
        self._recorder = recorder
        self._redact = redact
        self._members: list[_Member] = []
        self._unplaced: list[_Assignment] = []
        self._opening = 0
        self._waiting = 0
        self._delay = 0.0
        self._paused = False
        """True during the wait after a failed start of an endpoint. During this wait, no endpoint is opened."""
        self._error: BaseException | None = None
        """The error of the last failed start of an endpoint; None after a successful start."""
        self._changed = trio.Event()
        self._scopes: set[trio.CancelScope] = set()
        """Cancel scopes of the tasks that run endpoints. Only the end of `serve_pool` cancels these scopes."""
        self._ended = False
        self.body: trio.CancelScope = trio.CancelScope()
        self.fatal: BaseException | None = None
        """A `KeyboardInterrupt`, `SystemExit` or similar exception that was raised in a task of the pool; None if there
        was none.
        """

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The running endpoints."""
        return tuple(member.endpoint for member in self._members)

    @property
    def loads(self) -> tuple[int, ...]:
        """Number of rollouts on each endpoint, in the order of `endpoints`."""
        return tuple(len(member.assignments) for member in self._members)

    def __repr__(self) -> str:
        return f"<Pool: {len(self._members)} endpoints, {sum(self.loads)} rollouts>"

    @protected_context
    async def open_rollout(
        self, handler: Handler | None = None, **options: Unpack[RolloutOptions]
    ) -> AsyncIterator[Rollout]:
        """Open a rollout on the endpoint with the fewest rollouts.

        If all endpoints are full, wait until an endpoint has room for the rollout.

        Raise the same errors, and close in the same steps, as `Endpoint.open_rollout`.

        Keywords: id, model, on_hangup, on_retry, on_fault, concurrency, recorder, tools, user, stop, state, state_type,
        embed, moderate, gate, redact, metadata, record_increments, record_wire, limits; see `Endpoint.open_rollout`. If
        `recorder` is None, the pool's recorder receives the turns.

        Raises:
            trio.ClosedResourceError: the pool has ended.
            EndpointCrashed: the rollout's endpoint died (`on_lost_endpoint="raise"`). The body was cancelled, or did
                not begin.
            Exception: the pool has no endpoint, and could not open a new endpoint. This is the error of the failed
                endpoint, such as a `TunnelError`.

        Cancellation: during the wait for an endpoint, immediate; after the wait, as for `Endpoint.open_rollout`.
        """
        handler, concurrency = check_opening("open_rollout", handler, options)
        if options.get("recorder") is None:
            options["recorder"] = self._recorder
        if options.get("redact") is None:
            options["redact"] = self._redact
        await trio.lowlevel.checkpoint()
        while self._ended or (member := self._least_loaded(self._per_endpoint)) is None:
            if self._ended:
                raise trio.ClosedResourceError(
                    "this pool has ended: open rollouts within the block of its `serve_pool`"
                )
            self._waiting += 1
            try:
                self._grow()
                if not (self._members or self._opening) and self._error is not None:
                    raise self._error
                await self._changed.wait()
            finally:
                self._waiting -= 1
        assignment = _Assignment(member)
        try:
            # The assignment gets the rollout before the rollout is open: the endpoint may die while the recorder is
            # being opened.
            assignment.rollout = assignment.member.endpoint._make_rollout(options)
            with assignment.scope:
                async with open_rollout(assignment.rollout, handler, concurrency) as rollout:
                    yield rollout
            if assignment.error is not None:
                raise assignment.error
        finally:
            assignment.member.discard(assignment)
            if assignment in self._unplaced:
                self._unplaced.remove(assignment)
            self._wake()

    # Placing a rollout

    def _least_loaded(self, limit: float) -> _Member | None:
        open_ones = [m for m in self._members if m.endpoint.reachable and len(m.assignments) < limit]
        return min(open_ones, key=lambda member: len(member.assignments), default=None)

    def _grow(self) -> None:
        if not self._grows or self._paused:
            return
        wanted = math.ceil((self._waiting + len(self._unplaced)) / self._per_endpoint) - self._opening
        room = self._max - len(self._members) - self._opening
        for _ in range(int(min(wanted, room))):
            self._opening += 1
            self._nursery.start_soon(self._run_more)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # Starting and ending endpoints

    @trio.lowlevel.enable_ki_protection
    async def _run_first(self, opener: OpenEndpoint, *, task_status: trio.TaskStatus[None]) -> None:
        """Run an endpoint that is opened at the start of the pool. If the endpoint cannot be opened, raise the error.

        In a pool with a fixed set of endpoints, open the endpoint again whenever it has died.
        """
        opened = False
        with self._scope() as scope:

            def on_open() -> None:
                nonlocal opened
                opened = True
                task_status.started()
                scope.shield = trio.lowlevel.current_task().parent_nursery is self._nursery

            error = await self._run(opener, on_open)
            if error is not None and not opened:
                raise error
            while not self._grows:
                await self._pause()
                await self._run(opener, self._wake)

    @trio.lowlevel.enable_ki_protection
    async def _run_more(self) -> None:
        """Run an endpoint that is added to a growing pool after the pool's start."""
        opened = False

        def on_open() -> None:
            nonlocal opened
            opened = True
            self._opening -= 1
            self._error = None

        with self._scope() as scope:
            scope.shield = True
            try:
                error = await self._run(self._openers[0], on_open)
            finally:
                self._opening -= not opened
            if not opened:
                self._error = error
                await self._pause()

    async def _run(self, opener: OpenEndpoint, on_open: Callable[[], None]) -> BaseException | None:
        """Run one endpoint until it was idle for too long, or has died.

        Return the error that ended the endpoint; None if no error ended it.
        """
        try:
            async with opener() as endpoint:
                on_open()
                await self._serve(_Member(endpoint))
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                log.warning("an endpoint of the pool failed", exc_info=error)
                if not isinstance(error, Exception):
                    self.fatal = error
                    self.body.cancel()
            if cancelled is not None:
                raise cancelled from None
            return error
        return None

    async def _serve(self, member: _Member) -> None:
        """Keep an open endpoint in the pool until it was idle for too long.

        If the endpoint dies, this task is cancelled.
        """
        member.endpoint._on_reach = self._wake
        self._members.append(member)
        self._delay = 0.0
        unplaced, self._unplaced = self._unplaced, []
        for assignment in unplaced:
            assignment.move(member)
        self._wake()
        try:
            while True:
                await member.idle.wait()
                with trio.move_on_after(self._shrink_after):
                    await member.busy.wait()
                if not member.assignments and self._grows and len(self._members) > 1:
                    return
                if not member.assignments:
                    await member.busy.wait()
        finally:
            self._members.remove(member)
            if not self._ended:
                for assignment in tuple(member.assignments):  # the endpoint has died
                    if not self._moves:
                        where = member.endpoint.url
                        assignment.fail(
                            EndpointCrashed(
                                f"the rollout was cancelled, because its endpoint in the pool, {where}, has failed; "
                                "with on_lost_endpoint='move' the rollout would continue on another endpoint"
                            )
                        )
                    elif target := self._least_loaded(self._per_endpoint) or self._least_loaded(math.inf):
                        assignment.move(target)
                    else:
                        assignment.depart()
                        self._unplaced.append(assignment)
                self._grow()

    async def _pause(self) -> None:
        """Wait before the next start of an endpoint.

        Each wait is longer than the previous wait, until a start succeeds.
        """
        self._delay = min(2 * self._delay or BACK_OFF, MAX_BACK_OFF)
        self._paused = True
        self._wake()
        try:
            await trio.sleep(self._delay)
        finally:
            self._paused = False
            self._wake()
        self._grow()  # a rollout that has lost its endpoint does not call `_grow`

    @contextmanager
    def _scope(self) -> Iterator[trio.CancelScope]:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._ended:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scopes.discard(scope)
                self._wake()


@final
class _Member:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.assignments: set[_Assignment] = set()
        self.idle, self.busy = trio.Event(), trio.Event()
        self.idle.set()

    def add(self, assignment: _Assignment) -> None:
        self.assignments.add(assignment)
        self.idle = trio.Event()
        self.busy.set()

    def discard(self, assignment: _Assignment) -> None:
        self.assignments.discard(assignment)
        if not self.assignments:
            self.busy = trio.Event()
            self.idle.set()


@final
class _Assignment:
    def __init__(self, member: _Member) -> None:
        self.member = member
        self.rollout: RolloutState | None = None
        """State of the rollout; None until it is created. There is no checkpoint between the assignment and the
        creation."""
        self.scope = trio.CancelScope()
        """Cancel scope around the whole rollout. The scope is cancelled only while the rollout is being opened."""
        self.error: BaseException | None = None
        """The error because of which `scope` was cancelled."""
        member.add(self)

    def move(self, member: _Member) -> None:
        """Move the rollout, with its key and trace, to another endpoint.

        If the other endpoint already has a rollout with the same id, end the rollout that should have moved.
        """
        self.member.discard(self)
        self.member = member
        member.add(self)
        if self.rollout is None:
            return
        try:
            self.rollout.rebind(member.endpoint, member.endpoint._registry, member.endpoint._watcher)
        except ValueError as exc:
            self.fail(exc)

    def depart(self) -> None:
        """Detach the rollout from its endpoint, which has died, until the rollout can be moved to another endpoint."""
        if self.rollout is not None:
            self.rollout.depart()

    def fail(self, error: BaseException) -> None:
        """End the body of the rollout's block with `error`. If the rollout is still being opened, end the opening.

        If the rollout is already closing, do nothing.
        """
        if self.rollout is None:
            return
        if self.rollout.fail is not None:
            self.rollout.fail(error)
        elif self.rollout.report is None and not self.rollout.trace.sealed:
            self.error = error
            self.scope.cancel()


@protected_context
async def serve_pool(
    open_endpoint: OpenEndpoint | Sequence[OpenEndpoint] = serve_endpoint,
    *,
    per_endpoint: int | None = None,
    max_endpoints: int | None = None,
    shrink_after: float = SHRINK_AFTER,
    on_lost_endpoint: OnLostEndpoint = "raise",
    recorder: Recorder | None = None,
    redact: Redaction | None = None,
) -> AsyncIterator[Pool]:
    """Run endpoints for many rollouts while the body of the `async with` block runs.

    For example, a pool that grows, in which each endpoint has its own tunnel::

        async with serve_pool(partial(serve_endpoint, tunnel=PrimeTunnel()), per_endpoint=64) as pool:
            async with pool.open_rollout(answer) as rollout:
                …

    A pool can also have a fixed set of endpoints, behind existing proxies::

        serve_pool([partial(serve_endpoint, port=port, tunnel=FixedURL(url)) for port, url in proxies])

    Args:
        open_endpoint: a function that opens one endpoint, which is called each time the pool needs an endpoint; or a
            sequence of such functions, one for each endpoint of a fixed set. These functions must not set `recorder=`,
            because an endpoint closes its recorder when the endpoint ends.
        per_endpoint: maximum rollouts of one endpoint. When all endpoints are full: the pool grows, or a rollout waits.
            None means 32 in a growing pool, and no limit in a fixed set.
        max_endpoints: maximum endpoints of a growing pool, at least one.
        shrink_after: seconds without a rollout after which an endpoint of a growing pool is closed. One endpoint always
            stays open. With `math.inf`, no endpoint is closed.
        on_lost_endpoint: effect on the rollouts of an endpoint that dies. `raise`: the body of each rollout is
            cancelled with `EndpointCrashed`. `move`: the rollouts, with their keys and traces, are moved to another
            endpoint; their `environ` and `base_url` then contain the new URL. Running agents are ended, because these
            agents have the old URL.
        recorder: the recorder that receives every turn of every rollout. The pool closes the recorder when the pool
            ends.
        redact: as in `serve_endpoint`.

    Closing: each endpoint closes, as for `serve_endpoint`.

    Raises:
        Exception: the first endpoint (in a fixed set, any endpoint) cannot be opened. This error is raised before the
            body runs.
        ValueError: an argument is invalid.
        BaseException: the body's exception, unwrapped.

    Cancellation: the pool closes as after an exception of the body.
    """
    check_loop("serve_pool")
    _check_opener(open_endpoint)
    grows = callable(open_endpoint)
    openers: Sequence[Any] = [open_endpoint] if callable(open_endpoint) else tuple(open_endpoint)
    limit = (PER_ENDPOINT if grows else math.inf) if per_endpoint is None else per_endpoint
    check_choice("on_lost_endpoint", on_lost_endpoint, OnLostEndpoint)
    check_number("shrink_after", shrink_after, infinite=True)
    if not openers:
        raise ValueError("open_endpoint is an empty list, but a pool needs at least one endpoint")
    if limit != math.inf:
        check_count("per_endpoint", limit, least=1)
    if max_endpoints is not None:
        check_count("max_endpoints", max_endpoints, least=1)
        if not grows:
            raise ValueError(
                "max_endpoints needs a pool that grows: pass one function as open_endpoint, not a list of functions"
            )
    errors: list[BaseException] = []  # raised outside the nursery, which would wrap them
    with keeping(errors):
        async with AsyncExitStack() as stack:
            if recorder is not None:
                await stack.enter_async_context(recording(recorder))
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    pool = Pool(
                        nursery,
                        openers,
                        grows=grows,
                        per_endpoint=limit,
                        max_endpoints=math.inf if max_endpoints is None else max_endpoints,
                        shrink_after=shrink_after,
                        on_lost_endpoint=on_lost_endpoint,
                        recorder=recorder,
                        redact=redact,
                    )
                    with keeping(errors), pool.body:
                        failed: list[BaseException] = []  # raised outside the nursery, which would wrap it
                        async with trio.open_nursery() as starting:

                            @trio.lowlevel.enable_ki_protection
                            async def start(opener: OpenEndpoint) -> None:
                                try:
                                    await nursery.start(pool._run_first, opener)
                                except Exception as exc:
                                    failed.append(exc)
                                    starting.cancel_scope.cancel()

                            for opener in openers:
                                starting.start_soon(start, opener)
                        if failed:
                            raise failed[0]
                        yield pool
                    pool._ended = True
                    pool._wake()
                    for scope in pool._scopes:
                        scope.cancel()
            if pool.fatal is not None:
                errors[:] = [pool.fatal]
    raise_all(errors)


def _check_opener(given: object) -> None:
    """Raise TypeError if the argument is neither a function that opens endpoints nor a sequence of such functions."""
    hint = "serve_pool(partial(serve_endpoint, host=…)), or a list of such functions"
    several = list(given) if isinstance(given, list | tuple) else [given]
    for one in several:
        if isinstance(one, AbstractAsyncContextManager):
            raise TypeError(
                "open_endpoint must be a function that opens an endpoint, not the result of a call of this function: "
                f"write {hint}"
            )
        if not callable(one):
            more = (
                f"; to limit the rollouts of each endpoint, pass per_endpoint={one}"
                if isinstance(one, int)
                else ""
            )
            raise TypeError(
                f"open_endpoint must be a function that opens an endpoint, not {described(one)}: write {hint}{more}"
            )
