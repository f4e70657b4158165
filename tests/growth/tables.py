"""Tables of an endpoint, in all sizes: connections, calls, and whoever waits for a turn."""

from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from tests.growth.measured import Make, Work
from triocept import EndpointLimits, Limits, Message, Request, Response, Text
from triocept._rollout.answer import Answer, Subscription
from triocept._rollout.asking import Asking
from triocept._rollout.budget import Budget
from triocept._rollout.calls import RETRY_COUNT, Arrivals, Calls, retry_key
from triocept._rollout.outcome import Answered
from triocept._rollout.registry import Registry
from triocept._server.admission import AT_ONCE, Admission, Turns
from triocept._server.notices import shown
from triocept._upstream.limiter import Limiter
from triocept.types import PartDelta

FIRST, MARKED = {RETRY_COUNT: "0"}, {RETRY_COUNT: "1"}
SHORT = EndpointLimits(keyless_seconds=1, head_seconds=0.5)


def run(main: Callable[[], Awaitable[object]]) -> Work:
    """In an event loop whose clock jumps to the next deadline."""
    return lambda: trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Guest:
    """A connection, as the door sees it."""

    pieces = served = in_turns = 0
    arrived_at = 0.0
    progress = None
    had_key = False

    def is_readable(self) -> bool:
        return False

    def cut(self, *, late: bool = False) -> None:
        """It is closed."""


async def let_in(admission: Admission, n: int, *, apart: float = 0) -> None:
    """Connections that begin a head and hold something, one after the other."""
    for _ in range(n):
        guest = Guest()
        admission.enter(guest)
        admission.begin_head(guest)
        admission.hold(guest, 1)
        await trio.sleep(apart)


def left_waiting(n: int, *, apart: float) -> Work:
    """Connections that show no key until their time is over."""

    async def main() -> None:
        admission = Admission(SHORT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(admission.watch)
            await let_in(admission, n, apart=apart)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()

    return run(main)


def crowded(n: int) -> Work:
    """Connections of which each takes the place of one."""

    async def main() -> None:
        admission = Admission(EndpointLimits(connections=100))
        for _ in range(n):
            if admission.has_capacity() or admission.shed():
                await let_in(admission, 1)

    return run(main)


def taking_turns(n: int) -> Work:
    async def turn(turns: Turns) -> None:
        guest = Guest()
        await turns.begin(guest, begins=True)
        await turns.end(guest)

    return together(lambda: Turns(AT_ONCE), turn, n)


def together(
    make: Callable[[], Any], do: Callable[[Any], Awaitable[None]], n: int, *, leave: bool = False
) -> Work:
    """So many tasks with one thing; `leave`: they are cancelled when all of them wait."""

    async def main() -> None:
        one = make()
        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(do, one)
            if leave:
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

    return partial(trio.run, main)


def limited(n: int, *, leave: bool) -> Work:
    """Calls of some rollouts that wait for a slot, and have it or are cancelled."""

    async def call(limiter: Limiter) -> None:
        async with limiter.slot("r"):
            if leave:
                await trio.sleep_forever()

    return together(lambda: Limiter(1), call, n, leave=leave)


def arrived(n: int) -> Work:
    """Exchanges that have waited, taken by a loop."""

    async def main() -> None:
        arrivals = Arrivals()
        for _ in range(n):
            arrivals.put(Waiting())
        arrivals.finish()
        while await arrivals.next() is not None:
            pass

    return partial(trio.run, main)


class Waiting(SimpleNamespace):
    """An exchange, as the tables of its rollout see it."""

    __hash__ = object.__hash__
    settled = False
    budgets = ()


def asked(number: int, text: str = "go on") -> Request:
    return Request(
        dialect="openai_chat", model="m", messages=(Message("user", (Text(text),)),), extra={"seed": number}
    )


def alike(
    n: int, retry: dict[str, str], *, left: bool = False, text: Callable[[int], str] = lambda number: "go on"
) -> Work:
    """Calls that begin, of which none repeats another; and that end."""
    requests = [asked(number, text(number)) for number in range(n)]
    turn: Any = SimpleNamespace(request=requests[0])

    def work() -> None:
        calls = Calls("join")
        exchanges = []
        for request in requests:
            like = retry_key(request, None)
            found = calls.find(request, like, retry, named=False)
            assert found is None
            exchange: Any = Waiting(request=request, retry_key=like, answer=Answer())
            exchanges.append(exchange)
            calls.add(exchange)
            if left:
                calls.leave(Subscription(exchange.answer), exchange)
                exchange.answer.subscriptions.clear()
        for exchange in exchanges:
            calls.end(exchange, turn)

    return work


def come_and_go(n: int) -> Work:
    """Calls alike, of which there are two at any time: the one before ends when the next has begun."""
    turn: Any = SimpleNamespace(request=asked(0))
    like = retry_key(asked(0), None)

    def work() -> None:
        calls, before = Calls("join"), None
        for number in range(n):
            assert calls.find(asked(number), like, MARKED, named=False) is None
            exchange: Any = Waiting(request=asked(number), retry_key=like, answer=Answer())
            calls.add(exchange)
            if before is not None:
                calls.end(before, turn)
            before = exchange

    return work


def read_by_many(n: int) -> Work:
    """An answer of a few increments, for so many connections."""

    async def read(answer: Answer) -> None:
        subscription = Subscription(answer)
        await subscription.follow(Asking())
        subscription.close()

    async def main() -> None:
        answer = Answer()
        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(read, answer)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(5):
                await answer.put(PartDelta(0, "x"))
            answer.end(Answered(Response.of("x")))
            await answer.wait_delivered()

    return partial(trio.run, main)


def spent(n: int) -> Work:
    """Calls that are admitted at once, and end."""

    def work() -> None:
        budget = Budget(Limits(turns=n, input_tokens=n), parent=Budget(Limits(total_tokens=n)))
        exchanges: list[Any] = [
            Waiting(request=asked(number), estimate_input=lambda: 1) for number in range(n)
        ]
        for exchange in exchanges:
            assert budget.admit(exchange, None) is None
        for exchange in exchanges:
            for level in exchange.budgets:
                level.end(exchange, None)

    return work


def registered(n: int) -> Work:
    """Rollouts that are opened, found by their keys, and left."""

    def work() -> None:
        registry = Registry()
        rollouts: list[Any] = [
            SimpleNamespace(id=f"r{k}", api_key=f"k{k}", state_key=f"s{k}") for k in range(n)
        ]
        for rollout in rollouts:
            registry.add(rollout)
        for rollout in rollouts:
            assert registry.authenticate(rollout.api_key, rollout.id) is rollout
            assert registry.authenticate_state(rollout.state_key, None) is rollout
            registry.discard(rollout)

    return work


TABLES: dict[str, Make] = {
    "connections that come at once, without a key": partial(left_waiting, apart=0),
    "connections that come one by one, without a key": partial(left_waiting, apart=0.001),
    "connections that take each other's places": crowded,
    "turns of connections without a key": taking_turns,
    "rollouts and their keys": registered,
    "exchanges that wait to be taken": arrived,
    "calls that differ": lambda n: alike(n, MARKED, text=str),
    "calls that differ outside the last message": lambda n: alike(n, MARKED),
    "calls whose clients have left": lambda n: alike(n, FIRST, left=True, text=str),
    "calls alike whose clients have left": lambda n: alike(n, FIRST, left=True),
    "calls alike that come and go": come_and_go,
    "connections that read one answer": read_by_many,
    "calls within a budget": spent,
    "calls that wait for a slot": partial(limited, leave=False),
    "calls that wait for a slot and are cancelled": partial(limited, leave=True),
    "input of a client, escaped for the log": lambda n: partial(shown, "\n" * n, 1 << 40),
}

STEADY_TABLES: dict[str, Make] = {
    "connections that take each other's places": crowded,
    "calls alike that come and go": come_and_go,
}
"""What takes as much memory for n as for 2n."""
