"""A replay: what was recorded answers again, and nothing is behind it.

Rules:

1. Anchored on content: a call gets the answer of the recorded turn that asked the same, whenever it comes. What is the
   same is defined in `moves`; when an answer has to wait for others, in `order`.
2. Nothing is consumed: the same call again gets the same answer, in each rollout that the replay is given to.
3. Nothing is made up: a call that the record does not have is an error, unless there is a handler for what is new.
4. Each turn says in its notes, as `replay`, which recorded turn it is.
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
"""What answers a call: the turn that asked the same, or the one that is nearest."""


@final
class Replay:
    """A handler that answers as a trace does: `Replay(read_traces("run.jsonl")[0])`.

    It may answer several rollouts, one after the other or at once.

    Args:
        trace: what was recorded; of a rollout with children, each is replayed by a replay of its own.
        match: `strict` takes the recorded turn whose agent had said and done the same (dates, ids and directories
            aside; what its tools gave may differ, which the turn's notes tell). `nearest` takes, where there is none,
            the one that begins most alike, in a conversation of the same kind.
        timing: `none` answers at once, `recorded` takes the time that it took, a number so many times that (0.5: twice
            as fast). The increments of a stream are those of the record where it has them (`record_increments`).
        until: the turn at which the run is to take another way, by its id, by its number in the main conversation, or
            as `(conversation, number)`. That turn and what follows from it goes to `then`: the rest of its
            conversation, and the sub-agents that are begun there. All else is still replayed.
        then: a handler: a real model, a script, another policy. Without `until` it gets what the record does not have.
        compare_results: whether what the agent's tools gave counts, too.
        paths: directories of the record, and what is there now in their places, beside those that are known: of agents
            that ran elsewhere, in a container for one.
        redact: what was taken out of the record, where the live rollout has no such `redact` of its own: taken out of
            its calls before they are compared.

    Raises:
        ReplayMiss: from the exchange whose call the record does not have; its text says where the two part. The agent
            gets a 500.
        LookupError: the trace has no such turn.
        TypeError, ValueError: an argument is not what it should be.
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
