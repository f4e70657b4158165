"""Many rollouts behind few endpoints: balance, growth, shrinking, and the death of one."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from tests.asking import ask_body, connected, echo, raw_request, read_to_end
from tests.slow_to_open import SlowToOpen
from tests.tunnel.relay import Relay
from triocept import (
    Endpoint,
    Exchange,
    JSONLRecorder,
    Pool,
    Refusal,
    Rollout,
    Trace,
    TunnelError,
    read_traces,
    serve_endpoint,
    serve_pool,
)
from triocept._server.serve import Server
from triocept.errors import EndpointCrashed
from triocept.tunnels import TunnelHealth

ROLLOUTS = 500
QUICK = TunnelHealth(interval=0.02, failures=1, back_off=0.01, start_timeout=20)


async def ask(rollout: Rollout, text: str) -> str:
    """Ask over a connection of its own: a client's pool would be what 500 of them measure."""
    port = urlsplit(rollout.base_url("openai_chat")).port
    assert port is not None
    async with connected(port) as stream:
        body = json.dumps(ask_body(text)).encode()
        await stream.send_all(raw_request(rollout, body, more="Connection: close\r\n"))
        head, _, answer = (await read_to_end(stream)).partition(b"\r\n\r\n")
    if not head:
        raise trio.BrokenResourceError("no answer")
    assert b" 200 " in head.splitlines()[0], answer
    return str(json.loads(answer)["choices"][0]["message"]["content"])


GONE = (OSError, trio.BrokenResourceError)


async def until(condition: Any) -> None:
    while not condition():
        await trio.sleep(0.005)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Server]:
    """The servers by their ports, so that a test can kill one."""
    found: dict[int, Server] = {}
    original = Server.__init__

    def remember(self: Server, listener: trio.SocketListener, **options: Any) -> None:
        original(self, listener, **options)
        found[listener.socket.getsockname()[1]] = self

    monkeypatch.setattr(Server, "__init__", remember)
    return found


def kill(servers: dict[int, Server], endpoint: Endpoint) -> None:
    servers[endpoint.port]._listener.socket.close()


# Balance, growth, shrinking


@pytest.mark.timeout(120)
@pytest.mark.once
async def test_500_rollouts_at_once_need_16_endpoints_and_no_endpoint_has_more_than_32() -> None:
    opened, all_open = 0, trio.Event()
    loads: list[tuple[int, ...]] = []

    async def run(pool: Pool) -> None:
        nonlocal opened
        async with pool.open_rollout(echo) as rollout:
            opened += 1
            loads.append(pool.loads)
            if opened == ROLLOUTS:
                all_open.set()
            await all_open.wait()
            assert await ask(rollout, rollout.id) == rollout.id
            assert await ask(rollout, "2") == "2"
        assert len(rollout.trace) == 2

    async with serve_pool(shrink_after=0.05) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(ROLLOUTS):
                nursery.start_soon(run, pool)
        assert len(loads) == ROLLOUTS
        assert max(max(one) for one in loads) == 32
        assert len(loads[-1]) == 16
        assert sum(loads[-1]) == ROLLOUTS
        await until(lambda: len(pool.endpoints) == 1)


async def test_a_fixed_set_is_balanced_and_never_grows_or_shrinks() -> None:
    async with serve_pool([serve_endpoint] * 4, shrink_after=0.01) as pool:
        before = pool.endpoints
        async with trio.open_nursery() as nursery:

            async def hold() -> None:
                async with pool.open_rollout(echo):
                    await trio.sleep_forever()

            for _ in range(102):
                nursery.start_soon(hold)
            await until(lambda: sum(pool.loads) == 102)
            assert sorted(pool.loads) == [25, 25, 26, 26]
            nursery.cancel_scope.cancel()
        assert pool.loads == (0, 0, 0, 0)
        await trio.sleep(0.1)
        assert pool.endpoints == before


async def test_where_all_are_full_and_there_may_be_no_more_a_rollout_waits() -> None:
    async with serve_pool(per_endpoint=2, max_endpoints=2) as pool, trio.open_nursery() as nursery:
        go = trio.Event()

        async def hold() -> None:
            async with pool.open_rollout(echo):
                await go.wait()

        for _ in range(4):
            nursery.start_soon(hold)
        await until(lambda: pool.loads == (2, 2))
        with trio.move_on_after(0.1) as waited:
            async with pool.open_rollout(echo):
                raise AssertionError("there was no room")
        assert waited.cancelled_caught
        nursery.start_soon(_set, go)
        async with pool.open_rollout(echo):
            assert len(pool.endpoints) == 2


async def _set(event: trio.Event) -> None:
    event.set()


async def test_a_recorder_of_the_pool_has_every_rollout_and_outlives_its_endpoints(tmp_path: Any) -> None:
    path = tmp_path / "traces.jsonl"
    async with serve_pool(per_endpoint=1, shrink_after=0.01, recorder=JSONLRecorder(path)) as pool:
        for _ in range(2):
            async with pool.open_rollout(echo) as one, pool.open_rollout(echo) as two:
                await ask(one, "a")
                await ask(two, "b")
            await until(lambda: len(pool.endpoints) == 1)
    assert sorted(len(trace) for trace in read_traces(path)) == [1, 1, 1, 1]


# The death of one


@pytest.mark.timeout(120)
@pytest.mark.once
async def test_no_rollout_is_lost_when_an_endpoint_dies_and_each_is_moved_with_its_trace(
    servers: dict[int, Server],
) -> None:
    done: list[str] = []
    asked = 0
    killed: list[int] = []

    async def run(pool: Pool) -> None:
        nonlocal asked
        async with pool.open_rollout(echo) as rollout:
            key = rollout.api_key
            for number in range(3):
                while True:
                    try:
                        assert await ask(rollout, str(number)) == str(number)
                        break
                    except GONE:  # an agent that is started again, with the new URL
                        await trio.sleep(0.01)
                asked += 1
                if asked == ROLLOUTS:
                    victim = max(zip(pool.loads, pool.endpoints), key=lambda one: one[0])[1]
                    killed.append(victim.port)
                    kill(servers, victim)
            assert rollout.api_key == key
            answered = [t for t in rollout.trace if t.outcome == "answered"]
        assert {t.request.last.text for t in answered if t.request.last} == {"0", "1", "2"}
        done.append(rollout.id)

    async with serve_pool(per_endpoint=64, on_lost_endpoint="move") as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(ROLLOUTS):
                nursery.start_soon(run, pool)
        assert killed
        assert killed[0] not in {endpoint.port for endpoint in pool.endpoints}
    assert len(set(done)) == ROLLOUTS


async def test_no_rollout_is_lost_when_an_endpoint_dies_and_its_owners_are_told(
    servers: dict[int, Server],
) -> None:
    done, told = 0, 0

    async def run(pool: Pool) -> None:
        nonlocal done, told
        while True:
            try:
                async with pool.open_rollout(echo) as rollout:
                    await ask(rollout, "a")
                    started.append(rollout)
                    if len(started) == 60:
                        kill(servers, pool.endpoints[0])
                        go.set()
                    await go.wait()
                    while True:  # an agent that asks until it is ended
                        try:
                            await ask(rollout, "b")
                            break
                        except GONE:
                            await trio.sleep(0.01)
                break
            except EndpointCrashed as exc:
                assert "its endpoint in the pool, " in str(exc)
                told += 1
        done += 1

    started: list[Rollout] = []
    go = trio.Event()
    async with serve_pool(per_endpoint=20) as pool, trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(run, pool)
    assert (done, told) == (60, 20)


async def test_the_rollouts_of_the_only_endpoint_find_a_home_in_its_successor(
    servers: dict[int, Server],
) -> None:
    async with serve_pool(on_lost_endpoint="move") as pool, pool.open_rollout(echo) as rollout:
        await ask(rollout, "before")
        (first,) = pool.endpoints
        kill(servers, first)
        await until(lambda: pool.endpoints and pool.endpoints != (first,))
        assert await ask(rollout, "after") == "after"
        assert pool.loads == (1,)
    assert [turn.outcome for turn in rollout.trace] == ["answered", "answered"]


@asynccontextmanager
async def serve_until_told(deaths: list[trio.Event]) -> AsyncIterator[Endpoint]:
    """An endpoint that ends in order, for a reason of its own."""
    death = trio.Event()
    deaths.append(death)
    async with serve_endpoint(grace=0.2) as endpoint, trio.open_nursery() as nursery:

        async def watch() -> None:
            await death.wait()
            raise RuntimeError("its time has come")

        nursery.start_soon(watch)
        yield endpoint


@pytest.mark.parametrize("death", ["it crashes", "it ends in order"])
@pytest.mark.parametrize("action", ["respond", "refuse", "stream", "raise"])
async def test_a_rollout_with_a_call_in_hand_outlives_its_endpoint_though_there_is_no_other_yet(
    death: str, action: str, servers: dict[int, Server]
) -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.request.last is not None and exchange.request.last.text != "before":
            await echo(exchange)
            return
        with trio.CancelScope(shield=True):
            taken.set()
            await gone.wait()
            match action:
                case "respond":
                    await exchange.respond("late")
                case "refuse":
                    await exchange.refuse(429, "late")
                case "stream":
                    async with exchange.open_stream() as stream:
                        await stream.send("late")
                case "raise":
                    raise Refusal(429, "late")

    async def call(rollout: Rollout) -> None:
        with suppress(*GONE, AssertionError):
            await ask(rollout, "before")

    taken, gone = trio.Event(), trio.Event()
    deaths: list[trio.Event] = []
    opener = partial(serve_until_told, deaths) if death == "it ends in order" else serve_endpoint
    async with serve_pool(opener, on_lost_endpoint="move") as pool, trio.open_nursery() as nursery:
        async with pool.open_rollout(answer) as rollout, rollout.open_child(answer) as child:
            for each in (rollout, child):
                taken = trio.Event()
                nursery.start_soon(call, each)
                await taken.wait()
            (first,) = pool.endpoints
            deaths[0].set() if deaths else kill(servers, first)
            await until(lambda: pool.endpoints and pool.endpoints != (first,))
            await until(lambda: not first._registry)
            gone.set()
            for each in (rollout, child):
                assert await ask(each, "after") == "after"
    assert {len(trace) for trace in (rollout.trace, child.trace)} == {2}


class Mortals:
    """Endpoints that end when they are told to. One of them may be impossible to open, and any may be held up."""

    def __init__(self, *, impossible: int = 0) -> None:
        self.opened = self.gone = 0
        self.deaths: dict[Endpoint, trio.Event] = {}
        self.go, self.leave = trio.Event(), trio.Event()
        self.go.set()
        self.leave.set()
        self._impossible = impossible

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        self.opened += 1
        if self.opened == self._impossible:
            raise OSError("no descriptor left, just now")
        await self.go.wait()
        deaths: list[trio.Event] = []
        try:
            async with serve_until_told(deaths) as endpoint:
                self.deaths[endpoint] = deaths[0]
                yield endpoint
        finally:
            with trio.CancelScope(shield=True):
                await self.leave.wait()
            self.gone += 1

    def kill_busy(self, pool: Pool) -> None:
        """End the endpoint that has the rollout."""
        self.deaths[pool.endpoints[pool.loads.index(1)]].set()


async def test_a_rollout_without_an_endpoint_gets_one_though_the_first_that_is_tried_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._pool.BACK_OFF", 0.05)
    mortals = Mortals(impossible=2)
    async with serve_pool(mortals.open, on_lost_endpoint="move") as pool, pool.open_rollout(echo) as rollout:
        mortals.kill_busy(pool)
        await until(lambda: not pool.endpoints)
        await until(lambda: pool.endpoints)
        assert await ask(rollout, "after") == "after"
    assert mortals.opened == 3


@pytest.mark.parametrize("endpoints", [1, 2])
async def test_a_rollout_that_is_being_opened_when_its_endpoint_dies_is_moved(endpoints: int) -> None:
    mortals, recorder = Mortals(), SlowToOpen()

    async def run() -> None:
        async with pool.open_rollout(echo, recorder=recorder) as rollout:
            await until(lambda: pool.endpoints)
            assert await ask(rollout, "hi") == "hi"

    async with serve_pool([mortals.open] * endpoints, on_lost_endpoint="move") as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await recorder.opening.wait()
            mortals.kill_busy(pool)
            await until(lambda: len(pool.endpoints) < endpoints)
            recorder.go.set()
    assert [len(trace) for trace in recorder.sealed] == [1]


@pytest.mark.parametrize("shielded", [False, True])
async def test_a_rollout_that_is_being_opened_when_its_endpoint_dies_is_told(shielded: bool) -> None:
    mortals, recorder = Mortals(), SlowToOpen(shielded=shielded)

    async def run() -> None:
        with pytest.raises(EndpointCrashed, match="its endpoint in the pool, "):
            async with pool.open_rollout(echo, recorder=recorder):
                await trio.sleep_forever()

    async with serve_pool([mortals.open] * 2) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await recorder.opening.wait()
            mortals.kill_busy(pool)
            await until(lambda: len(pool.endpoints) == 1)
            if shielded:
                recorder.go.set()
        assert set(pool.loads) == {0}


async def test_a_rollout_that_finds_its_id_taken_where_it_goes_is_told_and_the_others_are_moved() -> None:
    mortals = Mortals()
    async with serve_pool([mortals.open] * 2, on_lost_endpoint="move") as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_and_be_told, pool, "a")
            await until(lambda: sum(pool.loads) == 1)
            first = pool.endpoints[pool.loads.index(1)]
            async with pool.open_rollout(echo, id="a"), pool.open_rollout(echo), pool.open_rollout(echo):
                mortals.deaths[first].set()
                await until(lambda: len(pool.endpoints) == 1)
                await until(lambda: pool.loads == (3,))


async def test_a_rollout_that_is_being_left_when_its_endpoint_dies_leaves_no_key_elsewhere() -> None:
    class SlowToSeal(SlowToOpen):
        async def aopen(self) -> None:
            pass

        async def seal(self, trace: Trace) -> None:
            self.opening.set()
            await self.go.wait()

    async def run() -> None:
        async with pool.open_rollout(echo, recorder=recorder):
            pass

    mortals, recorder = Mortals(), SlowToSeal()
    async with serve_pool([mortals.open] * 2, on_lost_endpoint="move") as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await recorder.opening.wait()
            mortals.kill_busy(pool)
            await until(lambda: pool.loads == (1,))
            assert [len(endpoint._registry) for endpoint in pool.endpoints] == [0]
            recorder.go.set()


async def hold_and_be_told(pool: Pool, name: str) -> None:
    with pytest.raises(ValueError, match=f"a rollout with the id '{name}' is open already"):
        async with pool.open_rollout(echo, id=name):
            await trio.sleep_forever()


async def test_a_rollout_between_two_endpoints_opens_children_that_go_with_it() -> None:
    mortals = Mortals()
    async with serve_pool(mortals.open, on_lost_endpoint="move") as pool:
        async with pool.open_rollout(echo) as rollout, rollout.open_child(echo, id="elder"):
            mortals.go = trio.Event()
            mortals.kill_busy(pool)
            await until(lambda: not pool.endpoints)
            with pytest.raises(ValueError, match="'elder' is open already"):
                async with rollout.open_child(echo, id="elder"):
                    raise AssertionError
            async with rollout.open_child(echo) as child, child.open_child(echo) as grandchild:
                mortals.go.set()
                await until(lambda: pool.endpoints)
                for each in (rollout, child, grandchild):
                    assert await ask(each, each.id) == each.id


async def test_why_no_endpoint_can_be_opened_is_not_what_another_one_has_died_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._pool.BACK_OFF", 15.0)
    mortals = Mortals(impossible=3)
    async with serve_pool(mortals.open, per_endpoint=1) as pool:
        async with pool.open_rollout(), pool.open_rollout():
            assert pool.loads == (1, 1)
        mortals.leave = trio.Event()
        for death in mortals.deaths.values():
            death.set()
        await until(lambda: not pool.endpoints)
        for _ in range(2):
            with pytest.raises(OSError, match="no descriptor left"):
                async with pool.open_rollout():
                    raise AssertionError
            mortals.leave.set()
            await until(lambda: mortals.gone == 2)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_fixed_endpoint_that_dies_is_opened_again(servers: dict[int, Server]) -> None:
    async with serve_pool([serve_endpoint, serve_endpoint]) as pool:
        victim, other = pool.endpoints
        kill(servers, victim)
        await until(lambda: len(pool.endpoints) == 1)
        assert pool.endpoints == (other,)
        await until(lambda: len(pool.endpoints) == 2)


async def test_an_endpoint_whose_tunnel_is_down_gets_no_rollouts_until_it_is_up() -> None:
    relays = [Relay(), Relay()]
    openers = [
        partial(serve_endpoint, tunnel=relay, tunnel_health=QUICK, on_lost_url="move") for relay in relays
    ]
    async with serve_pool(openers, per_endpoint=2) as pool:
        first, second = pool.endpoints
        down = relays[0] if first.public_url in relays[0].opened else relays[1]
        down.refuses = 10**9
        down.cut()
        await until(lambda: not first.reachable)
        async with pool.open_rollout(), pool.open_rollout():
            assert pool.loads == (0, 2)
            async with trio.open_nursery() as nursery:

                async def third() -> None:
                    async with pool.open_rollout() as rollout:
                        assert rollout.base_url("openai_chat", reach="public").startswith(first.public_url)

                nursery.start_soon(third)
                await trio.sleep(0.05)
                assert pool.loads == (0, 2)
                down.refuses = 0
        assert second.reachable


# What goes wrong


async def test_a_pool_whose_first_endpoint_cannot_be_opened_fails_bare_before_its_body() -> None:
    relay = Relay()
    relay.refuses = 1
    with pytest.raises(TunnelError, match=r"^the relay refuses$"):
        async with serve_pool(partial(serve_endpoint, tunnel=relay)):
            raise AssertionError
    relay.refuses = 1
    openers = [serve_endpoint, partial(serve_endpoint, tunnel=relay), serve_endpoint]
    with pytest.raises(TunnelError, match=r"^the relay refuses$"):
        async with serve_pool(openers):
            raise AssertionError


async def test_growth_that_fails_is_tried_again_and_meanwhile_the_rollouts_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._pool.BACK_OFF", 0.05)
    relay = Relay()
    async with serve_pool(partial(serve_endpoint, tunnel=relay, tunnel_health=QUICK), per_endpoint=1) as pool:
        relay.refuses = 2
        async with pool.open_rollout(), pool.open_rollout(), pool.open_rollout():
            assert pool.loads == (1, 1, 1)


async def test_a_pool_that_has_no_endpoint_left_and_gets_none_says_why(servers: dict[int, Server]) -> None:
    relay = Relay()
    async with serve_pool(partial(serve_endpoint, tunnel=relay, tunnel_health=QUICK)) as pool:
        (only,) = pool.endpoints
        relay.refuses = 1
        kill(servers, only)
        await until(lambda: not pool.endpoints)
        with pytest.raises(TunnelError, match="the relay refuses"):
            async with pool.open_rollout():
                raise AssertionError


async def test_the_bodys_own_error_leaves_a_pool_bare_and_a_cancelled_pool_ends() -> None:
    relay = Relay()
    opener = partial(serve_endpoint, tunnel=relay, tunnel_health=QUICK)
    with pytest.raises(KeyError, match="mine"):
        async with serve_pool(opener, per_endpoint=1) as pool, pool.open_rollout(), pool.open_rollout():
            raise KeyError("mine")
    with trio.CancelScope() as scope:
        async with serve_pool(opener, per_endpoint=1) as pool, pool.open_rollout(), pool.open_rollout():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert relay.open_now == 0


async def test_a_pool_that_is_left_while_it_grows_ends_the_growing_one_too() -> None:
    opening, ended, hangs = trio.Event(), trio.Event(), False

    @asynccontextmanager
    async def opener() -> AsyncIterator[Endpoint]:
        nonlocal hangs
        if hangs:
            opening.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.set()
        hangs = True
        async with serve_endpoint() as endpoint:
            yield endpoint

    async with serve_pool(opener, per_endpoint=1) as pool, trio.open_nursery() as nursery:

        async def second() -> None:
            async with pool.open_rollout():
                raise AssertionError

        async with pool.open_rollout():
            nursery.start_soon(second)
            await opening.wait()
            nursery.cancel_scope.cancel()
    assert ended.is_set()


@pytest.mark.parametrize("options", [
    {"per_endpoint": 0},
    {"max_endpoints": 0},
    {"open_endpoint": []},
    {"open_endpoint": [serve_endpoint], "max_endpoints": 3},
])  # fmt: skip
async def test_what_makes_no_sense_is_a_valueerror(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be 1 or more|a pool that grows|at least one endpoint"):
        async with serve_pool(**options):
            raise AssertionError
