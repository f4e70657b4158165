"""The recorded turns of one rollout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import msgspec

from .._canonical.price import Price
from .._canonical.request import Request
from .branch import Branch
from .conversation import Conversation
from .conversations import Conversations
from .cost import cost_of
from .service import ServiceCall
from .table import MessageTable
from .turn import Turn

__all__ = ["Trace", "TraceWriter"]


@final
class Trace:
    """The turns of one rollout, in the order in which its exchanges settled.

    Made by a rollout, or by `read_traces`. Iterate over it, take its `len`, index it. Two are equal if they hold the
    same; whether they are sealed does not matter. One that is pickled or copied keeps what it holds.
    """

    def __init__(
        self,
        rollout: str,
        *,
        run: str = "",
        branch: Branch | None = None,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self.rollout = rollout
        """The id of the rollout."""
        self.run = run
        """Which rollout of this id: no other one has it, in any program. Empty in files of older versions."""
        self.branch = branch
        """Of a child rollout: where it leaves its parent; None for a rollout of its own."""
        self._turns: list[Turn] = []
        self._services: list[ServiceCall] = []
        self._children: list[Trace] = []
        self._table = MessageTable()
        self._conversations = Conversations()
        """Of the first turns; the rest is added when somebody asks."""
        self._sealed = False
        self._stopped: str | None = None
        self._prices = prices

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(self._turns)

    @property
    def services(self) -> tuple[ServiceCall, ...]:
        """The calls of its host services (tools, user, stop, state), in the order in which they ended."""
        return tuple(self._services)

    @property
    def children(self) -> tuple[Trace, ...]:
        """The traces of its child rollouts, in the order in which they began."""
        return tuple(self._children)

    @property
    def sealed(self) -> bool:
        """Whether the rollout has ended: nothing writes to its trace any more.

        A trace that was read from a file is sealed if the file holds its seal, and the count in it is right: the
        proof that no turn is missing.
        """
        return self._sealed

    @property
    def stopped(self) -> str | None:
        """Why the run was stopped: by a limit, or `rollout.stop(reason)`; None: it was not."""
        return self._stopped

    @property
    def cost(self) -> float | None:
        """What the run has cost, its children included, at the prices of its `Limits`; None: it has none, or that of a
        model is missing."""
        return self.cost_of(self._prices) if self._prices else None

    def cost_of(self, prices: Mapping[str, Price]) -> float | None:
        """What the run has cost, its children included.

        Where nobody counted tokens the estimate counts, and of an answer that broke off what had come.

        Args:
            prices: by model: an exact name wins, then the first pattern that fits (`*` and `?` stand for anything).
                A turn has the model that its upstream was told to ask for (`model=`), else the one that the agent
                asked for, else the one that the answer names.

        Returns:
            In the currency of the prices; None where the price of a model is missing.
        """
        costs = [cost_of(self._turns, prices), *(child.cost_of(prices) for child in self._children)]
        return sum(cost for cost in costs if cost is not None) if None not in costs else None

    @property
    def parents(self) -> dict[str, str | None]:
        """For each turn's id, that of the turn it continues; None begins a thread (see `graph`)."""
        return dict(self._told().parents)

    @property
    def conversations(self) -> dict[str, Conversation]:
        """For each turn's id, whose call it is: as the agent says, else by the messages (see `conversations`)."""
        return self._told().all()

    @property
    def threads(self) -> tuple[tuple[Turn, ...], ...]:
        """The turns as threads of conversation: each from its root to a turn that nothing continues."""
        above = self.parents
        by_id = {turn.id: turn for turn in self._turns}
        continued = set(above.values())
        return tuple(
            tuple(reversed(list(_upwards(turn, above, by_id))))
            for turn in self._turns
            if turn.id not in continued
        )

    def answer(self, response_id: str) -> Turn | None:
        """The turn that was answered with the response of this id, or None."""
        for turn in reversed(self._turns):
            if turn.outcome == "answered" and turn.response is not None and turn.response.id == response_id:
                return turn
        return None

    def __iter__(self) -> Iterator[Turn]:
        return iter(tuple(self._turns))

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, number: int) -> Turn:
        return self._turns[number]

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if isinstance(other, Trace) else NotImplemented

    __hash__: None = None  # type: ignore[assignment]  # it grows

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (*self._content(), self._sealed, self._stopped, self._prices)

    def __repr__(self) -> str:
        outcomes: dict[str, int] = {}
        for turn in self._turns:
            outcomes[turn.outcome] = outcomes.get(turn.outcome, 0) + 1
        what = ", ".join(f"{count} {kind}" for kind, count in outcomes.items()) or "no turns"
        if self._services:
            what += f", {len(self._services)} service calls"
        return f"<Trace of rollout {self.rollout}: {what}{', sealed' if self._sealed else ''}>"

    def _content(self) -> tuple[str, str, Branch | None, list[Turn], list[ServiceCall], list[Trace]]:
        return self.rollout, self.run, self.branch, self._turns, self._services, self._children

    def _told(self) -> Conversations:
        """Whose calls all the turns are."""
        known = self._conversations
        for number in range(len(known), len(self._turns)):
            known.add(self._turns[number])
        return known


class TraceWriter:
    """Writes a trace: whoever has it, and nobody else."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def intern(self, request: Request) -> Request:
        """The request, its messages shared with those of earlier turns."""
        messages = self.trace._table.intern(request.messages)
        return (
            request if messages is request.messages else msgspec.structs.replace(request, messages=messages)
        )

    def conversation_of(self, turn: Turn) -> Conversation:
        """Whose call this is, that may not have settled yet."""
        told = self.trace._told()
        return told.all()[turn.id] if turn.id in told.parents else told.tell(turn)

    def append(self, turn: Turn) -> None:
        """RuntimeError: it is sealed."""
        if self.trace._sealed:
            self._check_open()
        self.trace._turns.append(turn)

    def append_service(self, call: ServiceCall) -> None:
        """RuntimeError: it is sealed."""
        self._check_open()
        self.trace._services.append(call)

    def add_child(self, trace: Trace) -> None:
        """A rollout within this one has begun."""
        self.trace._children.append(trace)

    def stop(self, reason: str | None) -> None:
        """Say why the rollout was stopped."""
        self.trace._stopped = reason

    def seal(self) -> None:
        """Nothing is written any more."""
        self.trace._sealed = True

    def _check_open(self) -> None:
        if self.trace._sealed:
            raise RuntimeError(f"the trace of rollout {self.trace.rollout} is sealed")


def _restored(
    rollout: str,
    run: str,
    branch: Branch | None,
    turns: Iterable[Turn],
    services: Iterable[ServiceCall],
    children: Iterable[Trace],
    sealed: bool,
    stopped: str | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Trace:
    """A trace out of what it held."""
    trace = Trace(rollout, run=run, branch=branch, prices=prices)
    writer = TraceWriter(trace)
    writer.stop(stopped)
    for turn in turns:
        writer.append(turn)
    for call in services:
        writer.append_service(call)
    for child in children:
        writer.add_child(child)
    if sealed:
        writer.seal()
    return trace


def _upwards(turn: Turn, above: dict[str, str | None], by_id: dict[str, Turn]) -> Iterator[Turn]:
    at: Turn | None = turn
    while at is not None:
        yield at
        parent = above[at.id]
        at = by_id[parent] if parent is not None else None
