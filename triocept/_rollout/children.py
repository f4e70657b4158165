"""Open rollouts within another rollout, as its children, and end each child no later than its parent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import trio

from .._trace.turn import Branch
from .._util.contexts import protected_context
from .._util.failures import raise_all, run_each
from ..errors import LimitReached, RolloutClosed

if TYPE_CHECKING:
    from .._process.watcher import Watcher
    from .addresses import Addresses
    from .registry import Registry
    from .rollout import Rollout
    from .rollout_state import RolloutState


class Children:
    """The children of one rollout that are open or are being opened.

    Each child ends when its parent ends, or earlier.
    """

    def __init__(self, rollout: RolloutState) -> None:
        self._rollout = rollout
        self._opening: dict[RolloutState, trio.CancelScope] = {}
        self._children: dict[RolloutState, trio.CancelScope] = {}

    def branch(self) -> Branch:
        """Return the present point in the parent's trace. A child that is opened now begins at this point."""
        parent = self._rollout
        return Branch(
            rollout=parent.id,
            run=parent.trace.run,
            turns=len(parent.trace),
            service=parent.services.calls.current(),
        )

    @protected_context
    async def open_child(
        self, child: RolloutState, opened: AbstractAsyncContextManager[Rollout]
    ) -> AsyncIterator[Rollout]:
        """Enter the context manager `opened`, which opens the rollout `child`.

        Exit it when the body of the child's `async with` block ends, or when the parent ends.

        Raises:
            RolloutClosed: the parent ended before the child's block had ended.
        """
        self.check_open()
        parent = self._rollout
        # The parent may have moved to another endpoint since the child was created.
        child.rebind(parent.addresses, parent.registry, parent.watcher)
        with trio.CancelScope() as scope:
            self._opening[child] = scope
            try:
                async with opened:
                    del self._opening[child]
                    self.check_open()
                    self._children[child] = scope
                    parent.records.writer.add_child(child.trace)
                    yield child.public
            finally:
                self._opening.pop(child, None)
                self._children.pop(child, None)
        if scope.cancelled_caught:
            raise RolloutClosed(
                f"rollout {child.id} has ended, because its parent rollout {parent.id} has ended"
            )

    def check_open(self) -> None:
        if self._rollout.ending is not None or self._rollout.closing.is_set():
            raise RolloutClosed(
                f"rollout {self._rollout.id} has ended, so no child rollout can be opened in it"
            )

    def __iter__(self) -> Iterator[RolloutState]:
        return iter((*self._opening, *self._children))

    def finish(self, reached: LimitReached) -> None:
        for child in self:
            child.finish(reached)

    def rebind(self, addresses: Addresses, registry: Registry[RolloutState], watcher: Watcher) -> None:
        for child in self:
            child.rebind(addresses, registry, watcher)

    @trio.lowlevel.enable_ki_protection
    async def close(self) -> None:
        """Close all children, because their parent closes.

        The bodies of the children's `async with` blocks may still run after that.
        """
        children = tuple(self._children)
        for scope in (*self._opening.values(), *self._children.values()):
            scope.cancel()
        errors: list[BaseException] = []

        @trio.lowlevel.enable_ki_protection
        async def close(child: RolloutState) -> None:
            child.records.writer.end("cancelled")  # the body may take long to end
            errors.extend(await run_each(child.close))

        # End the children in parallel: each may wait for an agent that reads no data.
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(close, child)
        raise_all(errors)
