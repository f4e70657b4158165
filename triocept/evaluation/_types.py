"""Tasks, scores and samples of an evaluation, and the results that a store keeps.

The store of an evaluation is the store of a fleet. It also contains the file `evaluation.json` (an `EvaluationFile`)
with the planned tasks. Each sample has a line in `done.jsonl`:

* The outcome in the line is `value`, even if the sample has no score; the value is a `Sample` without its task, number
  and traces. The outcome is `error` only if an unexpected exception ended the sample.
* A sample whose outcome is `Lost`, because its worker died, has a line in `lost.jsonl`, and none in `done.jsonl`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import msgspec

from .._canonical.content import Json
from .._trace.trace import Trace
from ..errors import RemoteError, StoreError, TrioceptError
from ..fleets import Outcome, Result
from ..fleets import read_results as read_stored
from ..fleets.store.layout import DONE, EVALUATION, FORMAT, LOST
from ..fleets.store.lines import DoneLine, LostFile
from ..fleets.store.places import StoredTraces
from ..fleets.store.reading import result_of

WORKDIRS = "workdirs"
"""Directory of the store with the working directories that are kept, each under the `run` of its agent's trace."""

Reason: TypeAlias = Literal[
    "setup_failed",
    "agent_not_started",
    "agent_raised",
    "no_model_call",
    "provider_error",
    "model_error",
    "scorer_failed",
    "scorer_timeout",
    "invalid_score",
    "grader_failed",
    "not_recorded",
    "worker_lost",
    "error",
]
"""Reason why a sample has no score; `error` stands for every other exception in the worker."""
AgentEnd: TypeAlias = Literal["completed", "failed", "time_limit", "limit"]
"""How an agent ended: with status 0 ("completed"), with another status ("failed"), at its time limit, or at another
limit."""
Failure: TypeAlias = tuple[Reason, str]
"""Reason why a scorer gave no score, and the text of the error."""


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A task of an evaluation. If Inspect's `Sample` has the same field, the field has the same name here."""

    id: str
    """Identifier, unique among the tasks of the evaluation."""
    prompt: str
    """Text with which the agent is started."""
    target: str | tuple[str, ...] = ""
    """The right answer, or several right answers; empty if the scorers need none."""
    files: dict[str, str] = {}
    """Files and directories of the agent's working directory. Each key is a path in this directory. Its value is the
    path of a file or directory to copy, a data URL, or the content itself."""
    setup: str | None = None
    """Shell script that runs in the working directory before the agent starts."""
    check: str | tuple[str, ...] | None = None
    """Command of the scorer `check_command`: a line for the shell, or the words of a command. It runs in the working
    directory after the agent has ended."""
    check_files: dict[str, str] = {}
    """Files that the agent must not see, such as tests, with keys and values as in `files`. They are copied into the
    working directory after the agent has ended, and replace files of the agent with the same path."""
    scorer_timeout: float = 600.0
    """Maximum seconds of the setup script, and of each scorer, such as the check command. When a scorer exceeds it, the
    sample has no score of this scorer. When the setup script exceeds it, the sample has no score at all."""
    time_limit: float | None = None
    """Maximum seconds of the agent. When exceeded: the agent is ended, and the work that it has done so far is
    scored."""
    turn_limit: int | None = None
    """Maximum answered model calls of the agent. When exceeded: further calls are refused, and the work that the agent
    has done is scored."""
    metadata: dict[str, Json] = {}
    """Your own data about the task, by which tasks can be grouped."""

    @property
    def targets(self) -> tuple[str, ...]:
        """All correct answers; empty if the task specifies none."""
        if isinstance(self.target, str):
            return (self.target,) if self.target else ()
        return self.target


class Score(msgspec.Struct, frozen=True, omit_defaults=True):
    """The score that a scorer gives a sample."""

    value: float
    """A finite number. For pass@k and pass^k, a sample with 1.0 or more has passed."""
    answer: str | None = None
    """The agent's answer that was scored."""
    explanation: str | None = None
    """Explanation of the score, for example the output of a check command."""
    metadata: dict[str, Json] = {}


class NoScore(TrioceptError):
    """The reason why a sample has no score. A scorer raises this error if it cannot decide.

    Attributes:
        reason: the reason; if a scorer raises this error, `scorer_failed`.
        message: description for a reader.
    """

    def __init__(self, message: str, *, reason: Reason = "scorer_failed") -> None:
        super().__init__(f"{reason}: {message}")
        self.reason: Reason = reason
        self.message = message


@final
class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a task."""

    task: str = ""
    """Id of the task."""
    number: int = 0
    """Index among the samples of the task, from 0."""
    scores: dict[str, Score] = {}
    """Scores by name: the scorer's name, or `scorer.key` for each key of a dict that a scorer returned."""
    failures: dict[str, tuple[Reason, str]] = {}
    """Reason and text of the error of each scorer that gave no score, by the scorer's name."""
    reason: Reason | None = None
    """Reason why the sample has no score, or why its first failed scorer gave none; None if the sample is scored."""
    explanation: str = ""
    """Text of the error that belongs to `reason`."""
    ended: AgentEnd | None = None
    """How the agent ended; None if its work cannot be scored."""
    stopped: str | None = None
    """The limit that stopped the agent, as in `Trace.stopped`."""
    returncode: int | None = None
    """Exit status of the agent; None for a function in this process."""
    attempts: int = 1
    """Number of times that the sample was run, over all runs of the program."""
    seconds: float = 0.0
    """Seconds from the agent's start to its end."""
    turns: int = 0
    """Model calls of the agent that have an outcome."""
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    """True if triocept estimated some of the tokens, because the model did not report them."""
    cost: float | None = None
    """Cost of the model calls, including the calls of judges; None if there are no prices."""
    output: str = ""
    """The last part of the agent's output."""
    returned: bool = False
    """True if the agent is a function that returned `output` as its answer."""
    scorings: int = 1
    """Number of times that scorers have scored this run of the agent."""
    rescoring: int = 0
    """Number of the rescoring (`evaluate(rescore=True)`) that last scored the sample; 0 if there was none."""
    not_rescored: tuple[str, ...] = ()
    """The scorers of the last rescoring that could not read the record of the sample, and whose earlier scores
    therefore stand."""
    traces: Sequence[Trace] = ()
    """Traces of the sample, read from the store on each access: the agent's rollout first. The traces of judges are its
    children; if a judge belongs to a later scoring, its trace follows in this list."""

    @property
    def scored(self) -> bool:
        """True if each scorer gave a score."""
        return self.reason is None

    @property
    def workdir(self) -> Path | None:
        """The working directory as the scorers left it; None if the store has not kept the directory."""
        run = run_of(self)
        if run is None:
            return None
        assert isinstance(self.traces, StoredTraces)
        folder = self.traces.store / WORKDIRS
        found = folder / run
        return found if found.is_dir() and found.resolve().parent == folder.resolve() else None


def run_of(sample: Sample) -> str | None:
    """Return `Trace.run` of the agent's trace without reading the trace; None if the trace is not in a store."""
    traces = sample.traces
    return traces.places[0].run if isinstance(traces, StoredTraces) and traces.places else None


class EvaluationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, scorers and settings of an evaluation."""

    name: str
    """Name of the evaluation: the name passed to `evaluate`, or the name of the file of tasks."""
    agent: str
    model: str
    scorers: tuple[str, ...]
    """Names of the scorers; a scorer that returns a dict has several scores."""
    samples_per_task: int
    """Planned samples of each task."""
    tasks: tuple[Task, ...]
    """The planned tasks, in their order."""
    started_at: float
    """Time when the evaluation first started, in seconds since the epoch."""


class Rescoring(msgspec.Struct, frozen=True, kw_only=True):
    """What a rescoring scores again, and by which scorers."""

    scorers: dict[str, str]
    """Descriptions of the scorers, by name; see `description_of`."""
    tasks: tuple[str, ...]
    """Ids of the tasks."""


class EvaluationFile(EvaluationPlan, frozen=True, kw_only=True):
    """Content of `evaluation.json`."""

    format: int = FORMAT
    rescorings: int = 0
    """Number of rescorings that were started: calls of `evaluate(rescore=True)`."""
    last_rescoring: Rescoring | None = None
    """The last rescoring that was started; None if there was none."""


@final
class EvaluationResults(EvaluationPlan, frozen=True, kw_only=True, dict=True):
    """The results of an evaluation: its tasks, and the samples that have ended."""

    samples: tuple[Sample, ...]
    """The ended samples, in the order of the tasks and of their numbers."""
    directory: Path | None = None
    """Directory of the store; None if the results are only in memory."""
    unfinished: str = ""
    """Text about a rescoring that was interrupted, so that some samples still have their earlier scores. Empty if no
    rescoring was interrupted."""

    @property
    def planned(self) -> int:
        """Number of planned samples."""
        return len(self.tasks) * self.samples_per_task

    @property
    def scored(self) -> tuple[Sample, ...]:
        """The samples that were scored by every scorer."""
        return self.scored_by(self.scorers)

    def scored_by(self, scorers: Iterable[str]) -> tuple[Sample, ...]:
        """Return the samples that have a score of each of these scorers."""
        names = [*scorers]
        return tuple(sample for sample in self.samples if not lacking(sample, names))

    @property
    def unscored(self) -> tuple[Sample, ...]:
        """The ended samples that lack a score of at least one scorer."""
        scored = {(sample.task, sample.number) for sample in self.scored}
        return tuple(sample for sample in self.samples if (sample.task, sample.number) not in scored)

    @cached_property
    def score_names(self) -> tuple[str, ...]:
        """Names of all scores, in the order of the scorers."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.scores)
        return tuple(name for scorer in self.scorers for name in names if belongs(name, scorer))

    @property
    def silent_scorers(self) -> tuple[str, ...]:
        """The scorers without any score: each failed for every sample that it should score."""
        failed = {name for sample in self.samples for name in sample.failures}
        return tuple(
            scorer
            for scorer in self.scorers
            if scorer in failed and not any(belongs(name, scorer) for name in self.score_names)
        )

    def table(self) -> str:
        """Return a table of the scores for a terminal with 80 columns."""
        from ._table import table_of

        return table_of(self)

    def document(self) -> dict[str, Json]:
        """Return the table's data as JSON: `tasks`, `samples`, `scored`, `errors` by reason, and `scores` by name."""
        from ._table import document_of

        return document_of(self)

    def by_task(self) -> dict[str, list[Sample]]:
        """Return the ended samples of each planned task, by the task's id; the list is empty if none has ended."""
        found: dict[str, list[Sample]] = {task.id: [] for task in self.tasks}
        for sample in self.samples:
            found[sample.task].append(sample)
        return found

    def values(self, score: str) -> dict[str, list[float]]:
        """Return, by each task's id, the values of a score in the samples that have this score; a list may be empty."""
        return {
            task: [sample.scores[score].value for sample in samples if score in sample.scores]
            for task, samples in self.by_task().items()
        }


def lacking(sample: Sample, scorers: Iterable[str]) -> list[str]:
    """Return those of the scorers that have not given the sample a score."""
    return [scorer for scorer in scorers if not any(belongs(score, scorer) for score in sample.scores)]


def sample_failed(sample: Sample, scorers: Collection[str]) -> bool:
    """Return True if the agent's work cannot be scored, or if one of these scorers has failed."""
    failed = sample.failures.keys()
    return not sample.scored and (not failed or not failed.isdisjoint(scorers))


def belongs(score: str, scorer: str) -> bool:
    """Return True if the scorer `scorer` gives a score of the name `score`, itself or in a dict of scores."""
    return score == scorer or score.startswith(f"{scorer}.")


def read_results(store: str | os.PathLike[str]) -> EvaluationResults:
    """Return the results of the evaluation in a store. The evaluation may still be running.

    Raises:
        StoreError: the directory is not the store of an evaluation, or a line of it is damaged.
        OSError: the store cannot be read.
    """
    directory = Path(os.path.abspath(store))
    stored = read_stored(directory)  # it checks the directory
    about = read_evaluation(directory)
    if about is None:
        raise StoreError(
            f"it is the store of a fleet, not of an evaluation: it contains no {EVALUATION}",
            path=str(directory),
        )
    attempts, lost = _attempts(directory / DONE), LostFile(directory / LOST).keys
    found: dict[tuple[str, int], Sample] = {}
    for result in stored:
        place = str(result.key), result.sample
        lost.pop(place, None)
        try:
            found[place] = sample_of(result, attempts[place])
        except msgspec.ValidationError as exc:
            text = f"sample {result.sample} of task {result.key!r} in its {DONE} cannot be read: {exc}"
            raise StoreError(text, path=str(directory)) from None
    for (task, number), line in lost.items():
        found[task, number] = Sample(task=task, number=number, reason="worker_lost", explanation=line.reason)
    return results_of(about, found, directory)


def results_of(
    about: EvaluationPlan, samples: Mapping[tuple[str, int], Sample], directory: Path | None = None
) -> EvaluationResults:
    """Return the results of the planned tasks. The keys of `samples` are the task's id and the sample's number."""
    places = ((task.id, number) for task in about.tasks for number in range(about.samples_per_task))
    ended = tuple(samples[place] for place in places if place in samples)
    plan = {name: getattr(about, name) for name in EvaluationPlan.__struct_fields__}
    unfinished = unfinished_text(about, ended) if isinstance(about, EvaluationFile) else ""
    return EvaluationResults(**plan, samples=ended, directory=directory, unfinished=unfinished)


def unfinished_text(about: EvaluationFile, samples: Iterable[Sample]) -> str:
    """Describe the last rescoring if it has not scored all its samples; return an empty text if it has."""
    if (last := about.last_rescoring) is None:
        return ""
    tasks = set(last.tasks)
    found = [each for each in samples if each.task in tasks and each.ended is not None]
    left = sum(each.rescoring < about.rescorings for each in found)
    if not left:
        return ""
    names = ", ".join(last.scorers)
    return (
        f"the rescoring by {names} is not finished: {left} of {len(found)} samples are not scored again yet"
    )


def read_evaluation(directory: Path) -> EvaluationFile | None:
    """Return the content of `evaluation.json` in a store; None if there is no such file.

    Raise StoreError if the file is damaged, or if a newer triocept wrote it.
    """
    try:
        found = msgspec.json.decode((directory / EVALUATION).read_bytes(), type=EvaluationFile)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as exc:
        raise StoreError(f"its {EVALUATION} cannot be read: {exc}", path=str(directory)) from None
    if found.format > FORMAT:
        problem = f"its {EVALUATION} was written by a newer triocept (format {found.format})"
        raise StoreError(problem, path=str(directory))
    return found


def sample_of(result: Result[Any, Any], attempts: int = 1) -> Sample:
    """Return the sample in a result of the fleet, which a map has yielded or a store contains."""
    task, number = str(result.key), result.sample
    match result.outcome:
        case Outcome.Value(value=value):
            sample = msgspec.convert(value, Sample)
            place = {"task": task, "number": number, "attempts": attempts}
            return msgspec.structs.replace(sample, **place, traces=result.traces)
        case Outcome.Lost(reason=why):
            return Sample(task=task, number=number, reason="worker_lost", explanation=why, attempts=attempts)
        case Outcome.Error(error=error):
            text = str(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
        case _:
            text = "the sample was stopped"
    return Sample(
        task=task, number=number, reason="error", explanation=text, attempts=attempts, traces=result.traces
    )


def sample_at(directory: Path, offset: int) -> Sample:
    """Return the sample whose line in `done.jsonl` starts at the byte `offset`."""
    with (directory / DONE).open("rb") as file:
        file.seek(offset)
        return sample_of(result_of(directory, msgspec.json.decode(file.readline(), type=DoneLine)))


class _Scorings(msgspec.Struct, frozen=True):
    scorings: int = 1


class _Place(msgspec.Struct, frozen=True):
    key: str
    sample: int = 0
    value: _Scorings = _Scorings()


def _attempts(path: Path) -> Counter[tuple[str, int]]:
    """Return how often each sample was run; keys are task and number. Return no counts if the file does not exist."""
    if not path.exists():
        return Counter()
    decode = msgspec.json.Decoder(_Place).decode
    with path.open("rb") as file:
        places = [decode(line) for line in file if line.endswith(b"\n")]
    return Counter((place.key, place.sample) for place in places if place.value.scorings == 1)
