"""Hold the recorded turns of one rollout, and derive conversations, relations and threads from them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, final, overload

from .._canonical.content import Json
from .._canonical.price import Price
from .._canonical.response import Usage
from .._util.checks import check_choice
from .conversation import CallKind, Conversation
from .conversations import Conversations
from .cost import cost_of, usage_of, usage_of_all
from .diff import TurnDiff, diff_of
from .entries import AgentStart, Ending, Entry, Gap, Intent, Opening, Score
from .relations import Relation, Relations, TurnBranch
from .search import Search, Wanted
from .turn import Branch, OutcomeKind, ServiceCall, Turn


class Turns(Sequence[Turn]):
    """Sequence of the turns of a trace, in order.

    A turn that was read from a file is created on first use. Each turn contains its whole conversation, so the time and
    the memory for all turns of a conversation grow with the square of the conversation's length.
    """

    def __init__(self) -> None:
        self._turns: list[Turn | Callable[[], Turn]] = []

    def append(self, turn: Turn | Callable[[], Turn]) -> None:
        self._turns.append(turn)

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, at: int) -> Turn: ...
    @overload
    def __getitem__(self, at: slice) -> list[Turn]: ...

    def __getitem__(self, at: int | slice) -> Turn | list[Turn]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        turn = self._turns[at]
        if not isinstance(turn, Turn):
            turn = self._turns[at] = turn()
        return turn


class Derived:
    """Data derived from a growing list of turns: conversations, relations between turns, threads and others.

    Derived data is never recorded. Derived data is computed on demand, turn by turn.

    The time for a turn depends only on its new messages: a message that the agent repeats is not compared again.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._conversations = Conversations()
        """Conversations of the turns added so far. The other turns are added when derived data is requested."""
        self._relations = Relations()
        self._search = Search()
        self._places: dict[str, int] = {}

    @property
    def parents(self) -> dict[str, str | None]:
        """Dict from the id of each turn to the id of the turn that it continues; None if it continues no turn."""
        return self._known().parents

    def conversations(self) -> dict[str, Conversation]:
        return self._known().all()

    def conversation_of(self, turn: Turn) -> Conversation:
        """Return the conversation of a turn. The turn may be a call that has no outcome yet."""
        known = self._known()
        return known.one(turn.id) if turn.id in known.parents else known.of_call(turn)

    def parent_of(self, turn: Turn) -> str | None:
        """Return the id of the turn that the call `turn` continues, or None. `turn` has no outcome yet."""
        return self._known().parent_of_call(turn)

    @property
    def places(self) -> dict[str, int]:
        """Dict from the id of each turn to its index in the trace."""
        for place in range(len(self._places), len(self._turns)):
            self._places[self._turns[place].id] = place
        return self._places

    def relations(self) -> dict[str, Relation]:
        return self._relations.all(self.conversations())

    def threads(self) -> tuple[tuple[Turn, ...], ...]:
        """Return the threads of the trace.

        A thread begins with a turn that continues no turn, and ends with a turn that no turn continues. Each
        other turn of a thread continues the previous turn.
        """
        above, by_id = self.parents, {turn.id: turn for turn in self._turns}
        continued = set(above.values())

        def thread(turn: Turn) -> tuple[Turn, ...]:
            found = [turn]
            while (parent := above[found[-1].id]) is not None:
                found.append(by_id[parent])
            return tuple(reversed(found))

        return tuple(thread(turn) for turn in self._turns if turn.id not in continued)

    def branches(self) -> tuple[TurnBranch, ...]:
        """Return the turns grouped into branches. Each turn is in exactly one branch."""
        above, conversations = self.parents, self.conversations()
        stretches: list[list[Turn]] = []
        ends: dict[str, list[Turn]] = {}
        """Turns of each branch. The key is the id of the branch's last turn so far."""
        for turn in self._turns:
            parent = above[turn.id]
            stretch = ends.pop(parent, None) if parent is not None else None
            if stretch is None:
                stretches.append(stretch := [])
            stretch.append(turn)
            ends[turn.id] = stretch
        return tuple(
            TurnBranch(turns=tuple(each), leaves=above[each[0].id], conversation=conversations[each[0].id])
            for each in stretches
        )

    def find(self, wanted: Wanted) -> tuple[Turn, ...]:
        """Return the turns that match all criteria."""
        conversations = self.conversations()
        turns = [turn for turn in self._turns if wanted.fits_apart_from_text(turn, conversations[turn.id])]
        if wanted.text is None:
            return tuple(turns)
        self._search.add(self._turns)
        return tuple([turn for turn in turns if self._search.has(turn, wanted.text)])

    def _known(self) -> Conversations:
        """Add the trace's further turns to `_conversations`, and return `_conversations`."""
        known = self._conversations
        for number in range(len(known), len(self._turns)):
            turn = self._turns[number]
            self._relations.add(turn, known.add(turn))
        return known


@final
class Trace:
    """The turns of one rollout, in the order in which its exchanges settled.

    A rollout creates its trace, and `read_traces` reads traces from a file. A trace supports iteration, `len` and
    indexing. Two traces are equal if their content is equal, even if only one is sealed. A pickled or copied trace
    keeps its content.
    """

    def __init__(
        self,
        rollout: str,
        *,
        run: str = "",
        branch: Branch | None = None,
        prices: Mapping[str, Price] | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.rollout = rollout
        """Id of the rollout."""
        self.run = run
        """Unique id of this run. This id distinguishes rollouts with equal ids, which different programs may use. Empty
        in files of older versions."""
        self.branch = branch
        """For a child rollout: the point in the parent's trace where the child began. For other rollouts: None."""
        self._turns = Turns()
        self._services: list[ServiceCall] = []
        self._children: list[Trace] = []
        self._derived = Derived(self._turns)
        self._sealed = False
        self._sealed_at: float | None = None
        self._stopped: str | None = None
        self._ended: Ending | None = None
        self._opening = opening
        self._agents: list[AgentStart] = []
        self._pending: dict[str, Intent] = {}
        self._scores: dict[str, float] = {}
        self._digest: str | None = None
        self._gaps: list[Gap] = []
        self._prices = prices

    @property
    def started_at(self) -> float | None:
        """Time when the rollout started, in seconds since the epoch; None if not recorded."""
        return self._opening.at if self._opening is not None else None

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of triocept and Python when the trace was recorded.

        The names are `triocept` and `python`. Empty if the versions were not recorded.
        """
        return MappingProxyType(self._opening.versions if self._opening is not None else {})

    @property
    def metadata(self) -> Mapping[str, Json]:
        """Value of `open_rollout(metadata=…)`."""
        return MappingProxyType(self._opening.metadata if self._opening is not None else {})

    @property
    def agents(self) -> tuple[AgentStart, ...]:
        """The agents that the rollout started (`run_agent`, `open_agent`), in order."""
        return tuple(self._agents)

    @property
    def pending(self) -> tuple[Intent, ...]:
        """The calls that were passed to a handler and have no turn.

        In a live trace, these calls are still running. In a trace that was read from a file, their outcomes were lost.
        """
        return tuple(self._pending.values())

    @property
    def scores(self) -> Mapping[str, float]:
        """Scores of the rollout (`rollout.score`), by name.

        If a name got several values, the mapping contains the last value.
        """
        return MappingProxyType(self._scores)

    @property
    def ended(self) -> Ending | None:
        """The way in which the rollout's body ended: `body` (it returned), `cancelled` (from outside) or `raised`.

        None if the rollout is still running, or its end was not recorded.
        """
        return self._ended

    @property
    def digest(self) -> str | None:
        """Digest of the rollout's sealed record in its file: 32 hex digits.

        To verify later that the file is unchanged, store this digest outside the file, and compare it with
        `check(path).digests`. None if the trace is not in a file, or not sealed.
        """
        return self._digest

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The missing or changed parts of a trace that was read from a file."""
        return tuple(self._gaps)

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(self._turns)

    @property
    def services(self) -> tuple[ServiceCall, ...]:
        """The calls to the rollout's host services (tools, user, stop, state), in the order in which they ended."""
        return tuple(self._services)

    @property
    def children(self) -> tuple[Trace, ...]:
        """The traces of the child rollouts, in the order in which they began."""
        return tuple(self._children)

    @property
    def sealed(self) -> bool:
        """True if the rollout has ended. After the end, only a score can be added to the trace.

        A trace that was read from a file is sealed if the file contains its seal, and proves that no line is missing.
        Such a trace has no `gaps`.
        """
        return self._sealed

    @property
    def stopped(self) -> str | None:
        """Reason why the rollout stopped: a limit, or the argument of `rollout.stop`; None if it was not stopped."""
        return self._stopped

    @property
    def cost(self) -> float | None:
        """Cost of the rollout and its child rollouts, at the prices of the rollout's `Limits`.

        None if the limits have no prices, or if the price of a model is missing.
        """
        return self.cost_of(self._prices) if self._prices else None

    def cost_of(self, prices: Mapping[str, Price]) -> float | None:
        """Return the cost of the rollout and its child rollouts, at the given prices.

        If the provider reported no token counts, an estimate is used. For a broken answer, the tokens of its received
        part are counted.

        Args:
            prices: prices by model name. An exact name takes precedence; otherwise the first pattern that matches the
                name is used (with `*` and `?` as wildcards). The model of a turn is the `model=` of its upstream, else
                the model that the agent requested, else the model in the answer.

        Returns:
            The cost in the currency of the prices; None if the price of a model is missing.
        """
        costs = [cost_of(self._turns, prices), *(child.cost_of(prices) for child in self._children)]
        return sum(cost for cost in costs if cost is not None) if None not in costs else None

    @property
    def usage(self) -> Usage:
        """The tokens that the rollout and its child rollouts used; `estimated` is True if any count is an estimate.

        If the provider reported no token counts, an estimate is used. For a broken answer, the tokens of its received
        part are counted. `cached_tokens` and similar counts are the sums of the reported counts, or None if no provider
        reported such a count.
        """
        return usage_of_all(self._usages())

    @property
    def parents(self) -> dict[str, str | None]:
        """Dict from the id of each turn to the id of the turn that it continues; None if it continues no turn."""
        return dict(self._derived.parents)

    @property
    def relations(self) -> dict[str, Relation]:
        """Dict from the id of each turn to its relation to earlier turns, such as `continues` or `compaction`."""
        return self._derived.relations()

    @property
    def conversations(self) -> dict[str, Conversation]:
        """Dict from the id of each turn to the turn's conversation.

        If the agent does not name the conversation of a call, triocept derives the conversation from the messages.
        """
        return self._derived.conversations()

    @property
    def threads(self) -> tuple[tuple[Turn, ...], ...]:
        """The turns, grouped into threads. A turn may belong to several threads.

        A thread begins with a turn that continues no turn, and ends with a turn that no turn continues. Each
        other turn of a thread continues the previous turn.
        """
        return self._derived.threads()

    @property
    def branches(self) -> tuple[TurnBranch, ...]:
        """The turns, grouped into the branches of a tree. A turn that several threads share is in only one branch."""
        return self._derived.branches()

    def find(
        self,
        text: str | re.Pattern[str] | None = None,
        *,
        tool: str | None = None,
        kind: CallKind | None = None,
        conversation: str | None = None,
        outcome: OutcomeKind | None = None,
        model: str | None = None,
    ) -> tuple[Turn, ...]:
        """Return the turns that match all criteria; without criteria, all turns.

        Args:
            text: searched in the answer, and in the messages that no earlier turn had: in their texts, their reasoning,
                the names and arguments of tool calls, and the results of tools. A `str` matches literally; a pattern
                may match anywhere in a text.
            tool: name of a tool that the answer calls.
            kind: kind of the call.
            conversation: id of the conversation.
            outcome: outcome of the turn.
            model: model that the agent requested, or that the answer names.

        Raises:
            ValueError: `kind` or `outcome` has an unknown value.
        """
        if kind is not None:
            check_choice("kind", kind, CallKind)
        if outcome is not None:
            check_choice("outcome", outcome, OutcomeKind)
        return self._derived.find(
            Wanted(text=text, tool=tool, kind=kind, conversation=conversation, outcome=outcome, model=model)
        )

    def diff(self, before: Turn | int | str, after: Turn | int | str) -> TurnDiff:
        """Return the differences between the calls of two turns, in their messages, tools and settings.

        Args:
            before: a turn, its number, or its id.
            after: a turn, its number, or its id.

        Raises:
            LookupError: the trace has no such turn.
        """
        return diff_of(self._turn(before), self._turn(after))

    def answer(self, response_id: str) -> Turn | None:
        """Return the turn whose answer has this response id; None if no turn has this response id."""
        for turn in reversed(self._turns):
            if turn.outcome == "answered" and turn.response is not None and turn.response.id == response_id:
                return turn
        return None

    def __iter__(self) -> Iterator[Turn]:
        return map(self._turns.__getitem__, range(len(self._turns)))

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, number: int) -> Turn:
        return self._turns[number]

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if isinstance(other, Trace) else NotImplemented

    __hash__: None = None  # type: ignore[assignment]  # it grows

    def __reduce__(self) -> tuple[Any, ...]:
        # The attributes in which two equal traces may differ.
        names = ("_sealed", "_stopped", "_ended", "_pending", "_digest", "_gaps", "_prices")
        return _restored, (*self._content(), {name: getattr(self, name) for name in names})

    def __repr__(self) -> str:
        outcomes: dict[str, int] = {}
        for turn in self._turns:
            outcomes[turn.outcome] = outcomes.get(turn.outcome, 0) + 1
        what = ", ".join(f"{count} {kind}" for kind, count in outcomes.items()) or "no turns"
        if self._services:
            what += f", {len(self._services)} service calls"
        return f"<Trace of rollout {self.rollout}: {what}{', sealed' if self._sealed else ''}>"

    def _content(self) -> tuple[Any, ...]:
        return (
            *(self.rollout, self.run, self.branch, self.turns, self._services, self._children),
            *(self._opening, self._agents, self._scores),
        )

    def _turn(self, which: Turn | int | str) -> Turn:
        if isinstance(which, Turn):
            return which
        found = next((turn for turn in self._turns if which in (turn.id, turn.number)), None)
        if found is None:
            raise LookupError(f"the trace of rollout {self.rollout} has no turn {which!r}")
        return found

    def _usages(self) -> Iterator[Usage]:
        for turn in self._turns:
            if (usage := usage_of(turn)) is not None:
                yield usage
        for child in self._children:
            yield from child._usages()


class TraceWriter:
    """The writer of a trace: only its writer changes a trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def conversation_of(self, turn: Turn) -> Conversation:
        return self.trace._derived.conversation_of(turn)

    def parent_of(self, turn: Turn) -> str | None:
        return self.trace._derived.parent_of(turn)

    def turn(self, turn_id: str) -> Turn | None:
        place = self.trace._derived.places.get(turn_id)
        return None if place is None else self.trace._turns[place]

    @property
    def prices(self) -> Mapping[str, Price] | None:
        return self.trace._prices

    def add_child(self, trace: Trace) -> None:
        self.trace._children.append(trace)

    def open(self, opening: Opening) -> None:
        self.trace._opening = opening
        self.trace.branch = opening.branch

    def add(self, recorded: Turn | ServiceCall | Entry) -> None:
        """Add a turn, a service call, or another entry.

        Raises:
            RuntimeError: the trace is sealed, and `recorded` is a turn or a service call.
        """
        trace = self.trace
        if trace._sealed and isinstance(recorded, Turn | ServiceCall):
            raise RuntimeError(
                f"the trace of rollout {trace.rollout} is sealed, so no turn or service call can be added"
            )
        match recorded:
            case Turn():
                trace._turns.append(recorded)
                trace._pending.pop(recorded.id, None)
            case Intent():
                trace._pending[recorded.id] = recorded
            case ServiceCall():
                trace._services.append(recorded)
            case Opening():
                self.open(recorded)
            case AgentStart():
                trace._agents.append(recorded)
            case Score():
                trace._scores[recorded.name] = recorded.value

    def add_later(self, call: str, make: Callable[[], Turn]) -> None:
        """Add the turn of the call with the id `call`. When the turn is first read, `make` creates it."""
        self.trace._turns.append(make)
        self.trace._pending.pop(call, None)

    def stop(self, reason: str | None) -> None:
        self.trace._stopped = reason

    def end(self, ending: Ending | None) -> None:
        if not self.trace._sealed:
            self.trace._ended = ending

    def seal(self, at: float | None = None) -> None:
        """Seal the trace. From then on, only scores can be added.

        `at` is the time of the seal in seconds since the epoch; None means now.
        """
        if not self.trace._sealed:
            self.trace._sealed, self.trace._sealed_at = True, time.time() if at is None else at

    @property
    def was_sealed_at(self) -> float | None:
        """Time when the trace was sealed, in seconds since the epoch; None if the trace is not sealed."""
        return self.trace._sealed_at

    @property
    def sealed_at(self) -> float:
        """Time of the seal, in seconds since the epoch. If the trace is not sealed, the current time.

        All recorders use the time of the seal, so that they compute the same digest.
        """
        found = self.trace._sealed_at
        return time.time() if found is None else found

    def set_digest(self, digest: str) -> None:
        self.trace._digest = digest

    def miss(self, gap: Gap) -> None:
        self.trace._gaps.append(gap)


def snapshot(trace: Trace) -> Trace:
    """Return a copy of the trace and its children, for use in another thread. Later changes do not affect the copy."""
    copied: Trace = copy(trace)
    copied._children = [snapshot(child) for child in trace._children]
    return copied


def _restored(
    rollout: str,
    run: str,
    branch: Branch | None,
    turns: Iterable[Turn],
    services: Iterable[ServiceCall],
    children: Iterable[Trace],
    opening: Opening | None,
    agents: Iterable[AgentStart],
    scores: Mapping[str, float],
    state: Mapping[str, Any],
) -> Trace:
    """Return a trace with this content. `pickle` and `copy` call this function."""
    trace = Trace(rollout, run=run, branch=branch, opening=opening)
    for turn in turns:
        trace._turns.append(turn)
    trace._services += services
    trace._children += children
    trace._agents += agents
    trace._scores.update(scores)
    for name, value in state.items():
        setattr(trace, name, value)
    return trace
