"""`evaluate`: runs all samples of all tasks on a fleet, and returns their scores.

Rules:

1. Every error in the tasks, the scorers, the agent or the store is reported before an agent starts.
2. However the evaluation ends, the store contains every finished sample. A second call of `evaluate` with the same
   store runs only the unfinished samples.
3. A sample that lacks a score is run again only with `retry_errors`. Each call of `evaluate` reports such samples when
   it starts. If only scorers failed for a sample, and the store has kept its working directory, only these scorers run
   again, and not the agent.
4. With `rescore`, no agent runs. If a scorer has scored a sample several times, its last score counts. The lines with
   the earlier scores stay in `done.jsonl`. An interrupted rescoring can be resumed only with the same scorers and
   tasks.
5. If a rescoring has added a scorer, this scorer does not belong to the settings of the store. A later run may omit the
   scorer. Samples for which the omitted scorer failed then count as scored.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
import trio

from .._canonical.content import Json
from .._process.output import AgentResult
from .._rollout.budget import Limits
from .._rollout.functions import awaited
from .._rollout.handler import Handler, check_handler, configured_model
from .._rollout.rollout import Rollout
from .._util.checks import check_bool, check_callable, check_count, meant, takes
from .._util.figures import counted
from .._util.terminal import say
from ..agents import agent as find_agent
from ..errors import StoreError
from ..fleets import Engine, Fleet, InProcess, Store, open_fleet, open_store
from ..fleets.functions import name_of
from ..fleets.store.keys import key_of
from ..fleets.store.layout import EVALUATION, is_store, read_run, write_document
from ..fleets.store.store import check_unchanged, run_again
from ..handlers import ScriptedModel
from ._progress import Counts
from ._types import (
    EvaluationFile,
    EvaluationResults,
    Rescoring,
    Sample,
    Task,
    read_evaluation,
    read_results,
    results_of,
    sample_failed,
    sample_of,
)
from ._worker import (
    AgentFunction,
    Answering,
    Plan,
    Scorer,
    is_path,
    loaded,
    open_bench,
    run_sample,
    takes_answer,
)
from .readers import is_tasks_file, read_tasks
from .readers.reading import MOST_ERRORS, BadTasks, TaskList, listed

log: logging.Logger = logging.getLogger("triocept.evaluation")

_LIKE_A_PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.[A-Za-z]\w*")
PROMPT = "{prompt}"
"""Placeholder in a command. The prompt of a task replaces it."""


async def evaluate(
    tasks: str | os.PathLike[str] | Iterable[Task | Mapping[str, Any]],
    agent: str | Sequence[str] | AgentFunction,
    *,
    model: Handler | Callable[[], Any],
    scorers: Scorer | Sequence[Scorer],
    samples: int = 1,
    store: str | os.PathLike[str] | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    workspace: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    task_ids: Collection[str] | None = None,
    retry_errors: bool = False,
    rescore: bool | Literal["resume"] = False,
    keep_workdirs: bool = False,
    name: str | None = None,
    model_name: str | None = None,
    progress: bool = False,
) -> EvaluationResults:
    """Run an agent on a list of tasks, score its work, and return the results.

    For example::

        results = await triocept.evaluate(
            "tasks.jsonl", "claude-code", model=partial(open_upstream, url, dialect="openai_chat"),
            scorers=evaluation.check_command(), samples=3, store="runs/today",
        )  # fmt: skip
        print(results.table())

    Each sample has its own working directory and its own rollout. A sample is scored if the agent called the model and
    each scorer returned a number, even if the agent ended with an error or at a limit. Otherwise, the sample lacks a
    score, and `Sample.reason` contains the reason. If you pass a store and the evaluation ends early, the same call of
    `evaluate` resumes it. The store must have been made with the same agent, model and scorers, but only their names
    are compared. If the code of a scorer has changed, pass `rescore=True`. If the code of the agent or the model has
    changed, use another store.

    Args:
        tasks: tasks, or the path of a file or folder of tasks (see `read_tasks`).
        agent: name of a known agent (`"claude-code"`), a command in which `{prompt}` stands for the task's prompt, or a
            function `async (rollout, task, workdir) -> answer`.
        model: a handler that answers the model calls, or a function without arguments. If the function returns an async
            context, such as `open_upstream(…)`, each worker opens the context once. If the function returns a handler,
            it is called once for each sample: `lambda: ScriptedModel(replies)`.
        scorers: functions `(trace, task, workdir) -> Score, number, bool or dict`, async or not. Scorers run after the
            agent has ended. If a scorer has a parameter `answer`, the agent's answer is passed to it, too.
        samples: number of samples of each task.
        store: directory in which traces and scores are stored. None means that they are kept only in memory.
        engine: the kind and number of workers, as in `open_fleet`. If the workers are processes, all functions that you
            pass must be importable, or defined in `__main__`.
        limits: limits of each sample, in addition to those of its task.
        workspace: directory of which each sample gets a copy as its working directory. None means an empty directory.
        limit: maximum number of tasks to run, from the start of the list.
        task_ids: ids of the tasks to run; None means all.
        retry_errors: if True, the samples in the store that lack a score run again. If only scorers of a sample failed,
            only these scorers run again, with the working directory that the store has kept.
        rescore: if True, the recorded samples of the store are scored again, and no agent runs. The scorers may differ
            from the scorers of earlier runs. A new score replaces the earlier score of the same scorer. If "resume", a
            rescoring that has ended early is continued; the scorers and tasks must be the same. If a scorer needs a
            working directory that the store has not kept, it gives no new score, and its earlier score stays valid.
        keep_workdirs: if True, the store keeps the working directory of each sample, so that scorers can read it again.
            If False, it keeps the directory of a sample only if a scorer failed.
        name: name of the evaluation. None means the name of the file of tasks.
        model_name: name of the model in tables and comparisons. None means: for an upstream, its model name or its
            address; for any other model, the name of the function that makes the handler, or for a lambda the file and
            line of its code.
        progress: if True, the progress is shown on standard error.

    Raises:
        BadTasks: the tasks are invalid; the error's text lists the place of each mistake.
        TypeError, ValueError: another argument is invalid.
        StoreError: the store belongs to another evaluation, or cannot be used.
        FleetLost: no worker is left.

    Cancellation: ends the running agents. The store keeps the finished samples.
    """
    check_count("samples", samples, least=1)
    check_bool("retry_errors", retry_errors)
    check_bool("keep_workdirs", keep_workdirs)
    if not isinstance(rescore, bool) and rescore != "resume":
        raise ValueError(f'rescore must be True, False or "resume", not {rescore!r}')
    if store is None and (rescore or keep_workdirs):
        raise ValueError(
            f"{'rescore' if rescore else 'keep_workdirs'} needs store=, the directory of the samples"
        )
    if rescore and retry_errors:
        raise ValueError("rescore and retry_errors exclude each other: call evaluate once for each of them")
    check_bool("progress", progress)
    agent_name, function = _agent_of(agent)
    found = read_tasks(tasks) if isinstance(tasks, str | os.PathLike) else listed(tasks, "evaluation")
    found_name, opening = _model_of(model)
    scored_by: Any = scorers
    is_list = isinstance(scored_by, Sequence) and not isinstance(scored_by, str)
    given: list[Scorer] = [*scored_by] if is_list else [scored_by]
    run = EvaluationRun(
        name=name or found.name,
        tasks=found,
        plan=Plan(
            agent=function,
            open_model=opening,
            scorers=by_name(given),
            limits=limits or Limits(),
            workspace=None if workspace is None else Path.cwd() / workspace,
            keeps_workdirs=keep_workdirs,
        ),
        agent=_shown(agent, agent_name),
        model=model_name or _shown(model, found_name),
        samples=samples,
        engine=engine or InProcess(),
        settings={
            "agent": agent_name if isinstance(agent, str) or callable(agent) else [*agent],
            "model": model_name or found_name,
        },
    ).chosen(limit, task_ids)
    directory = None if store is None else Path(store)
    return await run.run(directory, retry_errors=retry_errors, rescore=rescore, progress=progress)


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """An evaluation whose arguments are already checked."""

    name: str
    tasks: TaskList
    plan: Plan
    agent: str
    model: str
    samples: int
    engine: Engine
    settings: Mapping[str, Json]
    """Settings that must be the same when the evaluation is resumed."""
    planned: tuple[Task, ...] = ()
    """The tasks that this evaluation runs."""
    most_unscored: float | None = None
    """The run ends when this number of samples lack a score. A number below 1 is a share of all samples; None means no
    limit."""
    retries: int = 2
    watch: Callable[[Fleet], AbstractAsyncContextManager[object]] = nullcontext
    """Function that is called with the fleet, and returns a context that is open while the fleet runs."""
    below: Callable[[int, int], Any] | None = None
    """Function `(width, height)` that returns the text that a terminal shows below the progress display."""
    say: Callable[[str], None] = log.warning

    def chosen(self, limit: int | None, ids: Collection[str] | None) -> EvaluationRun:
        """Return this evaluation with only the tasks that `limit` and `ids` select.

        Raise BadTasks if an id in `ids` is unknown, or if a scorer cannot score one of the selected tasks.
        """
        tasks = self.tasks.tasks
        if ids is not None:
            ids = [ids] if isinstance(ids, str) else [*map(str, ids)]
            if missing := sorted(set(ids) - {task.id for task in tasks}):
                hint = meant(missing[0], [task.id for task in tasks][:MOST_ERRORS], "the first ids are")
                raise BadTasks(f"there is no task with the id {missing[0]!r} in {self.tasks.name}{hint}")
            tasks = [task for task in tasks if task.id in ids]
        if limit is not None:
            check_count("limit", limit, least=1)
        self.tasks.errors += [
            f"{self.tasks.places[task.id]}: task {task.id!r}: {problem}"
            for task in tasks[:limit]
            for scorer in self.plan.scorers.values()
            if (check := getattr(loaded(scorer), "problem", None)) and (problem := check(task))
        ]
        self.tasks.checked(self.tasks.name)
        missing_files = [
            f"task {task.id!r}: there is no file {source!r}, so this text is the content of {path}"
            for task in tasks[:limit]
            for path, source in {**task.files, **task.check_files}.items()
            if _LIKE_A_PATH.fullmatch(source) and not is_path(source)
        ]
        for text in missing_files[:MOST_ERRORS]:
            self.say(text)
        return replace(self, planned=tuple(tasks[:limit]))

    async def run(
        self,
        directory: Path | None,
        *,
        retry_errors: bool = False,
        rescore: bool | Literal["resume"] = False,
        progress: bool = False,
    ) -> EvaluationResults:
        """Run the samples that the store lacks, and return the results of all samples.

        With `rescore`, run only the scorers, on the samples that the store contains.
        """
        about = EvaluationFile(
            name=self.name,
            agent=self.agent,
            model=self.model,
            samples_per_task=self.samples,
            scorers=tuple(self.plan.scorers),
            started_at=time.time(),
            tasks=self.planned,
        )
        planned = {(task.id, number) for task in self.planned for number in range(self.samples)}
        if directory is None:
            samples = await self._map(
                self.plan, None, Counts(self.name, self.plan.scorers), planned, progress=progress
            )
            return results_of(about, {(each.task, each.number): each for each in samples})
        settings = {**self.settings, "scorers": self._scorers_of_run(directory, rescore=bool(rescore))}
        async with open_store(directory, settings=settings, retry_errors=retry_errors) as store:
            about = self._check(store, about, rescore=rescore)
            write_document(store.directory, EVALUATION, about)
            known = {task.id for task in about.tasks}
            planned = {place for place in planned if place[0] in known}
            counts = Counts(self.name, self.plan.scorers)
            before = read_results(store.directory)
            again: dict[tuple[str, int], bool] = {}
            """The samples in the store that run again, by task and number. The value is True if only the sample's
            scorers run."""
            done: set[tuple[str, int]] = set()
            for sample in before.samples:
                if (place := (sample.task, sample.number)) not in planned:
                    continue
                if rescore and sample.ended is not None and sample.rescoring < about.rescorings:
                    again[place] = True
                elif not rescore and (
                    sample.reason == "worker_lost"
                    or (retry_errors and sample_failed(sample, self.plan.scorers))
                ):
                    again[place] = bool(sample.failures) and sample.workdir is not None
                else:
                    done.add(place)
                    counts.add(sample)
            if rescore:
                self.say(f"{len(again):,} of {len(planned):,} samples are scored again; no agent runs")
            else:
                if before.unfinished:
                    self.say(f'{before.unfinished}; to continue it: rescore="resume"')
                self._report(before, [alone for alone in again.values() if alone], retry_errors=retry_errors)
            offsets = run_again(store, again, runs_others=not rescore)
            plan = replace(
                self.plan,
                store=store.directory,
                scored_alone={place: offset for place, offset in offsets.items() if again[place]},
                rescoring=about.rescorings,
                only_failed=not rescore,
            )
            if wanted := {*again} if rescore else planned - done:
                await self._map(plan, store, counts, wanted, progress=progress)
        results = read_results(directory)
        if rescore:
            for name, count in self.not_rescored(results).items():
                self.say(
                    f"{name}: {count:,} of {len(planned):,} samples keep their earlier score, because the store did "
                    "not keep the working directories that the scorer reads: run the evaluation again with "
                    "keep_workdirs"
                )
        return results

    def not_rescored(self, results: EvaluationResults) -> Counter[str]:
        """Return, for each scorer, the number of samples that keep the scorer's earlier score.

        Such samples exist because the store has not kept the working directories that the scorer needs.
        """
        tasks = {task.id for task in self.planned}
        names = (name for each in results.samples if each.task in tasks for name in each.not_rescored)
        return Counter(name for name in names if name in self.plan.scorers)

    def _scorers_of_run(self, directory: Path, *, rescore: bool) -> list[str]:
        """Return the names of scorers to compare with the setting `scorers` of the store.

        A difference makes the store raise.

        With `rescore`, return the setting itself, because any scorers are allowed. Otherwise the evaluation must have
        all scorers in the setting, and may also have scorers that a rescoring has added: then return the setting, too.
        If the evaluation's scorers are not allowed, return their names, which differ from the setting.
        """
        names = [*self.plan.scorers]
        if rescore:
            return list(read_run(directory).settings.get("scorers", names))
        if not is_store(directory) or (before := read_evaluation(directory)) is None:
            return names
        first = read_run(directory).settings.get("scorers", names)
        return first if {*first} <= {*names} <= {*before.scorers} else names

    def _check(
        self, store: Store, about: EvaluationFile, *, rescore: bool | Literal["resume"]
    ) -> EvaluationFile:
        """Return `about`, with the tasks, scorers, start time and rescorings of earlier runs in the store added to it.

        Raise StoreError if the store was made with another list of tasks, or if its samples cannot be rescored now.
        """
        wrong = partial(StoreError, path=str(store.directory))
        before = read_evaluation(store.directory)
        if before is None:
            if store.done:
                raise wrong(
                    f"the store is that of a fleet, not of an evaluation: it contains no {EVALUATION}"
                )
            return about
        for task in before.tasks:
            if task.id not in self.tasks.places:
                raise wrong(
                    f"the store belongs to another list of tasks: it has the task {task.id!r}, which is not in "
                    f"{self.tasks.name}; use another directory as the store"
                )
        if (least := before.samples_per_task) > self.samples:
            raise wrong(
                f"the store was planned with {least} samples of each task, not {self.samples}: use at least {least}, "
                "or another directory"
            )
        if rescore and least < self.samples:
            raise wrong(
                f"the store contains {counted(least, 'sample', 'samples')} of each task, and a rescoring adds none: "
                f"the number of samples must be {least}, not {self.samples}"
            )
        known = {task.id for task in (before.tasks if rescore else (*before.tasks, *about.tasks))}
        tasks = [task for task in self.tasks.tasks if task.id in known]
        for task in tasks:
            try:
                check_unchanged(store, key_of(task, self.tasks.places[task.id]), self.samples)
            except StoreError:
                raise wrong(
                    f"{self.tasks.places[task.id]}: task {task.id!r} differs from the task that the store has under "
                    "this id: give it a new id, or use another directory"
                ) from None
        names = tuple(dict.fromkeys((*before.scorers, *about.scorers)))
        try:
            check_names(names)
        except ValueError as exc:
            raise wrong(str(exc)) from None
        last, rescorings = before.last_rescoring, before.rescorings
        if rescore:
            now = Rescoring(
                scorers={name: description_of(scorer) for name, scorer in self.plan.scorers.items()},
                tasks=tuple(task.id for task in about.tasks if task.id in known),
            )
            if problem := _conflict(now, last, read_results(store.directory), rescore=rescore):
                raise wrong(problem)
            last, rescorings = now, rescorings + (rescore is True)
        return msgspec.structs.replace(
            about,
            started_at=before.started_at,
            tasks=tuple(tasks),
            scorers=names,
            rescorings=rescorings,
            last_rescoring=last,
        )

    def _report(self, before: EvaluationResults, alone: Sequence[object], *, retry_errors: bool) -> None:
        """Report the samples of earlier runs that lack a score.

        `alone` contains the samples whose scorers will run again without their agent.
        """
        unscored = [sample for sample in before.samples if sample_failed(sample, self.plan.scorers)]
        if not unscored:
            return
        kinds = Counter(str(sample.reason).replace("_", " ") for sample in unscored)
        what = ", ".join(f"{count} {reason}" for reason, count in kinds.most_common())
        names = ", ".join(f"{sample.task}/{sample.number}" for sample in unscored[:5])
        more = ", …" if len(unscored) > 5 else ""
        again = retry_errors or [*kinds] == ["worker lost"]
        then = "they are run again" if again else "to run them again: retry_errors"
        if alone:
            then += f", {len(alone):,} of them without their agents, because only scorers failed"
        self.say(
            f"{len(unscored)} of {len(before.samples)} samples of earlier runs lack a score ({what}): "
            f"{names}{more}; {then}"
        )

    async def _map(
        self,
        plan: Plan,
        store: Store | None,
        counts: Counts,
        wanted: Collection[tuple[str, int]],
        *,
        progress: bool,
    ) -> list[Sample]:
        """Run the `wanted` samples on a fleet.

        Return the samples if `store` is None. Otherwise the samples are only written into the store.
        """
        found: list[Sample] = []
        started = trio.current_time()
        most = inf if self.most_unscored is None else self.most_unscored
        if most < 1:
            most *= len(self.planned) * self.samples
        if counts.unscored >= most:
            self.say(
                f"{counts.unscored:,} samples of earlier runs lack a score: no further sample is run (--fail-on-error)"
            )
            return found
        plan = replace(plan, in_process=isinstance(self.engine, InProcess))
        opening = open_fleet(
            self.engine,
            worker=partial(open_bench, plan),
            retries=self.retries,
            progress=cast(bool, counts) if progress else False,
        )
        if self.below is not None:
            counts.below = self.below  # type: ignore[assignment]
        async with opening as fleet, self.watch(fleet):
            mapping: Any = fleet.map(run_sample, self.planned, group_size=self.samples, store=store)
            async with mapping as results:
                async for result in results:
                    key = result.task.id if result.key is None else result.key
                    sample = sample_of(msgspec.structs.replace(result, key=key))
                    if (sample.task, sample.number) not in wanted:
                        continue  # the map yields all samples of a task
                    counts.add(sample)
                    if store is None:
                        found.append(sample)
                    if counts.unscored >= most:
                        self.say(
                            f"{counts.unscored:,} samples lack a score: the run ends here (--fail-on-error)"
                        )
                        break
        if progress:
            total = len(self.planned) * self.samples
            say(f"▸ {counts.line(total, trio.current_time() - started)}")
        return found


def by_name(scorers: Sequence[Scorer]) -> dict[str, Scorer]:
    """Return the scorers by their names.

    Raise TypeError if an item of `scorers` is not a scorer. Raise ValueError if two scorers may give scores with the
    same name, or if there is no scorer.
    """
    found: dict[str, Scorer] = {}
    for given in scorers:
        scorer = loaded(given)
        check_callable("a scorer", scorer, "a function (trace, task, workdir) -> score")
        function = partial(scorer, answer="") if takes_answer(scorer) else scorer
        if isinstance(scorer, type) or not takes(function, 3):
            own = getattr(scorer, "__module__", "").startswith(f"{__package__}.")
            hint = f": write {scorer.__name__}(…), which returns a scorer" if own else ""
            raise TypeError(f"a scorer must take (trace, task, workdir); {name_of(scorer)} does not{hint}")
        name = getattr(scorer, "name", None) or name_of(scorer).rpartition(".")[2]
        if name in found:
            raise ValueError(f"two scorers have the name {name!r}: give one of them another name")
        found[name] = given
    check_names(found)
    if not found:
        raise ValueError(
            "an evaluation needs at least one scorer: pass, for example, scorers=evaluation.check_command()"
        )
    return found


def description_of(scorer: Any) -> str:
    """Return a text that identifies a scorer.

    The text consists of the scorer's name and its simple arguments or, for a scorer in a file, the digest of the file.
    """
    if isinstance(path := getattr(scorer, "path", None), Path) and path.is_file():  # `--scorer FILE.py:NAME`
        return f"{scorer} sha256:{sha256(path.read_bytes()).hexdigest()}"
    arguments = [
        each
        for each in getattr(getattr(scorer, "score", None), "args", ())
        if isinstance(each, str | bool | None)
    ]
    return " ".join([name_of(scorer), *map(repr, arguments)])


def _conflict(
    now: Rescoring, last: Rescoring | None, before: EvaluationResults, *, rescore: bool | Literal["resume"]
) -> str | None:
    """Return the reason why the rescoring `now` is refused; None if it is allowed.

    A rescoring is refused if, after it, a scorer's new scores and earlier scores would be mixed in one evaluation.
    """
    if rescore == "resume":
        if last is None:
            return "it was never scored again, so there is no rescoring to resume: omit resume"
        if now.scorers != last.scorers:
            names = {**last.scorers, **now.scorers}
            changed = next(name for name in names if now.scorers.get(name) != last.scorers.get(name))
            return (
                f"its last rescoring was by {', '.join(last.scorers)}, but the scorer {changed} differs now: resume "
                "with the same scorers, or score all samples again without resume"
            )
        if now.tasks != last.tasks:
            return (
                f"its last rescoring was of {len(last.tasks)} tasks, and now other tasks are selected "
                f"({len(now.tasks)}): resume with the same tasks, or score all samples again without resume"
            )
    elif (
        last is not None
        and before.unfinished
        and len({each.rescoring for each in before.samples if each.task in last.tasks and each.ended}) > 1
        and not ({*last.scorers} <= {*now.scorers} and {*last.tasks} <= {*now.tasks})
    ):
        return (
            f"{before.unfinished}: first resume this rescoring, or rescore at least its scorers and its tasks"
        )
    return None


def check_names(scorers: Collection[str]) -> None:
    for name in scorers:
        if longer := next((each for each in scorers if each.startswith(f"{name}.")), None):
            raise ValueError(
                f"the scorers {name!r} and {longer!r} may give scores with the same name, because the names of the "
                f"scores in a dict that {name!r} returns start with '{name}.': give one of them another name"
            )


# The agent


async def _run_command(command: tuple[str, ...], rollout: Rollout, task: Task, workdir: Path) -> AgentResult:
    argv = [word.replace(PROMPT, task.prompt) for word in command]
    return await rollout.run_agent(argv, cwd=workdir)


async def _run_known(name: str, rollout: Rollout, task: Task, workdir: Path) -> AgentResult:
    launch = find_agent(name)(rollout, workdir.parent / "agent", task.prompt)
    return await rollout.run_agent(launch.argv, env=launch.env, cwd=workdir)


def short_command(words: Sequence[str]) -> str:
    """Return a command, shortened to a few words without directories and without the prompt: `python agent.py`."""
    return " ".join(os.path.basename(word) for word in words if word != PROMPT)


def _agent_of(agent: object) -> tuple[str, AgentFunction]:
    """Return the name of `agent`, and a function that runs it. Raise TypeError or ValueError if `agent` is invalid."""
    if isinstance(agent, str):
        if is_tasks_file(agent):
            raise TypeError(
                f"the tasks are the first argument, and the agent the second: {agent!r} is a file of tasks"
            )
        find_agent(agent)
        return agent, partial(_run_known, agent)
    if isinstance(agent, Sequence):
        words = tuple(map(str, agent))
        if not any(PROMPT in word for word in words):
            raise ValueError(
                f'the agent\'s command needs a place for the prompt: add the word "{PROMPT}" to the command'
            )
        return short_command(words), partial(_run_command, words)
    check_callable("agent", agent, "a name, a command, or an async function (rollout, task, workdir)")
    if not takes(agent, 3):
        raise TypeError(f"agent must take (rollout, task, workdir); {name_of(agent)} does not")
    return name_of(agent), agent  # type: ignore[return-value]


def _shown(function: object, name: str) -> str:
    """Return a short name of `function` for messages: the last part of `name`, or the file and line of a lambda."""
    code = getattr(function, "__code__", None)
    if code is not None and code.co_name == "<lambda>":
        return f"lambda ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"
    return name.rpartition("<locals>.")[2]


# The model


@dataclass(frozen=True)
class GivenModel:
    """The argument `model` of `evaluate`. A worker calls this object to open the model."""

    model: Any

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Callable[[], Answering]]:
        first = await awaited(self.model()) if self.is_factory else self.model
        if isinstance(first, AbstractAsyncContextManager):
            async with first as handler:
                check_handler(handler)
                yield partial(_answering, lambda: handler)
            return
        check_handler(first)
        await trio.lowlevel.checkpoint()
        yield partial(_answering, self.model if self.is_factory else lambda: first)

    @property
    def is_factory(self) -> bool:
        return callable(self.model) and takes(self.model, 0)


@asynccontextmanager
async def _answering(model: Callable[[], Any]) -> AsyncIterator[tuple[Handler, None]]:
    yield await awaited(model()), None


def _model_of(model: object) -> tuple[str, GivenModel]:
    """Return the name of `model`, and an object that opens it in a worker.

    Raise TypeError if `model` cannot be the model of an evaluation.
    """
    given = GivenModel(model)
    if given.is_factory:
        first = next(iter(getattr(model, "args", ())), "")
        # without a password
        address = urlsplit(first).netloc.rpartition("@")[2] if isinstance(first, str) else ""
        return getattr(model, "keywords", {}).get("model") or address or name_of(model), given
    if isinstance(model, ScriptedModel):
        raise TypeError(
            "a ScriptedModel answers only one rollout: pass a function that returns a new one for each sample, as in "
            "model=lambda: ScriptedModel(replies)"
        )
    if isinstance(model, AbstractAsyncContextManager):
        raise TypeError(
            f"{model!r} can be opened only once: pass a function that returns it, as in "
            "model=partial(open_upstream, url, …)"
        )
    check_handler(model)
    return configured_model(model) or name_of(model), given
