"""Rollouts in rollouts: what ends with what; and the model calls of the program's own tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import TYPE_CHECKING

import trio

from .._canonical.content import Message, Text
from .._canonical.given import fit
from .._canonical.given_request import given_messages, given_request
from .._canonical.request import Request
from .._canonical.response import Response
from .._checks import described
from .._contexts import protected_context
from .._failures import raise_all, run_each
from .._trace.branch import Branch
from ..errors import LimitReached, Refusal, RolloutClosed
from .answer import Entry
from .condition import Condition
from .outcome import Answered, Failed, Outcome, Refused

if TYPE_CHECKING:
    from .._process.watcher import Watcher
    from .addresses import Addresses
    from .registry import Registry
    from .rollout import Rollout

__all__ = ["Asking", "Children", "ask", "request_of"]


class Children:
    """The children of one rollout: those that are open, and those that are being opened, which takes as long as their
    recorder likes. A child ends with its parent at the latest."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._opening: dict[Rollout, trio.CancelScope] = {}
        self._children: dict[Rollout, trio.CancelScope] = {}

    def branch(self) -> Branch:
        """Where a child that is opened now leaves its parent."""
        parent = self._rollout
        return Branch(
            rollout=parent.id,
            run=parent.trace.run,
            turns=len(parent.trace),
            service=parent._services.calls.current(),
        )

    @protected_context
    async def open(
        self, child: Rollout, opened: AbstractAsyncContextManager[Rollout]
    ) -> AsyncIterator[Rollout]:
        """Run `child`, with the context that runs it, for as long as the body runs, or its parent.

        Raises:
            RolloutClosed: the parent's end was first.
        """
        self.check_open()
        parent = self._rollout
        # It may have moved since the child was made.
        child._rebind(parent._addresses, parent._registry, parent._watcher)
        with trio.CancelScope() as scope:
            self._opening[child] = scope
            try:
                async with opened:
                    del self._opening[child]
                    self.check_open()
                    self._children[child] = scope
                    parent.trace._children.append(child.trace)
                    yield child
            finally:
                self._opening.pop(child, None)
                self._children.pop(child, None)
        if scope.cancelled_caught:
            raise RolloutClosed(f"rollout {child.id} has ended with its parent, {parent.id}")

    def check_open(self) -> None:
        """Whether there can be a child: RolloutClosed."""
        if self._rollout._ending is not None or self._rollout._closing.is_set():
            raise RolloutClosed(f"rollout {self._rollout.id} has ended: it can have no child any more")

    def __iter__(self) -> Iterator[Rollout]:
        return iter((*self._opening, *self._children))

    def finish(self, reached: LimitReached) -> None:
        """A limit of the parent is reached: no call comes any more in the children, either."""
        for child in self:
            child._finish(reached)

    def rebind(self, addresses: Addresses, registry: Registry, watcher: Watcher) -> None:
        """Where the parent goes, the children go."""
        for child in self:
            child._rebind(addresses, registry, watcher)

    @trio.lowlevel.enable_ki_protection
    async def close(self) -> None:
        """The parent closes: so do the children, whatever their bodies do."""
        children = tuple(self._children)
        for scope in (*self._opening.values(), *self._children.values()):
            scope.cancel()
        errors: list[BaseException] = []

        @trio.lowlevel.enable_ki_protection
        async def close(child: Rollout) -> None:
            errors.extend(await run_each(child._close))

        async with (
            trio.open_nursery() as nursery
        ):  # side by side: each may wait for an agent that does not read
            for child in children:
                nursery.start_soon(close, child)
        raise_all(errors)


class Asking:
    """The program's own code, which waits for an answer; a `Delivery`."""

    full = False
    due = inf

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def write(self, entry: Entry) -> bool:
        """It wants the whole."""
        return True

    def write_early(self, data: bytes) -> bool:
        return False

    def end(self, outcome: Outcome) -> bool:
        self.outcome = outcome
        return True

    def break_silence(self, response_id: str) -> bool:
        """It is in no hurry."""
        return True

    def fail(self, error: Exception) -> bool:
        """It can be told everything."""
        return True

    async def wait(self, news: Condition) -> None:
        await news.wait()

    async def flush(self) -> None:
        """Nothing is ever to be sent."""


def request_of(rollout: Rollout, given: object) -> Request:
    """What `ask` was given, as a request; errors as of `given_request`."""
    if isinstance(given, Request):
        return given_request("ask", given)
    if isinstance(given, str):
        given = (Message("user", (Text(given),)),)
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise TypeError(f"ask takes a text, a Request or Messages, not {described(given)}")
    messages = given_messages("ask: messages", given)
    return fit(Request(dialect="openai_chat", model=rollout.model, messages=messages))


@trio.lowlevel.enable_ki_protection
async def ask(rollout: Rollout, request: Request) -> Response:
    """See `Rollout.ask`."""
    asking = Asking()
    await rollout._answer_call(
        request, lambda subscription: subscription.follow(asking), raw=None, headers={}, kind="tool"
    )
    match asking.outcome:
        case Answered(response=response):
            return response
        case Refused(refusal=refusal):
            raise refusal
        case Failed(error=error):
            what = f"the program that answers failed ({type(error).__name__})"
            raise Refusal(500, what, should_retry=False)
        case _:  # its wait was broken off, because the rollout closes
            raise Refusal(503, f"rollout {rollout.id} is closed", should_retry=False)
