"""A log of Inspect (inspect-ai 0.3.285), as JSON, for its own functions and its viewer.

Rules:

1. A rollout is a sample; another rollout of the same id is the next epoch of that sample.
2. A conversation is a span of type `agent`, which has a row in the viewer's timeline; sub-agents are within the agent
   that began them. A compaction is an event in front of the call that continues after it.
3. Content is written once: calls refer to a pool of messages, and the texts of tools to attachments. So read the log
   with `read_eval_log(path, resolve_attachments=True)`.
4. The status is "success": any other status would look like a task that still runs, or that failed. The outcome of each
   rollout is in its sample's metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from typing import IO

from .._canonical.content import Json
from .._canonical.request import Sampling
from .._trace.cost import usage_of as used_by
from .._trace.trace import Trace
from ..dialects.kit import encode_json
from . import _losses as lost
from ._inspect_events import SampleEvents
from ._inspect_messages import usage_of
from ._losses import Losses
from ._times import ended_at, iso_time

_SETTINGS = (*Sampling.__struct_fields__, "parallel_tool_calls", "tool_choice")


def inspect_log(
    traces: Iterable[Trace], losses: Losses | None = None, *, task: str = "triocept"
) -> dict[str, Json]:
    """Return the traces as one `EvalLog`.

    Args:
        traces: traces of any number of rollouts.
        losses: counts content without a place in the log; None: no count.
        task: the log's name in the viewer.
    """
    losses = losses if losses is not None else Losses()
    traces = list(traces)
    epochs: Counter[str] = Counter()
    samples = []
    for trace in traces:
        epochs[trace.rollout] += 1
        samples.append(_sample(trace, epochs[trace.rollout], losses))
    turns = [turn for trace in traces for turn in trace]
    started = min((turn.started_at for turn in turns), default=0.0)
    models = Counter(turn.request.model for turn in turns)
    ids = list(epochs)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": _identity(traces),
            "run_id": _identity(traces),
            "task_id": task,
            "created": iso_time(started),
            "task": task,
            "dataset": {"name": "rollouts", "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "model": models.most_common(1)[0][0] if models else "unknown",
            "config": {"epochs": max(epochs.values(), default=1)},
            "packages": {"triocept": version("triocept")},
        },
        "plan": {"name": "plan", "steps": [{"solver": "triocept"}]},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": _means(samples),
        },
        "stats": {
            "started_at": iso_time(started),
            "completed_at": iso_time(max(map(ended_at, turns), default=started)),
            "model_usage": _used(traces),
        },
        "samples": samples,
    }


def write_inspect(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """Write these traces as one log."""
    file.write(encode_json(inspect_log(traces, losses)) + b"\n")


def _sample(trace: Trace, epoch: int, losses: Losses) -> dict[str, Json]:
    lost.count_lost(losses, trace, lost.TOKENS, lost.INCREMENTS, lost.WIRE, settings=_SETTINGS)
    told = SampleEvents(trace, losses)
    turns = list(trace)
    started = min((turn.started_at for turn in turns), default=0.0)
    ended = max(map(ended_at, turns), default=0.0)
    return {
        "id": trace.rollout,
        "epoch": epoch,
        "uuid": _identity([trace]),
        "input": told.question,
        "target": "",
        "messages": told.conversation,
        "output": told.output,
        "scores": {name: {"value": value} for name, value in trace.scores.items()},
        "metadata": _metadata(trace),
        "events": told.events,
        "events_data": {"messages": told.pool, "calls": []},
        "attachments": told.attachments,
        "model_usage": _used([trace]),
        "started_at": iso_time(started),
        "completed_at": iso_time(ended),
        "total_time": ended - started,
        "working_time": ended - started,
    }


def _metadata(trace: Trace) -> dict[str, Json]:
    outcomes = Counter(turn.outcome for turn in trace)
    metadata: dict[str, Json] = {
        "run": trace.run,
        "sealed": trace.sealed,
        "stopped": trace.stopped,
        "ended": trace.ended,
        "gaps": [gap.name for gap in trace.gaps] or None,
        "agents": [each.name for each in trace.agents] or None,
        "given": dict(trace.metadata) or None,
        "turns": len(trace),
        "outcomes": dict(outcomes),
        "parent_rollout": trace.branch.rollout if trace.branch is not None else None,
    }
    return {name: value for name, value in metadata.items() if value is not None}


def _used(traces: Sequence[Trace]) -> dict[str, Json]:
    """Return the tokens of each model."""
    sums: dict[str, Counter[str]] = {}
    for trace in traces:
        for turn in trace:
            if (usage := used_by(turn)) is not None:
                counts = {name: count for name, count in usage_of(usage).items() if count is not None}
                sums.setdefault(turn.request.model, Counter()).update(counts)
    return {model: dict(counts) for model, counts in sums.items()}


def _means(samples: Sequence[dict[str, Json]]) -> list[Json]:
    values: dict[str, list[float]] = {}
    for sample in samples:
        for name, score in sample["scores"].items():
            values.setdefault(name, []).append(score["value"])
    return [
        {
            "name": name,
            "scorer": name,
            "scored_samples": len(each),
            "unscored_samples": len(samples) - len(each),
            "metrics": {"mean": {"name": "mean", "value": sum(each) / len(each)}},
        }
        for name, each in values.items()
    ]


def _identity(traces: Sequence[Trace]) -> str:
    text = "\0".join(f"{trace.rollout}\0{trace.run}" for trace in traces)
    return blake2b(text.encode(), digest_size=11).hexdigest()
