"""Write an evaluation's results in the format of Inspect (0.3.285), verifiers (0.4.0) or Harbor (0.26.0).

Inspect's format is a log, the format of verifiers is a list of episodes, and Harbor's format is a folder with a job.

Rules:

1. In an export, the id of a sample is its task's id, its epoch is the sample's number, from 1, and its input is the
   task's prompt.
2. A sample without any score is exported with an error. Tools that read the export then leave the sample out of their
   means, as triocept does. If only some scorers failed, the sample has the scores of the other scorers.
3. If a format has no field for a value, the value is left out. No number is written as null or NaN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from itertools import count
from pathlib import Path
from uuid import UUID

from .._canonical.content import Json
from .._trace.trace import Trace
from ..dialects.kit import encode_json
from ..exports import Losses, inspect_log, verifiers_episode
from ..exports._formats import new_file, new_folder
from ..exports._shared import ended_at, iso_time, without_none
from ._statistics import summary_of, task_means, used_by
from ._table import problems_of
from ._types import EvaluationResults, Sample, Task

_ANSWER = 500
"""Maximum characters of an answer that Inspect's viewer shows."""


def write_results(
    results: EvaluationResults, to: str, path: Path, *, replace: bool = False, reward: str | None = None
) -> Losses:
    """Write results to `path` in the format `to`, either completely or not at all.

    `to` is one of `RESULT_FORMATS`. In Harbor's format, `path` is a new folder. In the format of verifiers, `reward` is
    the name of the score that is the reward, and all other scores are metrics. If `reward` is None, each score is a
    reward, and all rewards have the same weight.

    Raises:
        ValueError: there is no score named `reward`.
        FileExistsError: `path` exists, and `replace` is False.
        OSError: the results cannot be written.
    """
    losses = Losses()
    if reward is not None and reward not in results.score_names:
        raise ValueError(
            f"there is no score {reward!r}; there are {', '.join(results.score_names) or 'none'}"
        )
    if to == "harbor":
        with new_folder(path) as folder:
            _write_harbor(results, folder)
        return losses
    with new_file(path, replace=replace) as file:
        if to == "inspect":
            file.write(encode_json(inspect_results(results, losses)) + b"\n")
        else:
            for episode in verifiers_results(results, losses, reward):
                file.write(encode_json(episode) + b"\n")
    return losses


def _trace_of(sample: Sample) -> Trace:
    return next(iter(sample.traces), None) or Trace(sample.task)


def _times(results: EvaluationResults, sample: Sample, trace: Trace) -> tuple[float, float]:
    started = min((turn.started_at for turn in trace), default=results.started_at)
    ended = max(map(ended_at, trace), default=started)
    return started, max(ended, started + sample.seconds)


def _identity(*parts: object) -> str:
    """Return a text of 32 hexadecimal digits, which is the same for equal `parts`."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def _uuid(results: EvaluationResults, *place: object) -> str:
    """Return an identifier of the evaluation, or of the part of the evaluation that `place` names."""
    return str(UUID(_identity(results.name, results.started_at, *place)))


# Inspect


def inspect_results(results: EvaluationResults, losses: Losses) -> dict[str, Json]:
    """Return the results as an `EvalLog` of Inspect: the exported traces, with the tasks and the scores added."""
    tasks, names = {task.id: task for task in results.tasks}, results.score_names
    traces = [_trace_of(sample) for sample in results.samples]
    log = inspect_log(traces, losses, task=results.name)
    ends = [
        _add_to_inspect(document, results, sample, tasks[sample.task], trace)
        for sample, trace, document in zip(results.samples, traces, log["samples"], strict=True)
    ]
    started = iso_time(results.started_at)
    log["eval"] |= dict.fromkeys(("eval_id", "run_id", "task_id"), _uuid(results))
    log["eval"] |= {
        "created": started,
        "dataset": {"name": results.name, "samples": len(tasks), "sample_ids": [*tasks], "shuffled": False},
        "model": results.model or "unknown",
        "config": {"epochs": results.samples_per_task, "epochs_reducer": ["mean"]},
        "scorers": [
            {"name": name, "metrics": [{"name": "inspect_ai/mean"}, {"name": "inspect_ai/stderr"}]}
            for name in names
        ],
        "metadata": {"agent": results.agent},
    }
    log["results"] = {
        "total_samples": results.planned,
        "completed_samples": sum(bool(each.scores) for each in results.samples),
        "scores": [_inspect_score(results, name) for name in names],
    }
    log["reductions"] = [
        {
            "scorer": name,
            "reducer": "mean",
            "samples": [
                {"sample_id": task, "value": value}
                for task, value in task_means(results.values(name)).items()
            ],
        }
        for name in names
    ]
    log["stats"] |= {
        "started_at": started,
        "completed_at": iso_time(max(ends, default=results.started_at)),
    }
    return log


def _inspect_score(results: EvaluationResults, name: str) -> dict[str, Json]:
    found = summary_of(results, name).estimate
    metrics = {} if found is None else {"mean": found.mean, "stderr": found.stderr or 0.0}
    return {
        "name": name,
        "scorer": name,
        "reducer": "mean",
        "scored_samples": 0 if found is None else found.tasks,
        "unscored_samples": len(results.tasks) - (0 if found is None else found.tasks),
        "metrics": {key: {"name": key, "value": value} for key, value in metrics.items()},
    }


def _add_to_inspect(
    document: dict[str, Json], results: EvaluationResults, sample: Sample, task: Task, trace: Trace
) -> float:
    """Add the task and the scores of `sample` to `document`, its exported trace. Return the sample's end time."""
    started, ended = _times(results, sample, trace)
    answer = next((score.answer for score in sample.scores.values() if score.answer), sample.output)
    scores = {
        name: without_none(
            {
                "value": score.value,
                "answer": (score.answer or answer)[-_ANSWER:],
                "explanation": score.explanation,
                "metadata": score.metadata or None,
            }
        )
        for name, score in sample.scores.items()
    }
    fields = ("ended", "stopped", "returncode", "reason", "attempts", "cost")
    ours = {name: getattr(sample, name) for name in fields} | {"failures": sample.failures or None}
    document |= {
        "id": task.id,
        "epoch": sample.number + 1,
        "uuid": _uuid(results, sample.task, sample.number),
        "input": task.prompt,
        "target": task.target if isinstance(task.target, str) else list(task.target),
        "scores": scores,
        "metadata": {**task.metadata, "triocept": without_none({**document["metadata"], **ours})},
        "started_at": iso_time(started),
        "completed_at": iso_time(ended),
        "total_time": ended - started,
        "working_time": ended - started,
    }
    if not sample.scores:
        text = f"{sample.reason}: {sample.explanation}"
        document["error"] = {"message": text, "traceback": "", "traceback_ansi": ""}
    if sample.ended == "time_limit":
        document["limit"] = {"type": "time", "limit": task.time_limit or sample.seconds}
    elif sample.ended == "limit":
        limit = task.turn_limit
        document["limit"] = {"type": "custom" if limit is None else "turn", "limit": limit or sample.turns}
    return ended


# verifiers


def verifiers_results(
    results: EvaluationResults, losses: Losses, reward: str | None = None
) -> Iterator[dict[str, Json]]:
    """Yield an `Episode` for each sample.

    If `reward` is None, the reward of an episode is the mean of all scores of the sample.
    """
    tasks = {task.id: task for task in results.tasks}
    rewards = results.score_names if reward is None else (reward,)
    for sample in results.samples:
        task, trace = tasks[sample.task], _trace_of(sample)
        first = next(iter(trace.scores), None)
        episode = verifiers_episode(trace, losses, reward=first)
        identity = _uuid(results, sample.task, sample.number)
        target = {"answer": task.target} if task.target else {}
        about = {
            "type": "triocept",
            "data": {"id": task.id, "name": task.id, "prompt": task.prompt, **target},
        }
        (found,) = episode["traces"]
        found |= {"id": identity, "task": about, "ok": sample.scored, "is_completed": True}
        found["info"] = {"rollout": trace.rollout, "sample": sample.number, "metadata": task.metadata}
        values = {name: score.value for name, score in sample.scores.items()}
        found["metrics"] = {name: value for name, value in values.items() if name not in rewards}
        found["rewards"] = {
            name: {"score": values[name], "weight": 1 / len(rewards)} for name in rewards if name in values
        }
        found["stop_condition"] = sample.stopped or sample.reason
        if not sample.scored:
            found["errors"] = [
                {"type": reason, "message": text, "status_code": None}
                for _, reason, text in problems_of(sample)
            ]
        yield {**episode, "id": identity, "env": {"id": results.name}, "task": about, "ok": sample.scored}


# Harbor

_EXCEPTIONS = {"time_limit": "AgentTimeoutError", "failed": "NonZeroAgentExitCodeError"}


def _write_harbor(results: EvaluationResults, folder: Path) -> None:
    """Write a Harbor job: its `result.json`, and a folder with a `result.json` for each trial (a sample)."""
    names, rewards, exceptions = dict[str, None](), dict[str, dict[str, list[str]]](), dict[str, list[str]]()
    ended = results.started_at
    for sample in results.samples:
        stem = re.sub(r"[^\w.-]+", "-", sample.task)[:80]
        name = next(each for each in _names(f"{stem}__{sample.number + 1}") if each not in names)
        names[name] = None
        trial, at = _harbor_trial(results, sample, name)
        ended = max(ended, at)
        for score, value in (trial["verifier_result"] or {"rewards": {}})["rewards"].items():
            rewards.setdefault(score, {}).setdefault(str(value), []).append(name)
        if trial["exception_info"] is not None:
            exceptions.setdefault(trial["exception_info"]["exception_type"], []).append(name)
        (folder / name).mkdir()
        (folder / name / "result.json").write_bytes(encode_json(trial))
    used = used_by(results.samples)
    summaries = [summary_of(results, name) for name in results.score_names]
    passes = summaries[0].pass_at if summaries and results.samples_per_task > 1 else ()
    errors = sum(map(len, exceptions.values()))
    stats = {
        "n_trials": sum(bool(each.scores) for each in results.samples),
        "n_errors": errors,
        "metrics": [{each.name: each.estimate.mean for each in summaries if each.estimate is not None}],
        "pass_at_k": {each.k: each.value for each in passes if each.value is not None},
        "reward_stats": rewards,
        "exception_stats": exceptions,
    }
    job = {
        "id": _uuid(results),
        "started_at": iso_time(results.started_at),
        "finished_at": iso_time(ended),
        "n_total_trials": results.planned,
        "stats": {
            "n_completed_trials": len(results.samples),
            "n_errored_trials": errors,
            "n_pending_trials": results.planned - len(results.samples),
            "evals": {f"{results.agent}__{results.model}__{results.name}": stats},
            "n_input_tokens": used.input_tokens,
            "n_output_tokens": used.output_tokens,
            "cost_usd": used.cost,
        },
    }
    (folder / "result.json").write_bytes(encode_json(job))


def _names(name: str) -> Iterator[str]:
    """Yield `name`, and then other names that are tried if `name` is already used in the export.

    Two ids can have the same `name` if they differ only in characters that a path cannot contain.
    """
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _harbor_trial(results: EvaluationResults, sample: Sample, name: str) -> tuple[dict[str, Json], float]:
    """Return Harbor's result of a trial (a sample), and the time at which the trial ended."""
    started, ended = _times(results, sample, _trace_of(sample))
    kind = sample.reason or _EXCEPTIONS.get(sample.ended or "")
    error = {
        "exception_type": kind,
        "exception_message": sample.explanation or sample.stopped or f"exit status {sample.returncode}",
        "exception_traceback": "",
        "occurred_at": iso_time(ended),
    }
    times = {"started_at": iso_time(started), "finished_at": iso_time(ended)}
    usage = {"n_input_tokens": sample.input_tokens, "n_output_tokens": sample.output_tokens}
    return {
        "id": _uuid(results, sample.task, sample.number),
        "task_name": sample.task,
        "trial_name": name,
        "trial_uri": name,
        "task_id": {"path": sample.task},
        "source": results.name,
        "task_checksum": _identity(sample.task),
        "config": {"task": {"path": sample.task}, "trial_name": name},
        "agent_info": {
            "name": results.agent,
            "version": "unknown",
            "model_info": {"name": results.model or "unknown", "provider": None},
        },
        "agent_result": {**usage, "cost_usd": sample.cost, "metadata": {"turns": sample.turns}},
        "verifier_result": {"rewards": {name: score.value for name, score in sample.scores.items()}}
        if sample.scores
        else None,
        "exception_info": error if kind is not None else None,
        **times,
        "agent_execution": times,
    }, ended
