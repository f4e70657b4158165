"""A replay: a recorded trace answers again, without a model.

Rules:

1. Matching is by content: a call gets the answer of the recorded turn with an equal request, at any time. `moves`
   defines equality; `order` defines when an answer must wait for others.
2. Nothing is consumed: an equal call gets an equal answer, in each rollout of the replay.
3. Nothing is made up: a call that the record lacks is an error, unless there is a handler for new calls.
4. The notes of each turn name the recorded turn, as `replay`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, final
from weakref import WeakKeyDictionary

from ..._rollout.exchange import Exchange
from ..._rollout.handler import Handler, awaiting, check_handler
from ..._rollout.rollout import Rollout
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
from ..play import Timing, pace_of
from ..roots import roots_of
from .descent import TurnName, find_turn, following
from .order import Order
from .record import Record
from .run import Plan, ReplayRun

__all__ = ["Match", "Replay", "Timing", "TurnName"]

Match: TypeAlias = Literal["strict", "nearest"]
"""The turn that answers a call: the turn with an equal request, or the nearest turn."""


@final
class Replay:
    """A handler that answers as a trace does: `Replay(read_traces("run.jsonl")[0])`.

    It may answer several rollouts, one after the other or concurrently.

    Args:
        trace: the recorded trace; each child of a rollout needs a replay of its own.
        match: `strict`: use the recorded turn whose agent had sent and called the same. Dates, ids and directories are
            ignored; results of tools may differ, which the turn's notes record. `nearest`: if there is no such turn,
            use the turn with the longest common beginning, in a conversation of the same kind.
        timing: `none`: answer at once; `recorded`: take the recorded time; a number: multiply the recorded time by it
            (0.5: twice as fast). The increments of a stream are the recorded ones if present (`record_increments`).
        until: the turn at which the run forks: its id, its number in the main conversation, or `(conversation,
            number)`. The turn and all that follows from it go to `then`: the rest of its conversation, and the
            sub-agents begun there. All other turns are still replayed.
        then: a handler: a real model, a script, another policy. Without `until` it gets the calls that the record
            lacks.
        compare_results: True: results of the agent's tools count, too.
        paths: recorded directories and their live replacements, in addition to the known directories: for agents that
            ran elsewhere, for example in a container.
        redact: the redaction of the record, if the live rollout has no such `redact`: it is applied to live calls
            before they are compared.

    Raises:
        ReplayMiss: from an exchange whose call the record lacks; the text shows the first difference. The agent gets a
            500.
        LookupError: the trace has no such turn.
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
        check_type("trace", trace, Trace, "a Trace", "read_traces(path)[0] is the first of a file")
        check_choice("match", match, Match)
        check_bool("compare_results", compare_results)
        _check_until(until)
        _check_paths(paths)
        if redact is not None:
            check_type("redact", redact, Redaction, "a Redaction")
        if then is not None:
            check_handler(then)
        elif until is not None:
            raise TypeError("until says where another handler takes over: say which, too: then=handler")
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
            behind_fork=following(record, order, fork) if fork is not None else frozenset(),
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


def _check_until(until: object) -> None:
    match until:
        case None | str():
            pass
        case int() if not isinstance(until, bool):
            pass
        case (str(), int(number)) if isinstance(until, tuple) and not isinstance(number, bool):
            pass
        case _:
            raise TypeError(
                "until is a turn: its id, its number in the main conversation, or (conversation, number), not "
                f"{described(until)}"
            )


def _check_paths(paths: Mapping[str, str] | None) -> None:
    if paths is None:
        return
    check_mapping("paths", paths)
    for recorded, live in paths.items():
        for path in (recorded, live):
            check_str("a directory of paths", path)
            if not path.strip("/"):
                raise ValueError(f"a directory of paths has a name, which {path!r} has not")
