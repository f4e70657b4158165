"""Answer the calls of live agents with the answers in a recorded trace, without a model.

Rules:

1. Calls are matched by content, not by order: a call gets the answer of the recorded turn with an equal request. The
   module `record` defines which requests are equal. The module `order` defines the events for which an answer waits.
2. A recorded answer can be used any number of times: an equal call gets an equal answer, in each rollout of the replay.
3. No answer is invented: if the record does not contain a call, the handler `then` answers the call. Without `then`,
   the call is an error.
4. Each turn of the live rollout has a note `replay`, which names the recorded turn.
5. An answer waits until all events that came before it in the record have happened again. After them it waits for
   `MOMENT` seconds, so that the agent can process these events. If an event is missing, the answer waits until no other
   event has happened for twice the recorded time plus `PATIENCE` seconds. Then it is sent anyway: the run differs from
   the recorded run, and the turn's note lists the missing events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, final
from weakref import WeakKeyDictionary

import trio

from ..._canonical.content import Json
from ..._rollout.answer import Condition
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.handler import Handler, awaiting, check_handler
from ..._rollout.rollout import Rollout
from ..._trace.conversation import Conversation
from ..._trace.redaction import Redaction
from ..._trace.trace import Trace
from ..._util.checks import (
    check_bool,
    check_choice,
    check_mapping,
    check_str,
    check_type,
    described,
)
from ..miss import Closest, difference, no_answer, not_recorded
from ..play import StillThere, Timing, pace_of
from ..volatile import Started, mask_of, roots_of, translation
from .order import Happening, Order
from .record import (
    Matching,
    Normal,
    Record,
    Recorded,
    Thread,
    TurnName,
    closest,
    find_turn,
    following,
    give_again,
    key_of,
    shown_form,
    thread_of,
)

MOMENT = 0.1
"""Seconds that an agent gets to process an answer in one of its conversations, before a replay sends an answer in
another conversation. This matters if the next call of the other conversation reports the first answer. 0.1 s was
sufficient in 12 of 12 runs of Claude Code 2.1.332 with two sub-agents.
"""
PATIENCE = 10.0
"""Maximum seconds without any event, in addition to twice the recorded time, for which an answer waits. When exceeded:
the answer is sent, although events are missing."""


class Gate:
    """The recorded events that one live rollout has already repeated.

    A recorded answer waits until the events before it have been repeated.
    """

    def __init__(self, order: Order, turns: tuple[Recorded, ...]) -> None:
        self._order = order
        self._turns = turns
        self._times: dict[Happening, float] = {}
        self._gone: set[int] = set()
        """Numbers of the recorded turns that do not happen in this rollout."""
        self._news = Condition()
        self._latest = 0.0

    def note(self, number: int, *, settled: bool) -> None:
        """Note that the live call of the recorded turn `number` has arrived.

        If `settled` is True, note that the call has its answer.
        """
        self._latest = self._times[Happening(number, settled)] = trio.current_time()
        self._news.notify_all()

    def drop(self, numbers: Iterable[int]) -> None:
        """Note that the recorded turns `numbers`, which come after the fork, will not happen in this rollout."""
        self._gone |= set(numbers)
        self._news.notify_all()

    async def wait(self, turn: Recorded) -> list[str]:
        """Wait for the recorded events that came before the answer of `turn`.

        Returns:
            The ids of the turns with events that did not happen in time.

        Cancellation: immediate.
        """
        before = self._order.waits.get(turn.number, [])
        while missing := [
            each for each in before if each not in self._times and each.number not in self._gone
        ]:
            took = max(self._turns[each.number].settled - turn.arrived for each in missing)
            until = self._latest + PATIENCE + 2 * max(0.0, took)
            if until <= trio.current_time():
                break
            with trio.move_on_at(until):
                await self._news.wait()
        ready = max((self._times.get(each, 0.0) for each in before if each.settled), default=0.0) + MOMENT
        await trio.sleep_until(ready)
        return [self._turns[each.number].turn.id for each in missing]


class Plan(NamedTuple):
    """The checked options of a replay; see `Replay`."""

    record: Record
    order: Order
    nearest: bool
    pace: float
    """Factor by which recorded times are multiplied. If it is 0, answers are sent at once."""
    fork: Recorded | None
    behind_fork: frozenset[int]
    """Numbers of the turn at which the run forks, and of all turns that depend on the answer of this turn."""
    then: Handler | None
    results: bool
    roots: Sequence[dict[str, str]]
    paths: Mapping[str, str]
    redact: Redaction | None


class ReplayRun:
    """The state of one replay in one live rollout."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._matching = Matching(plan.record)
        self._gate = Gate(plan.order, plan.record.turns)
        self._directories: _Directories | None = None
        self._forked: set[Thread] = set()
        """Live conversations that have passed the fork: all further calls of these conversations go to `then`."""
        self._is_open = plan.then is not None and plan.fork is None
        """True if the handler `then` gets the calls that the record does not contain."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer `exchange` with its recorded answer.

        The handler `then` answers if no recorded answer exists, or if the exchange comes after the fork.

        Raises:
            ReplayMiss: the record does not contain the call, and there is no handler `then`.
        """
        plan, here, conversation = self._plan, self._here(exchange.rollout), exchange.conversation
        request = core_of(exchange).recorded_request()  # redacted, as the record is
        key, live = key_of(request, here.normal), thread_of(conversation)
        found = None if live in self._forked else self._matching.exact(key, conversation)
        guessed = found is None and live not in self._forked and plan.nearest
        if guessed:
            found = self._matching.nearest(key, conversation)
        if found is not None and found.number not in plan.behind_fork:
            notes: dict[str, Json] = {}
            normal, results = plan.record.normal, found.turn.request.tool_results
            if differing := [
                now.id
                for now, then in zip(request.tool_results, results, strict=False)
                if here.normal.result(now) != normal.result(then)
            ]:
                notes["other_results"] = differing
            if guessed:
                notes["nearest"] = difference(shown_form(found.key), shown_form(key))
            await self._give(exchange, conversation, found, notes)
        elif found is not None or self._is_open or live in self._forked:
            fork = plan.fork
            assert plan.then is not None
            self._forked.add(live)
            self._is_open = True
            self._gate.drop(plan.behind_fork)
            note: dict[str, Json] = {"rollout": plan.record.trace.rollout}
            if fork is not None:
                note |= {"fork": fork.turn.id, "turn": fork.turn.id if found is fork else None}
            exchange.annotate(replay=note)
            await plan.then(exchange)
        else:
            await trio.lowlevel.checkpoint()
            turns, rollout = plan.record.turns, plan.record.trace.rollout
            near = closest(key.moves, [each for each in turns if each.kind == conversation.kind] or turns)
            raise not_recorded(
                _call(exchange, conversation),
                f"the record of rollout {rollout}",
                _ADVICE,
                form=shown_form(key),
                count=len(turns),
                closest=near and Closest(near.turn.id, f"turn {_place(near)}", shown_form(near.key)),
            )

    async def _give(
        self, exchange: Exchange, conversation: Conversation, found: Recorded, notes: dict[str, Json]
    ) -> None:
        """Wait for the recorded events that came before the answer in `found`. Then send this answer to `exchange`.

        `notes` contains the differences between the live call and the recorded call.
        """
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
            place = f"turn {_place(found)} of rollout {self._plan.record.trace.rollout}"
            raise no_answer(_call(exchange, conversation), place, _ADVICE, found.turn.id) from None
        finally:
            self._gate.note(found.number, settled=True)

    def _here(self, rollout: Rollout) -> _Directories:
        agents = rollout.trace.agents
        if self._directories is None or self._directories.count != len(agents):
            self._directories = _Directories(self._plan, agents)
        return self._directories


_ADVICE = (
    "If the agent, its prompt or its configuration has changed, record the run again. "
    "Otherwise, match='nearest' uses the recorded turn whose request has the longest common beginning, and "
    "then=handler (on the command line --script or --upstream) lets another handler answer new calls."
)
_KINDS = {
    "main": "main conversation",
    "sub_agent": "a sub-agent",
    "side": "a side call",
    "tool": "a tool's call",
}


def _call(exchange: Exchange, conversation: Conversation) -> str:
    return f"a call of rollout {exchange.rollout.id} ({_KINDS[conversation.kind]})"


def _place(turn: Recorded) -> str:
    return f"{turn.number} ({turn.turn.id}, {_KINDS[turn.kind]})"


class _Directories:
    """Two functions that replace directories in texts.

    `normal` masks the directories of the live agents. `translate` replaces recorded directories by directories of the
    live agents.
    """

    def __init__(self, plan: Plan, agents: Sequence[Started]) -> None:
        self.count = len(agents)
        roots = roots_of(agents)
        more = [{"more": path} for path in plan.paths.values()]
        mask = mask_of([*roots, *more])
        redacted = plan.redact.text if plan.redact is not None else str
        self.normal = Normal(lambda text: mask(redacted(text)), results=plan.results)
        self.translate = translation(plan.roots, roots, plan.paths)


__all__ = ["Match", "Replay", "Timing", "TurnName"]

Match: TypeAlias = Literal["strict", "nearest"]
"""Rule for choosing the recorded turn that answers a call. `strict`: only a turn with an equal request. `nearest`: if
no request is equal, the turn whose request has the longest beginning in common with the call."""


@final
class Replay:
    """A handler that answers calls with the answers in a trace: `Replay(read_traces("run.jsonl")[0])`.

    One replay may answer several rollouts, one after the other or concurrently.

    Args:
        trace: the recorded trace. A child rollout needs a replay of its own.
        match: `strict`: use the recorded turn with an equal request. Dates, ids and directories are ignored. Results of
            tools may differ; if they do, the turn's notes name the differences. `nearest`: if there is no such turn,
            use the turn whose request has the longest beginning in common with the call, in a conversation of the same
            kind.
        timing: `none`: answer immediately. `recorded`: answer after the recorded time. A number: answer after the
            recorded time multiplied by this number (0.5 is twice as fast). If increments were recorded
            (`record_increments`), a stream has the same increments.
        until: the turn at which the run forks: its id, its number in the main conversation, or `(conversation,
            number)`. The handler `then` gets this turn's call and all calls that depend on its answer: the later calls
            of the conversation, and the calls of sub-agents that this turn or these calls start. All other calls are
            still replayed.
        then: a handler, for example a real model, a script or another policy. If `until` is None, `then` gets the calls
            that the record does not contain.
        compare_results: if True, the results of the agent's tools must be equal, too.
        paths: further recorded directories, each with the directory that replaces it in the live run. They are needed
            if the recorded agent ran under other paths, for example in a container.
        redact: the `Redaction` with which the trace was recorded, if the live rollout does not use it. The replay
            applies it to live calls before they are compared.

    Raises:
        ReplayMiss: raised in an exchange whose call the record does not contain. The text shows the differences to the
            closest recorded call. The agent gets a response with status 500.
        LookupError: the trace does not contain the turn `until`.
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        match: Match = "strict",
        timing: Timing = "none",
        until: TurnName | None = None,
        then: Handler | None = None,
        compare_results: bool = False,
        paths: Mapping[str, str] | None = None,
        redact: Redaction | None = None,
    ) -> None:
        check_type("trace", trace, Trace, "a Trace", "read_traces(path)[0] returns the first trace of a file")
        check_choice("match", match, Match)
        check_bool("compare_results", compare_results)
        is_pair = isinstance(until, tuple) and [type(each) for each in until] == [str, int]
        if until is not None and type(until) not in (str, int) and not is_pair:
            raise TypeError(
                "until must be a turn: its id, its number in the main conversation, or (conversation, number), not "
                f"{described(until)}"
            )
        if paths is not None:
            check_mapping("paths", paths)
        for path in (path for pair in (paths or {}).items() for path in pair):
            check_str("a directory of paths", path)
            if not path.strip("/"):
                raise ValueError(
                    f"a directory in paths must not be empty or the root directory, but one is {path!r}"
                )
        if redact is not None:
            check_type("redact", redact, Redaction, "a Redaction")
        if then is not None:
            check_handler(then)
        elif until is not None:
            raise TypeError("until= needs then=: the handler that answers from that turn on")
        roots = roots_of(trace.agents)
        record = Record(trace, [*roots, *({"more": path} for path in paths or ())], results=compare_results)
        order = Order(record)
        fork = find_turn(record, until) if until is not None else None
        self._plan = Plan(
            record=record,
            order=order,
            nearest=match == "nearest",
            pace=pace_of(timing),
            fork=fork,
            behind_fork=following(record, order.launches, fork) if fork is not None else frozenset(),
            then=awaiting(then) if then is not None else None,
            results=compare_results,
            roots=roots,
            paths=dict(paths or {}),
            redact=redact,
        )
        self._runs: WeakKeyDictionary[Rollout, ReplayRun] = WeakKeyDictionary()

    def __repr__(self) -> str:
        trace = self._plan.record.trace
        return f"<Replay of rollout {trace.rollout}: {len(trace)} turns>"

    async def __call__(self, exchange: Exchange) -> None:
        run = self._runs.get(exchange.rollout)
        if run is None:
            run = self._runs[exchange.rollout] = ReplayRun(self._plan)
        await run.answer(exchange)
