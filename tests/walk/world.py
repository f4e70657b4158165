"""Plays a history, and waits for its end.

The end, unless it is an abrupt one: every task waits; clients that have hung up are seen to take their handlers along;
what is held is let go, and every client has to come to its end; then the rollouts are left, then the endpoints.
"""

import gc
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import trio
import trio.testing

from tests.upstream.provider import serve_provider
from triocept import Endpoint, Exchange, Pool, Rollout, Upstream, open_upstream
from triocept._server.serve import Server
from triocept._util.failures import leaves

from .account import Account, Kept, Seen
from .agents import make_call, run_agent, visit
from .history import (
    Call,
    Clash,
    Crash,
    CutLine,
    EndEndpoint,
    History,
    Leave,
    OpenEndpoint,
    OpenPool,
    OpenRollout,
    RunAgent,
    Serve,
    Step,
    Stop,
    Visit,
)
from .http1 import Connection1
from .ledger import draw_up
from .recorders import Recorders
from .rollouts import Home, Place
from .tasks import stacks
from .websocket import ConnectionW
from .wire import exchange_in, turns

PATIENCE = 20.0
"""Seconds after which something that does not move hangs."""


Connection: TypeAlias = Connection1 | ConnectionW


class Walked:
    """A history that was played."""

    def __init__(self, violations: list[str], calls: int, exchanges: int, seconds: float) -> None:
        self.violations = violations
        self.calls = calls
        self.exchanges = exchanges
        self.seconds = seconds


def play(history: History, *, patience: float = PATIENCE) -> Walked:
    """Play a history, and draw up its account."""
    account = Account()
    begun = time.monotonic()
    with _ordered(history.seed), _listening(account), tempfile.TemporaryDirectory() as folder:
        before = _left_over()
        refs: list[weakref.ref[object]] = []
        try:
            trio.run(_play, history, account, Path(folder), refs, patience)
        except Exception as exc:
            account.violate("the walk itself", "".join(traceback.format_exception(exc)))
        draw_up(account, Path(folder) / "turns.jsonl")
        exchanges = sum(len(kept.trace) for kept in account.kept)
        for error in (
            *(each.error for each in account.faults),
            *(e for told in account.told.values() for e in told),
        ):
            error.__traceback__ = error.__context__ = error.__cause__ = None
        violations, seen = account.violations, len(account.seen)
        account = Account(violations=violations)
        _see_nothing_left(account, before, refs)
    return Walked(violations, seen, exchanges, time.monotonic() - begun)


async def _play(
    history: History, account: Account, folder: Path, refs: list[weakref.ref[object]], patience: float
) -> None:
    async with AsyncExitStack() as stack:
        world = World(history, account, folder, refs, patience)
        await world.open_upstreams(stack)
        with _servers(world.servers):
            async with trio.open_nursery() as nursery:
                world.nursery = nursery
                await world.run()


class World:
    """A walk under way."""

    nursery: trio.Nursery

    def __init__(
        self,
        history: History,
        account: Account,
        folder: Path,
        refs: list[weakref.ref[object]],
        patience: float,
    ) -> None:
        self.history = history
        self.account = account
        self.recorders = Recorders(account, folder)
        self.places: dict[int, Place] = {}
        self.rollouts: dict[int, Home] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.servers: dict[int, Server] = {}
        self.release = trio.Event()
        """Set when what is held is let go."""
        self._refs = refs
        self._patience = patience
        self._signals: dict[str, trio.Event] = {}
        self._leaves: dict[str, trio.Event] = {}
        self._connections: dict[tuple[str, int, int], Connection] = {}
        self._made: list[Connection] = []
        self._calls = 0
        self._no_call = trio.Event()
        self._started = trio.current_time()

    # What steps ask of it

    def nonce(self, step: Call | RunAgent) -> str:
        """The word of a call: its own, or that of the call that it repeats."""
        number = step.like if isinstance(step, Call) and step.like else step.number
        return f"n{self.history.seed}x{number}z"

    def signal(self, nonce: str) -> trio.Event:
        """Set when an answer goes on."""
        return self._signals.setdefault(nonce, self.release if self.release.is_set() else trio.Event())

    def leaves(self, nonce: str) -> trio.Event:
        """Set when a client hangs up."""
        return self._leaves.setdefault(nonce, self.release if self.release.is_set() else trio.Event())

    def watch(self, one: Exchange | Rollout) -> None:
        """See that nothing keeps it."""
        self._refs.append(weakref.ref(one))

    def begin(self, home: Home, rollout: Rollout) -> None:
        """A rollout is open."""
        self.watch(rollout)
        self.recorders.numbers[rollout.trace.run] = home.step.number
        self.account.kept.append(Kept(home.step, rollout.trace, home.step.recorder))

    def connection(self, way: str, number: int, rollout: Rollout) -> Any:
        """A connection of this number to the endpoint of a rollout: a new one where there is none that can be used."""
        port = urlsplit(rollout.base_url("openai_chat")).port
        assert port is not None
        key = (way, number, port)
        found = self._connections.get(key) if number and way != "websocket" else None
        if found is not None and not found.over:
            return found
        made: Connection
        match way:
            case "websocket":
                made = ConnectionW(port)
            case _:
                made = Connection1(port)
        self._made.append(made)
        if number and way != "websocket":
            self._connections[key] = made
        return made

    def is_recorded(self, seen: Seen) -> bool:
        """Whether the turn of a call is recorded now."""
        home = self.rollouts[seen.step.rollout]
        if home.step.recorder != "none":
            return (exchange_in(seen.body) or seen.nonce) in self.account.recorded
        traces = [kept.trace for kept in self.account.kept if kept.step.number == home.step.number]
        return any(
            seen.nonce in turn.request.last.text
            for trace in traces
            for turn in reversed(tuple(trace))
            if turn.request.last is not None
        )

    def see_end(self, seen: Seen) -> None:
        """An attempt at a call is over."""
        home = self.rollouts[seen.step.rollout]
        seen.done = True
        seen.place_shaky = home.place.shaky
        seen.rollout_over = home.has_reason

    # The steps

    async def run(self) -> None:
        """Play all steps, then end."""
        try:
            for number, step in enumerate(self.history.steps):
                self._plan(step)
                await self._within(partial(self._take, step), f"step {number}, {step!r}")
                await turns(step.pause)
            await (self._end_at_once() if self.history.abrupt else self._end_in_order())
        except _Hangs:
            self.nursery.cancel_scope.cancel()
        for connection in self._made:
            await connection.close()
        await self.recorders.close()

    def _plan(self, step: Step) -> None:
        if isinstance(step, Call | RunAgent):
            self.account.plans.setdefault(self.nonce(step), step.plan)

    async def _within(self, do: Callable[[], Any], what: str) -> None:
        """Wait for something that must not take long."""
        with trio.move_on_after(self._patience) as scope:
            await do()
        if scope.cancelled_caught:
            self._hangs(what)

    def _hangs(self, what: str) -> None:
        account = self.account
        waiting = [str(seen) for seen in account.seen if not seen.done]
        working = [f"{nonce} of rollout {number}" for nonce, number in account.working.values()]
        open_ones = [number for number, home in self.rollouts.items() if not home.closed]
        account.violate(
            "hangs",
            f"{what}\n  clients: {'; '.join(waiting)}\n  at work on: {'; '.join(working)}\n"
            f"  rollouts open: {open_ones}\n{stacks()}",
        )
        raise _Hangs

    async def _take(self, step: Step) -> None:
        match step:
            case OpenEndpoint() | OpenPool():
                place = self.places[step.number] = Place(self, step)
                self.nursery.start_soon(place.run)
                await place.opened.wait()
            case OpenRollout() if step.endpoint in self.places:
                home = self.rollouts[step.number] = Home(self, step)
                self.nursery.start_soon(home.run)
                with trio.move_on_after(3):  # a pool may have no endpoint for a second
                    await home.opened.wait()
            case Serve() if step.rollout in self.rollouts:
                self._serve(self.rollouts[step.rollout], step)
            case Call() if step.rollout in self.rollouts:
                self.nursery.start_soon(self._count, partial(make_call, self, step))
            case Visit() if step.rollout in self.rollouts:
                self.nursery.start_soon(self._count, partial(visit, self, step))
            case RunAgent() if step.rollout in self.rollouts:
                home = self.rollouts[step.rollout]
                if home.nursery is not None and home.rollout is not None and not home.end.is_set():
                    with suppress(RuntimeError):
                        home.nursery.start_soon(run_agent, self, step, home.rollout)
            case Clash():
                await self._clash(step)
            case Stop() if step.rollout in self.rollouts:
                self.nursery.start_soon(self._stop, self.rollouts[step.rollout])
            case Leave() if step.rollout in self.rollouts:
                self._leave(self.rollouts[step.rollout], step.how)
            case EndEndpoint() if step.endpoint in self.places:
                self._end(self.places[step.endpoint], cancelled=step.cancelled)
            case Crash() if step.endpoint in self.places:
                self._crash(self.places[step.endpoint], step.member)
            case CutLine():
                self.recorders.cut_line(step.size)
            case _:  # what it needs was left out
                pass

    async def _count(self, do: Callable[[], Any]) -> None:
        self._calls += 1
        try:
            await do()
        finally:
            self._calls -= 1
            if not self._calls:
                self._no_call.set()
                self._no_call = trio.Event()

    async def _clash(self, step: Clash) -> None:
        nonce = f"n{self.history.seed}x{step.call}z"
        events = [self.signal(nonce), self.leaves(nonce)]
        if step.client_first:
            events.reverse()
        events[0].set()
        await turns(step.gap)
        events[1].set()

    async def _stop(self, home: Home) -> None:
        if home.rollout is None:
            return
        home.over = True
        try:
            await home.rollout.stop(f"enough of {home.step.number}")
        except Exception as exc:  # of a recorder: whoever stops is told
            self.account.told.setdefault(home.step.number, []).extend(leaves(exc))

    def _serve(self, home: Home, step: Serve) -> None:
        if home.nursery is not None and home.rollout is not None and not home.end.is_set():
            with suppress(RuntimeError):  # it is closed, and its body has not noticed yet
                home.nursery.start_soon(home.serve, home.rollout, step.concurrency)

    def _leave(self, home: Home, how: str) -> None:
        home.over = True
        home.how = how
        if how == "cancelled":
            home.scope.cancel()
        home.end.set()

    def _end(self, place: Place, *, cancelled: bool = False) -> None:
        place.over = True
        if cancelled:
            place.scope.cancel()
        place.end.set()

    def _crash(self, place: Place, member: int) -> None:
        """Its listener dies under it."""
        running = place.running
        endpoints = running.endpoints if isinstance(running, Pool) else ()
        if endpoints and isinstance(running, Pool):
            place.crashed = self.account.crashed = True
            endpoint: Endpoint = endpoints[member % len(endpoints)]
            self.servers[endpoint.port]._listener.socket.close()

    # The end

    async def _end_in_order(self) -> None:
        await self._within(trio.testing.wait_all_tasks_blocked, "the end: somebody never rests")
        await self._see_handlers_gone()
        self._let_go()
        await self._within(self._see_clients_out, "the end: clients that are still there")
        for home in reversed(tuple(self.rollouts.values())):
            self._leave(home, "returns")
            await turns(1)
        await self._within(self._see_rollouts_closed, "the end: rollouts that are still open")
        await self._close_places()

    async def _end_at_once(self) -> None:
        for place in self.places.values():
            self._end(place)
        self._let_go()
        await self._within(self._see_clients_out, "the end at once: clients that are still there")
        for home in self.rollouts.values():
            self._leave(home, "returns")
        await self._within(self._see_rollouts_closed, "the end at once: rollouts that are still open")
        await self._close_places()

    def _let_go(self) -> None:
        self.release.set()
        for event in (*self._signals.values(), *self._leaves.values()):
            event.set()

    async def _close_places(self) -> None:
        for connection in self._made:
            await connection.close()
        for place in self.places.values():
            self._end(place)
        await self._within(self._see_places_closed, "the end: endpoints that are still open")
        await self._within(self._see_tasks_gone, "the end: tasks that are still there")

    async def _see_handlers_gone(self) -> None:
        """A client that has hung up has taken its handler along."""
        deadline = trio.current_time() + 20
        while (left := self._without_clients()) and trio.current_time() < deadline:
            await trio.sleep(0.01)
        for nonce in left:
            plan = self.account.plans[nonce]
            self.account.violate("outlives its client", f"{nonce}: its handler is at work, {plan!r}")

    def _without_clients(self) -> list[str]:
        """What is being answered though its clients have hung up, and that means something."""
        there = {seen.nonce for seen in self.account.seen if not (seen.done and seen.left)}
        return [
            nonce
            for nonce, number in self.account.working.values()
            if nonce not in there
            and self.rollouts[number].step.on_hangup == "cancel"
            and self.rollouts[number].step.form in ("handler", "serve")
        ]

    async def _see_clients_out(self) -> None:
        while self._calls:
            await self._no_call.wait()

    async def see_clients_out(self, home: Home) -> None:
        """Those that wait for an answer of a rollout whose handler has failed have one, though its body goes on."""
        deadline = trio.current_time() + 20
        while waiting := [seen for seen in self.account.seen if seen.waits_in(home.step.number)]:
            if trio.current_time() > deadline:
                for seen in waiting:
                    self.account.violate(
                        "left waiting", f"{seen}, in rollout {home.step.number}, which has failed"
                    )
                break
            await trio.sleep(0.005)

    async def _see_rollouts_closed(self) -> None:
        while not all(home.closed for home in self.rollouts.values()):
            await trio.sleep(0.002)

    async def _see_places_closed(self) -> None:
        while any(place.running is not None for place in self.places.values()):
            await trio.sleep(0.002)

    async def _see_tasks_gone(self) -> None:
        """Nothing is left in our nursery but the connections' readers, which end with them."""
        while self.nursery.child_tasks:
            await trio.sleep(0.002)

    # The provider

    async def open_upstreams(self, stack: AsyncExitStack) -> None:
        """The provider, and an upstream for each dialect that it is asked in."""
        from .provider import answering

        plans = [step.plan for step in self.history.steps if isinstance(step, Call | RunAgent)]
        asked = sorted({plan.speaks for plan in plans if plan.does == "forward"})
        if not asked:
            return
        answer: Any = answering(self.account, self.release)
        provider = await stack.enter_async_context(serve_provider(answer))
        for dialect in asked:
            base = provider.url + ("/v1" if dialect.startswith("openai") else "")
            upstream = open_upstream(base, dialect=dialect, api_key="sk-provider-0123456789")
            self.upstreams[dialect] = await stack.enter_async_context(upstream)


class _Hangs(Exception):
    """The walk cannot go on."""


@contextmanager
def _servers(found: dict[int, Server]) -> Iterator[None]:
    """Know the servers by their ports, so that one can be killed."""
    original = Server.__init__

    def remember(self: Server, listener: trio.SocketListener, **options: Any) -> None:
        original(self, listener, **options)
        found[listener.socket.getsockname()[1]] = self

    Server.__init__ = remember  # type: ignore[method-assign]
    try:
        yield
    finally:
        Server.__init__ = original  # type: ignore[method-assign]
        found.clear()


@contextmanager
def _ordered(seed: int) -> Iterator[None]:
    """Let trio take tasks in the order of a seed. (What hypothesis does by the same means.)"""
    run: Any = trio._core._run
    before, state = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before
        run._r.setstate(state)


class _Ear(logging.Handler):
    """Hears what is logged that should not be."""

    def __init__(self, account: Account) -> None:
        super().__init__(logging.WARNING)
        self._account = account

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self._account.crashed and "an endpoint of the pool failed" in text:
            return
        if record.levelno >= logging.ERROR or record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self._account.violate("log", f"{record.name} {record.levelname}: {text}\n{trace}")


@contextmanager
def _listening(account: Account) -> Iterator[None]:
    """Take in what is logged, warned of, or raised where nobody hears it."""
    ear, root = _Ear(account), logging.getLogger()
    hook = sys.unraisablehook
    level, handlers = root.level, root.handlers[:]

    def unraisable(what: Any) -> None:
        account.violate("unraisable", f"{what.exc_value!r} in {what.object!r}")

    root.handlers[:] = [ear]
    root.setLevel(logging.WARNING)
    sys.unraisablehook = unraisable
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            account.violate("warning", f"{warning.category.__name__}: {warning.message}")
    finally:
        sys.unraisablehook = hook
        root.setLevel(level)
        root.handlers[:] = handlers


def _left_over() -> tuple[Counter[str], set[str], set[str]]:
    """Descriptors, threads that are none of trio's cache, and child processes."""
    links: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            links[os.readlink(f"/proc/self/fd/{number}").partition(":")[0]] += 1
        except OSError:  # that of the listing
            pass
    threads = {thread.name for thread in threading.enumerate() if not thread.name.startswith("Trio")}
    children: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread of trio's cache has just ended
            children.update(file.read_text().split())
    return links, threads, children


def _see_nothing_left(
    account: Account, before: tuple[Counter[str], set[str], set[str]], refs: list[weakref.ref[object]]
) -> None:
    gc.collect()
    links, threads, children = _left_over()
    if more := links - before[0]:
        account.violate("descriptors", f"{dict(more)} are left")
    if threads - before[1]:
        account.violate("threads", f"{threads - before[1]} are left")
    if children - before[2]:
        account.violate("processes", f"{children - before[2]} are left")
    alive = [one for ref in refs if (one := ref()) is not None]
    if alive:
        kinds = Counter(type(one).__name__ for one in alive)
        holders = [
            f"{type(each).__name__}: {each!r:.200}"
            for each in gc.get_referrers(alive[0])
            if each is not alive
        ]
        account.violate("objects", f"{dict(kinds)} are left: {alive[0]!r}, held by {holders[:5]}")
