"""`triocept compare A B --task ID`: shows two runs of one task side by side. Turns with equal answers are aligned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from rich.text import Text

from .._canonical.content import Json
from .._trace.trace import Trace
from .._trace.turn import Turn
from .._util.terminal import visible
from .._view.compare import compared
from ..fleets import Outcome, Result, read_results
from .files import NotThere
from .page import Page, Piece
from .show import headline
from .words import STYLES, counted, reason, said

StoredResult: TypeAlias = Result[Json, Json]

_LEAST = 60
"""Minimum width of a terminal, in characters, to print two runs side by side."""
_MOST = 20
"""Maximum tasks to list in an error."""
_MARKS = {"same": ("=", ""), "changed": ("~", "yellow"), "only_a": ("-", "red"), "only_b": ("+", "green")}


def result_of(store: Path, task: str, sample: int) -> StoredResult:
    """Return the result of a task's sample in a store. Raise NotThere if the sample or its rollout is missing."""
    results = [*read_results(store)]
    found = [each for each in results if str(each.key) == task]
    for result in found:
        if result.sample == sample:
            if not len(result.traces):
                raise NotThere(f"{store}: sample {sample} of the task {task!r} has no rollout to show")
            return result
    if found:
        there = ", ".join(str(each.sample) for each in sorted(found, key=lambda each: each.sample))
        raise NotThere(
            f"{store}: the task {task!r} has no sample {sample}; this store contains the samples {there}"
        )
    keys = sorted({str(each.key) for each in results})
    more = f", … ({len(keys) - _MOST} more)" if len(keys) > _MOST else ""
    raise NotThere(
        f"{store} contains no result of a task {task!r}; its tasks are: {', '.join(keys[:_MOST]) or 'none'}{more}"
    )


def show_runs(page: Page, stores: Sequence[Path], results: Sequence[StoredResult], *, as_json: bool) -> None:
    """Print two runs side by side. On a narrow terminal, or in a pipe, print paired turns one below the other."""
    traces = [
        next((each for each in result.traces if each.branch is None), result.traces[0]) for result in results
    ]
    turns = [{turn.id: turn for turn in trace} for trace in traces]
    pairs: list[tuple[str, Turn | None, Turn | None]] = [
        (str(pair["kind"]), turns[0].get(str(pair["a"])), turns[1].get(str(pair["b"])))
        for pair in compared([*traces[0]], [*traces[1]])
    ]
    if as_json:
        page.text(
            msgspec.json.format(msgspec.json.encode(_document(stores, results, traces, pairs))).decode()
        )
        return
    for name, store, result, trace in zip("AB", stores, results, traces, strict=True):
        page.line((f"{name} ", "bold"), f"{store}, sample {result.sample}: ", *headline(trace))
        scores = trace.scores or result.scores
        facts = [f"{key} {value:g}" for key, value in scores.items()]
        facts += [_failure(result)] if isinstance(result.outcome, Outcome.Error) else []
        facts += [f"stopped: {trace.stopped}"] if trace.stopped is not None else []
        if facts:
            page.line("  ", ", ".join(facts))
    same = sum(kind == "same" for kind, _, _ in pairs)
    page.line(f"{counted(same, 'turn has', 'turns have')} the same answer, {len(pairs) - same:,} differ")
    for kind, *both in pairs:
        mark, style = _MARKS[kind]
        if page.width is not None and page.width >= _LEAST:
            column = (page.width - 5) // 2
            page.line(
                (f"{mark} ", style),
                (_fitted(both[0], column), style),
                " │ ",
                (_fitted(both[1], column), style),
            )
        elif kind == "changed":
            for side, turn in zip("-+", both, strict=True):
                page.line(
                    (f"{side} ", _MARKS["only_a" if side == "-" else "only_b"][1]), *_words(turn, whole=True)
                )
        else:
            page.line((f"{mark} ", style), *_words(both[0] or both[1], whole=True))


def _words(turn: Turn | None, *, whole: bool) -> list[Piece]:
    if turn is None:
        return []
    pieces: list[Piece] = [f"{turn.number:>3} "]
    if turn.outcome != "answered":
        pieces.append((f"{turn.outcome} ", STYLES[turn.outcome]))
    pieces.append(said(turn, whole=whole))
    return [*pieces, f" {reason(turn.error)}"] if turn.error is not None else pieces


def _fitted(turn: Turn | None, width: int) -> str:
    pieces = _words(turn, whole=False)
    text = Text(visible("".join(each if isinstance(each, str) else each[0] for each in pieces)))
    text.truncate(width, overflow="ellipsis", pad=True)
    return text.plain


def _failure(result: StoredResult) -> str:
    return f"failed: {' '.join(str(getattr(result.outcome, 'error', '')).split())}"


def _document(
    stores: Sequence[Path],
    results: Sequence[StoredResult],
    traces: Sequence[Trace],
    pairs: Sequence[tuple[str, Turn | None, Turn | None]],
) -> dict[str, Any]:
    runs = [
        {
            "store": str(store),
            "sample": result.sample,
            "rollout": trace.rollout,
            "run": trace.run,
            "turns": len(trace),
            "scores": dict(trace.scores or result.scores),
            "stopped": trace.stopped,
            "error": _failure(result) if isinstance(result.outcome, Outcome.Error) else None,
        }
        for store, result, trace in zip(stores, results, traces, strict=True)
    ]
    numbers = [
        {"kind": kind, "a": a.number if a is not None else None, "b": b.number if b is not None else None}
        for kind, a, b in pairs
    ]
    return {"task": results[0].key, "a": runs[0], "b": runs[1], "pairs": numbers}
