"""What opens and ends in a walk: endpoints, pools, rollouts; each in a task of its own."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from tests.ways import OWN, way
from triocept import Endpoint, Limits, Pool, Price, Rollout, RolloutClosed, serve_endpoint, serve_pool
from triocept._util.failures import leaves
from triocept.traces import Redaction

from .answering import Answering
from .history import QUIET, SECRET, OpenEndpoint, OpenPool, OpenRollout
from .services import services_of
from .wire import turns

if TYPE_CHECKING:
    from .world import World

GRACE = 0.2
"""Seconds that an endpoint gives its connections at its end."""
PRICES = {"*": Price(input=1e4, output=1e4)}
"""A word costs some cents."""


class BodyError(Exception):
    """What the body of a rollout raises."""


class Place:
    """An endpoint, or a pool of them."""

    def __init__(self, world: World, step: OpenEndpoint | OpenPool) -> None:
        self.step = step
        self.running: Endpoint | Pool | None = None
        self.end = trio.Event()
        self.scope = trio.CancelScope()
        self.over = False
        """Whether it has begun to end."""
        self.crashed = False
        self.opened = trio.Event()
        self._world = world

    @property
    def shaky(self) -> bool:
        return self.over or self.crashed

    def _open(self) -> AbstractAsyncContextManager[Any]:
        serve: Any = partial(serve_endpoint, grace=GRACE)
        if isinstance(self.step, OpenEndpoint):
            return serve()  # type: ignore[no-any-return]
        return serve_pool([serve, serve], on_lost_endpoint="move" if self.step.moves else "raise")

    async def run(self) -> None:
        try:
            with self.scope, way(OWN if self.step.own_http1 else "through ASGI"):
                async with self._open() as self.running:
                    self.opened.set()
                    await self.end.wait()
        except BaseException as exc:
            for leaf in leaves(exc):
                if isinstance(leaf, trio.Cancelled):
                    raise
                self._world.account.violate("a foreign exception", f"{leaf!r} left {self.step!r}")
        finally:
            self.over = True
            self.opened.set()
            self.running = None


class Home:
    """A rollout, and the task that has it open."""

    def __init__(self, world: World, step: OpenRollout) -> None:
        self.step = step
        self.rollout: Rollout | None = None
        self.opened = trio.Event()
        self.end = trio.Event()
        self.how = "returns"
        self.scope = trio.CancelScope()
        self.over = False
        """Whether there was a reason for it to end."""
        self.failed = False
        """Whether one of its handlers has raised a fault."""
        self.closed = False
        self.nursery: trio.Nursery | None = None
        """Of its body: for agents."""
        self._world = world

    @property
    def place(self) -> Place:
        return self._world.places[self.step.endpoint]

    @property
    def parent(self) -> Home | None:
        return self._world.rollouts.get(self.step.parent) if self.step.parent is not None else None

    @property
    def has_reason(self) -> bool:
        """Whether anything has happened that ends it."""
        limit = self.rollout is not None and self.rollout.stopped is not None and bool(self.step.limits)
        parent = self.parent is not None and self.parent.has_reason
        broken = self.step.number in self._world.account.broken
        return self.over or limit or broken or self.closed or self.place.shaky or parent

    def end_by_fault(self, *, of_service: bool = False) -> None:
        """Take note of a fault, which ends it unless it stays open: one of a service ends its body."""
        self.over = self.over or of_service or self.step.on_fault != "stay"

    async def run(self) -> None:
        """Its whole life. What leaves its block stands in the account."""
        told = self._world.account.told.setdefault(self.step.number, [])
        try:
            opened = self._open()
            if opened is None:
                return
            with self.scope:
                async with opened as rollout:
                    self._begin(rollout)
                    await self._body(rollout)
        except BaseException as exc:
            raised = list(leaves(exc))
            if any(isinstance(leaf, trio.Cancelled) for leaf in raised):
                raise
            if not (self.place.shaky and isinstance(exc, trio.ClosedResourceError)):
                told += raised
        finally:
            self.closed = True
            self.rollout = self.nursery = None
            self.opened.set()

    def _open(self) -> AbstractAsyncContextManager[Rollout] | None:
        step, place = self.step, self.place
        handler = Answering(self._world, step) if step.form == "handler" else None
        given: dict[str, Any] = dict(step.limits)
        limits = Limits(**given, prices=PRICES if "cost" in given else {}) if given else None
        options: dict[str, Any] = {
            "on_hangup": step.on_hangup, "on_retry": step.on_retry, "on_fault": step.on_fault,
            "concurrency": step.concurrency,
            "recorder": self._world.recorders[step.recorder],
            "limits": limits,
            "redact": Redaction([SECRET]) if step.redacts else None,
            **services_of(self._world, step),
        }  # fmt: skip
        if self.step.parent is not None:
            parent = self.parent
            if parent is None or parent.rollout is None:
                return None
            try:
                return parent.rollout.open_child(handler, **options)
            except RolloutClosed:
                assert parent.has_reason, "a rollout has ended for no reason"
                return None
        if place.running is None or place.over:
            return None
        return place.running.open_rollout(handler, id=step.name or None, **options)

    def _begin(self, rollout: Rollout) -> None:
        self.rollout = rollout
        if self.step.form == "handler":
            self._world.account.add_room(self.step.number, self.step.concurrency)
        self._world.begin(self, rollout)
        self.opened.set()

    async def _body(self, rollout: Rollout) -> None:
        try:
            async with trio.open_nursery() as self.nursery:
                if self.step.form != "handler":
                    self.nursery.start_soon(self._answer, rollout)
                await self.end.wait()
                self.nursery.cancel_scope.cancel()
            if self.how == "raises":
                raise BodyError(f"the body of {self.step.number}")
        finally:
            self.nursery = None
            with trio.CancelScope(shield=True):
                if self.step.unwinds != QUIET:
                    await turns(self.step.unwinds)
                elif self.failed and self.step.form in ("handler", "serve"):
                    await self._world.see_clients_out(self)

    async def serve(self, rollout: Rollout, concurrency: int | None) -> None:
        """Answer, beside whatever else does."""
        self._world.account.add_room(self.step.number, concurrency)
        await rollout.serve(Answering(self._world, self.step, serves=True), concurrency=concurrency)

    async def _answer(self, rollout: Rollout) -> None:
        answering = Answering(self._world, self.step, serves=True)
        match self.step.form:
            case "serve":
                await self.serve(rollout, self.step.concurrency)
            case "loop":
                async for exchange in rollout:
                    await answering.in_a_loop(exchange)
                    del exchange
            case "tasks":
                async with trio.open_nursery() as nursery:
                    async for exchange in rollout:
                        nursery.start_soon(answering.in_a_loop, exchange)
                        del exchange
