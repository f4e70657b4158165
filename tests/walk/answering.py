"""What whoever answers does with an exchange, as its plan says: a handler, or the body of a loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from triocept import Exchange, ExchangeAbandoned, Refusal, ToolCall, UpstreamError
from triocept._util.failures import leaves
from triocept.errors import AlreadySettled

from .account import Raised
from .history import SECRET, OpenRollout, Plan
from .wire import nonce_in, turns

if TYPE_CHECKING:
    from .rollouts import Home
    from .world import World


class Fault(Exception):
    """What a handler raises that is no answer."""


def _end(exchange: Exchange, nonce: str) -> str:
    """The end of an answer: it names the call, and the exchange, and says the secret that the call has said."""
    asked = exchange.request.last
    secret = f" {SECRET}" if asked is not None and SECRET in asked.text else ""
    return f"{secret} {nonce} by {exchange.id}!"


class Answering:
    """What answers the calls of one rollout: its handler or, with `serves`, a service or the body of a loop."""

    def __init__(self, world: World, step: OpenRollout, *, serves: bool = False) -> None:
        self._world = world
        self._step = step
        self._serves = serves
        self._loops = step.form in ("loop", "tasks")
        self._failed = False
        """True once it has raised a fault: it must not be called again."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer, as a handler does."""
        nonce = nonce_in(exchange.request.last.text if exchange.request.last else "")
        plan = self._world.account.plans[nonce]
        if self._failed and not self._loops:
            self._world.account.violate("called after its fault", f"{nonce}, of rollout {self._step.number}")
        with self._at_work(exchange, nonce):
            with trio.CancelScope(shield=plan.shielded):
                await turns(plan.turns)
            exchange.annotate(nonce=nonce)
            await self._do(exchange, plan, nonce)
            if plan.after == "wait":
                await turns(20)
            elif plan.after == "fault" and not self._loops:
                raise self._fault(nonce, "behind its answer")

    async def in_a_loop(self, exchange: Exchange) -> None:
        """Answer, as the body of a loop does: a hang-up is caught there."""
        try:
            await self(exchange)
        except ExchangeAbandoned:
            pass
        except UpstreamError as exc:  # of a forwarded call: a loop makes an answer of it by itself
            if not exchange.settled:
                try:
                    await exchange.refuse(exc.status, exc.message)
                except ExchangeAbandoned:
                    pass

    @contextmanager
    def _at_work(self, exchange: Exchange, nonce: str) -> Iterator[None]:
        account, number = self._world.account, self._step.number
        self._world.watch(exchange)
        account.taken.append((exchange.id, nonce, number))
        account.working[exchange.id] = (nonce, number)
        at_once = sum(each == number for _, each in account.working.values())
        account.most_at_once[number] = max(at_once, account.most_at_once.get(number, 0))
        try:
            yield
        except BaseException as exc:
            faults = {id(fault.error) for fault in account.faults}
            self._failed = any(id(leaf) in faults for leaf in leaves(exc))
            self._home.failed = self._home.failed or self._failed
            raise
        finally:
            del account.working[exchange.id]

    def _fault(self, nonce: str, what: str) -> Exception:
        error = Fault(f"{what}, at {nonce}")
        return self._hears(error, f"a fault {what}, at {nonce}")

    def _hears(self, error: Exception, what: str) -> Exception:
        """Its rollout's owner must hear of this."""
        self._world.account.faults.append(Raised(error, self._step.number, what))
        self._home.end_by_fault(of_service=self._serves)
        return error

    @property
    def _home(self) -> Home:
        return self._world.rollouts[self._step.number]

    async def _do(self, exchange: Exchange, plan: Plan, nonce: str) -> None:
        end = _end(exchange, nonce)
        text = f"{nonce} {'x' * plan.size}{end}"
        match plan.does:
            case "respond":
                await exchange.respond(text)
            case "wait":
                await turns(10)
                await exchange.respond(text)
            case "hold":
                await self._world.release.wait()
                await exchange.respond(text)
            case "thread":
                await trio.to_thread.run_sync(time.sleep, 0.002)
                await exchange.respond(text)
            case "stream" | "call":
                await self._stream(exchange, plan, nonce)
            case "refuse":
                await exchange.refuse(plan.status, f"no {nonce}")
            case "raise Refusal" | "raise UpstreamError":
                raise self._answer(plan.does, plan, nonce)
            case "fault":
                raise self._fault(nonce, "in the place of an answer")
            case "group":
                await self._fail_in_a_nursery(exchange, nonce)
            case "forward":
                await exchange.forward(self._world.upstreams[plan.speaks])
            case "deadline":
                with trio.move_on_after(0.001):
                    await self._world.release.wait()
                await exchange.respond(text)
            case "deadline in a stream":
                with trio.move_on_after(0.001):
                    await self._stream(exchange, plan, nonce, waits=True)
                self._home.end_by_fault(of_service=self._serves)  # its answer never ends
            case "nested":
                await self._respond_in_a_nursery(exchange, text)
            case "stop":
                self._home.over = True
                await exchange.rollout.stop("its handler has asked for it")
                await exchange.respond(text)
            case "twice":
                await self._respond_twice(exchange, nonce, text)
            case "cancel":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await exchange.respond(text)
                self._home.end_by_fault(of_service=self._serves)  # it returns without an answer
            case "return":
                self._home.end_by_fault(of_service=self._serves)
            case _:
                raise AssertionError(plan.does)

    def _answer(self, what: str, plan: Plan, nonce: str) -> Exception:
        if what == "raise Refusal":
            return Refusal(plan.status, f"no {nonce}")
        return UpstreamError(f"the provider has nothing for {nonce}", status=plan.status)

    async def _respond_in_a_nursery(self, exchange: Exchange, text: str) -> None:
        """Answer in a child task, beside one that never ends and is cancelled."""

        async def respond() -> None:
            await exchange.respond(text)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(respond)

    async def _stream(self, exchange: Exchange, plan: Plan, nonce: str, *, waits: bool = False) -> None:
        filler = "x" * plan.size
        length = plan.size // plan.pieces + 1
        pieces = [nonce, " ", *(filler[start : start + length] for start in range(0, plan.size, length))]
        pieces.append(_end(exchange, nonce))
        async with exchange.open_stream() as stream:
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                if last and waits:
                    await self._world.release.wait()
                if last and plan.at_signal:
                    await self._world.signal(nonce).wait()
                if last and plan.fails:
                    if plan.fails == "fault":
                        raise self._fault(nonce, "in the middle of a stream")
                    raise self._answer(plan.fails, plan, nonce)
                await stream.send(piece)
                await turns(plan.turns)
            if plan.does == "call":
                await stream.send(ToolCall.of("bash", command=f"echo {nonce}"))

    async def _fail_in_a_nursery(self, exchange: Exchange, nonce: str) -> None:
        async def fail() -> None:
            await turns(1)
            raise self._fault(nonce, "in a nursery")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    async def _respond_twice(self, exchange: Exchange, nonce: str, text: str) -> None:
        await exchange.respond(text)
        try:
            await exchange.respond(text)
        except AlreadySettled as exc:
            self._hears(exc, f"a second answer to {nonce}")
            raise
