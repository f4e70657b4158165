"""Tasks, scores and samples of an evaluation, and the results that a store keeps.

The store of an evaluation is the store of a fleet. In addition, it contains the file `evaluation.json` (an
`EvaluationFile`) with the planned tasks. Each sample has a line in `done.jsonl`:

* The outcome in the line is `value`, even if the sample has no score. The value is a `Sample` without its task, number
  and traces. The outcome is `error` only if an unexpected exception ended the sample.
* A sample whose outcome is `Lost`, because its worker died, has a line in `lost.jsonl`, but no line in `done.jsonl`.
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
from .._util.checks import check_choice, check_str
from ..errors import RemoteError, StoreError, TrioceptError
from ..fleets import Outcome, Result
from ..fleets import read_results as read_stored
from ..fleets.store.layout import DONE, EVALUATION, FORMAT, LOST
from ..fleets.store.lines import DoneLine, LostFile
from ..fleets.store.places import StoredTraces
from ..fleets.store.reading import result_of

WORKDIRS = "workdirs"
"""Name of the folder, in the store, with the working directories that are kept. Each is named by the `run` of its
agent's trace."""

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
"""Reason why a sample has no score. `error` stands for any exception in the worker that has no other name here."""
AgentEnd: TypeAlias = Literal["completed", "failed", "time_limit", "limit"]
"""End of an agent's run. `completed`: the agent exited with status 0. `failed`: it exited with another status.
`time_limit`: its time limit was reached. `limit`: another limit was reached."""
Failure: TypeAlias = tuple[Reason, str]
"""Reason why a scorer gave no score, and the text of the scorer's error."""


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A task of an evaluation. Fields that Inspect's `Sample` also has, have the same names as in Inspect."""

    id: str
    """Identifier, unique among the tasks of the evaluation."""
    prompt: str
    """Text with which the agent is started."""
    target: str | tuple[str, ...] = ""
    """The correct answer, or several correct answers; empty if the scorers need none."""
    files: dict[str, str] = {}
    """Files and directories that are put into the agent's working directory. Each key is a path in this directory. Its
    value is the path of a file or directory to copy, a data URL, or the content itself."""
    setup: str | None = None
    """Shell script that runs in the working directory before the agent starts."""
    check: str | tuple[str, ...] | None = None
    """Command of the scorer `check_command`: a line for the shell, or a list of words. It runs in the working directory
    after the agent has ended."""
    check_files: dict[str, str] = {}
    """Files that the agent must not see, such as tests; keys and values are as in `files`. They are copied into the
    working directory after the agent has ended, and replace files of the agent with the same path."""
    scorer_timeout: float = 600.0
    """Maximum seconds of the setup script, and of each scorer, such as the check command. If a scorer exceeds it, the
    sample has no score of this scorer. If the setup script exceeds it, the sample has no score at all."""
    time_limit: float | None = None
    """Maximum seconds that the agent may run. When exceeded: the agent is ended, and the work that it has done so far
    is scored."""
    turn_limit: int | None = None
    """Maximum number of answered model calls of the agent. When exceeded: further calls are refused, and the work that
    the agent has done is scored."""
    metadata: dict[str, Json] = {}
    """Your own data about the task; tables can be grouped by it."""

    @property
    def targets(self) -> tuple[str, ...]:
        """All correct answers; empty if the task has no target."""
        if isinstance(self.target, str):
            return (self.target,) if self.target else ()
        return self.target


NO_FILE = "the working directory has no file"
"""Start of the explanation of a score of `file_content` if there is no such file."""


class Score(msgspec.Struct, frozen=True, omit_defaults=True):
    """The score that a scorer gives a sample."""

    value: float
    """The score, a finite number. For the statistics pass@k and pass^k, a sample passes if its score is 1.0 or more."""
    answer: str | None = None
    """The agent's answer that was scored."""
    explanation: str | None = None
    """Explanation of the score, for example the output of a check command."""
    metadata: dict[str, Json] = {}


class NoScore(TrioceptError):
    """The reason why a sample has no score. A scorer raises this error if it cannot determine a score.

    Attributes:
        reason: the reason; if a scorer raises this error, `scorer_failed`.
        message: explanation of the reason.
    """

    def __init__(self, message: str, *, reason: Reason = "scorer_failed") -> None:
        check_str("message", message)
        check_choice("reason", reason, Reason)
        super().__init__(f"{reason}: {message}")
        self.reason: Reason = reason
        self.message = message


@final
class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a task."""

    task: str = ""
    """Id of the task."""
    number: int = 0
    """Index of the sample among the samples of its task, from 0."""
    scores: dict[str, Score] = {}
    """Scores by name: the scorer's name, or `scorer.key` for each key of a dict that a scorer returned."""
    failures: dict[str, tuple[Reason, str]] = {}
    """For each scorer that gave no score, by its name: the reason, and the text of the error."""
    reason: Reason | None = None
    """Reason why the sample has no score. If only scorers failed: why the first of them gave no score. None if the
    sample is scored."""
    explanation: str = ""
    """Text of the error to which `reason` belongs; empty if the sample is scored."""
    ended: AgentEnd | None = None
    """End of the agent's run; None if the agent's work cannot be scored."""
    stopped: str | None = None
    """The limit that stopped the agent, as in `Trace.stopped`; None if no limit stopped it."""
    returncode: int | None = None
    """Exit status of the agent; None if the agent is a function in this process."""
    attempts: int = 1
    """Number of times that the sample was run, counted over all runs of the evaluation."""
    seconds: float = 0.0
    """Seconds from the agent's start to its end."""
    turns: int = 0
    """Number of the agent's model calls that have an outcome."""
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    """True if triocept estimated some of the tokens, because the model did not report them."""
    cost: float | None = None
    """Cost of the model calls, including those of judges; None if the models' prices are unknown."""
    output: str = ""
    """The last part of the agent's output."""
    returned: bool = False
    """True if the agent is a function that returned `output` as its answer."""
    scorings: int = 1
    """Number of times that this run of the agent was scored."""
    rescoring: int = 0
    """Number of the rescoring (`evaluate(rescore=True)`) that scored the sample last; 0 if the sample was never
    rescored."""
    not_rescored: tuple[str, ...] = ()
    """Names of scorers that gave no new score in the last rescoring, because the store has not kept the working
    directory that they need. Their earlier scores are still valid.
    """
    traces: Sequence[Trace] = ()
    """Traces of the sample, read from the store on each access. The trace of the agent's rollout comes first. Its
    children include the traces of judges. If a judge ran in a later scoring, its trace follows in this list."""

    @property
    def scored(self) -> bool:
        """True if each scorer gave a score."""
        return self.reason is None

    @property
    def workdir(self) -> Path | None:
        """The working directory as the scorers left it; None if the store has not kept it."""
        run = run_of(self)
        if run is None:
            return None
        assert isinstance(self.traces, StoredTraces)
        folder = self.traces.store / WORKDIRS
        found = folder / run
        return found if found.is_dir() and found.resolve().parent == folder.resolve() else None


def run_of(sample: Sample) -> str | None:
    """Return the `Trace.run` of the agent's trace without reading the trace.

    Return None if the trace is not in a store.
    """
    traces = sample.traces
    return traces.places[0].run if isinstance(traces, StoredTraces) and traces.places else None


class EvaluationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks, scorers and settings of an evaluation."""

    name: str
    """Name of the evaluation: the name passed to `evaluate`, or the name of the file of tasks."""
    agent: str
    model: str
    scorers: tuple[str, ...]
    """Names of the scorers. If a scorer returns a dict, it gives several scores."""
    samples_per_task: int
    """Number of planned samples of each task."""
    tasks: tuple[Task, ...]
    """The planned tasks, in the order in which they were passed to `evaluate`."""
    started_at: float
    """Time at which the evaluation was first started, in seconds since the epoch."""


class Rescoring(msgspec.Struct, frozen=True, kw_only=True):
    scorers: dict[str, str]
    """Descriptions of the scorers, by name; see `description_of`."""
    tasks: tuple[str, ...]
    """Ids of the tasks whose samples are rescored."""


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
    """The ended samples, in the order of the tasks and of the samples' numbers."""
    directory: Path | None = None
    """Directory of the store; None if the results are only in memory."""
    unfinished: str = ""
    """Text about a rescoring that is not finished, so that some samples still have their earlier scores. Empty if there
    is no such rescoring."""

    @property
    def planned(self) -> int:
        """Number of planned samples."""
        return len(self.tasks) * self.samples_per_task

    @property
    def scored(self) -> tuple[Sample, ...]:
        """The samples that have a score of every scorer."""
        return self.scored_by(self.scorers)

    def scored_by(self, scorers: Iterable[str]) -> tuple[Sample, ...]:
        """Return the samples that have a score of each scorer in `scorers`."""
        names = [*scorers]
        return tuple(sample for sample in self.samples if not lacking(sample, names))

    @property
    def unscored(self) -> tuple[Sample, ...]:
        """The ended samples that lack a score of at least one scorer."""
        return tuple(sample for sample in self.samples if lacking(sample, self.scorers))

    @cached_property
    def score_names(self) -> tuple[str, ...]:
        """Names of all scores, in the order of the scorers."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.scores)
        return tuple(name for scorer in self.scorers for name in names if belongs(name, scorer))

    @property
    def silent_scorers(self) -> tuple[str, ...]:
        """Names of the scorers that gave no score: each failed for every sample that it should score."""
        failed = {name for sample in self.samples for name in sample.failures}
        return tuple(
            scorer
            for scorer in self.scorers
            if scorer in failed and not any(belongs(name, scorer) for name in self.score_names)
        )

    def table(self) -> str:
        """Return a table of the scores as text for a terminal with 80 columns."""
        from ._table import table_of

        return table_of(self)

    def document(self) -> dict[str, Json]:
        """Return the table's data as JSON.

        `tasks`, `samples` and `scored` are counts, `errors` contains counts by reason, `scores` contains statistics by
        name, and `unfinished` is the text about an unfinished rescoring, or empty.
        """
        from ._table import document_of

        return document_of(self)

    def by_task(self) -> dict[str, list[Sample]]:
        """Return the ended samples of each planned task, by the task's id.

        If no sample of a task has ended, the list of this task is empty.
        """
        found: dict[str, list[Sample]] = {task.id: [] for task in self.tasks}
        for sample in self.samples:
            found[sample.task].append(sample)
        return found

    def values(self, score: str) -> dict[str, list[float]]:
        """Return the values of a score, by the task's id.

        A sample without this score has no value; a list may be empty.
        """
        return {
            task: [sample.scores[score].value for sample in samples if score in sample.scores]
            for task, samples in self.by_task().items()
        }


def lacking(sample: Sample, scorers: Iterable[str]) -> list[str]:
    return [scorer for scorer in scorers if not any(belongs(score, scorer) for score in sample.scores)]


def sample_failed(sample: Sample, scorers: Collection[str]) -> bool:
    """Return True if the agent's work cannot be scored, or if one of `scorers` has failed for this sample."""
    failed = sample.failures.keys()
    return not sample.scored and (not failed or not failed.isdisjoint(scorers))


def belongs(score: str, scorer: str) -> bool:
    """Return True if `score` is the name of a score that `scorer` gives: as its only score, or in a dict of scores."""
    return score == scorer or score.startswith(f"{scorer}.")


def read_results(store: str | os.PathLike[str]) -> EvaluationResults:
    """Return the results of the evaluation in a store. The evaluation may still be running.

    Raises:
        StoreError: the directory is not the store of an evaluation, or a line in the store is damaged.
        OSError: the store cannot be read.
    """
    directory = Path(os.path.abspath(store))
    stored = read_stored(directory)  # it checks the directory
    about = read_evaluation(directory)
    if about is None:
        raise StoreError(
            f"the store is that of a fleet, not of an evaluation: it contains no {EVALUATION}; `triocept compare "
            "--task ID` compares two runs of a fleet, and triocept.fleets.read_results reads its store",
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
    """Return the results of the planned tasks. Each key of `samples` consists of a task's id and a sample's number."""
    places = ((task.id, number) for task in about.tasks for number in range(about.samples_per_task))
    ended = tuple(samples[place] for place in places if place in samples)
    plan = {name: getattr(about, name) for name in EvaluationPlan.__struct_fields__}
    unfinished = unfinished_text(about, ended) if isinstance(about, EvaluationFile) else ""
    return EvaluationResults(**plan, samples=ended, directory=directory, unfinished=unfinished)


def unfinished_text(about: EvaluationFile, samples: Iterable[Sample]) -> str:
    """Return a text about the last rescoring if it has not scored all its samples; otherwise an empty text."""
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
    """Return the sample in `result`, which is a result of a map or of a store."""
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
    """Return how often each sample was run, by task and number. If the file `path` is missing, return no counts."""
    if not path.exists():
        return Counter()
    decode = msgspec.json.Decoder(_Place).decode
    with path.open("rb") as file:
        places = [decode(line) for line in file if line.endswith(b"\n")]
    return Counter((place.key, place.sample) for place in places if place.value.scorings == 1)
