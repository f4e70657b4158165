"""A live rollout that is answered by a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import trio

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.handler import Handler
from ..._rollout.rollout import Rollout
from ..._trace.conversation import Conversation
from ..._trace.redaction import Redaction
from ..play import StillThere
from ..roots import Started, mask_of, roots_of, translation
from .answer import give_again
from .gate import Gate
from .matching import Matching
from .miss import difference, miss, unending
from .moves import Normal, key_of
from .order import Order
from .record import Record, Recorded, Thread, thread_of


class Plan(NamedTuple):
    """The options of a replay; see `Replay`."""

    record: Record
    order: Order
    nearest: bool
    pace: float
    """Factor by which recorded times are multiplied."""
    fork: Recorded | None
    behind_fork: frozenset[int]
    """The fork, and the turns that follow from it."""
    then: Handler | None
    results: bool
    roots: Sequence[dict[str, str]]
    paths: Mapping[str, str]
    redact: Redaction | None


class ReplayRun:
    """The state of a replay in one rollout."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._matching = Matching(plan.record)
        self._gate = Gate(plan.order, plan.record.turns)
        self._directories: _Directories | None = None
        self._forked: set[Thread] = set()
        """Live conversations that have left the record."""
        self._is_open = plan.then is not None and plan.fork is None
        """True if calls that the record lacks go to `then`."""

    async def answer(self, exchange: Exchange) -> None:
        """Give an exchange its recorded answer, or let `then` answer."""
        plan, here, conversation = self._plan, self._here(exchange.rollout), exchange.conversation
        request = core_of(exchange).recorded_request()  # redacted, as the record is
        key, live = key_of(request, here.normal), thread_of(conversation)
        found = None if live in self._forked else self._matching.exact(key, conversation)
        guessed = found is None and live not in self._forked and plan.nearest
        if guessed:
            found = self._matching.nearest(key, conversation)
        if found is not None and found.number not in plan.behind_fork:
            notes: dict[str, Json] = {}
            if differing := self._differing(request, found, here):
                notes["other_results"] = differing
            if guessed:
                notes["nearest"] = difference(found.key, key)
            await self._give(exchange, conversation, found, notes)
        elif found is not None or self._is_open or live in self._forked:
            self._forked.add(live)
            await self._go_on(exchange, found)
        else:
            await trio.lowlevel.checkpoint()
            raise miss(plan.record, key, conversation, exchange.rollout.id)

    async def _go_on(self, exchange: Exchange, found: Recorded | None) -> None:
        """Let `then` answer a call that follows from the fork, or is new."""
        fork, then = self._plan.fork, self._plan.then
        assert then is not None
        self._is_open = True
        self._gate.drop(self._plan.behind_fork)
        note: dict[str, Json] = {"rollout": self._plan.record.trace.rollout}
        if fork is not None:
            note["fork"] = fork.turn.id
            note["turn"] = fork.turn.id if found is fork else None
        exchange.annotate(replay=note)
        await then(exchange)

    async def _give(
        self, exchange: Exchange, conversation: Conversation, found: Recorded, notes: dict[str, Json]
    ) -> None:
        """Give the recorded answer when it is due; `notes` hold the differences."""
        self._gate.note(found.number, settled=False)
        note: dict[str, Json] = {"rollout": self._plan.record.trace.rollout, "turn": found.turn.id, **notes}
        try:
            if missed := await self._gate.wait(found):
                note["not_waited_for"] = missed
            exchange.annotate(replay=note)
            await give_again(exchange, found.turn, self._here(exchange.rollout).translate, self._plan.pace)
        except trio.Cancelled:
            self._matching.give_back(conversation, found)
            raise
        except StillThere:
            raise unending(self._plan.record, found, conversation, exchange.rollout.id) from None
        finally:
            self._gate.note(found.number, settled=True)

    def _differing(self, request: Request, found: Recorded, here: _Directories) -> list[str]:
        """Return the ids of new results of tools that differ from the record."""
        before = found.turn.request.tool_results
        normal = self._plan.record.normal
        return [
            now.id
            for now, then in zip(request.tool_results, before, strict=False)
            if here.normal.result(now) != normal.result(then)
        ]

    def _here(self, rollout: Rollout) -> _Directories:
        """Return the directories of the live agents, which may have become more."""
        agents = rollout.trace.agents
        if self._directories is None or self._directories.count != len(agents):
            self._directories = _Directories(self._plan, agents)
        return self._directories


class _Directories:
    """Directories of the live agents, as far as a replay needs them."""

    def __init__(self, plan: Plan, agents: Sequence[Started]) -> None:
        self.count = len(agents)
        roots = roots_of(agents)
        more = [{"more": path} for path in plan.paths.values()]
        mask = mask_of([*roots, *more])
        redacted = plan.redact.text if plan.redact is not None else str
        self.normal = Normal(lambda text: mask(redacted(text)), results=plan.results)
        self.translate = translation(plan.roots, roots, plan.paths)
