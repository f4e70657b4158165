"""`triocept eval`: runs an agent on a list of tasks, scores its work, and prints a table."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .._util.terminal import say
from ..errors import StoreError
from .ending import end_with
from .fleet import REASON_LENGTH, check_model, relative_file_in
from .fleet_command import NOTICE, check_resume, check_writable, fleet_options, plan_of, settings_of
from .fleet_given import engine_of
from .fleet_live import followed_store, serve_view
from .fleet_worker import Plan, ignore, open_model
from .forward import Forward
from .handler_file import HandlerFile
from .live_table import LiveTable, has_terminal
from .options import Command, InputPath, Option, WholeNumber, check_tasks_file, did_you_mean, similar_file
from .script import Model, Script

if TYPE_CHECKING:
    from .._process.output import AgentResult
    from .._rollout.rollout import Rollout
    from ..evaluation import Scorer, Task
    from ..evaluation._evaluate import EvaluationRun
    from ..evaluation._worker import Answering

_SCORERS = ("check", "exact", "includes", "regex", "file", "reward")
_TASKS = InputPath("Name a file of tasks, as in: triocept eval tasks.jsonl")
_in_tasks = partial(click.option, cls=Option, group="Tasks and store")


@click.command(
    "eval",
    cls=Command,
    short_help="Run an agent on a list of tasks, score its work, and print a table.",
)
@_in_tasks(
    "--scorer",
    "scorers",
    multiple=True,
    metavar="NAME",
    help="How to score a sample. check: run the task's check command; exact, includes, regex[:PATTERN]: compare the "
    "agent's answer with the task's target or with PATTERN; file:PATH: compare the content of this file with the "
    "target; reward: use the reward of a Harbor task; FILE.py:NAME: call this function with (trace, task, workdir). "
    "May be given several times. NAME=SCORER gives a scorer another name, as in greets=regex:hello. Default: check, if "
    "every task has a check command; reward, if every task is a Harbor task.",
)
@_in_tasks(
    "--samples",
    type=WholeNumber(1),
    metavar="N",
    help="Number of samples of each task. Default: the number of epochs of an Inspect task, otherwise 1.",
)
@_in_tasks(
    "--store",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for traces and scores. If the directory does not exist, it is created. Default: "
    "runs/NAME-DATE-TIME.",
)
@_in_tasks("--resume", is_flag=True, help="Continue the evaluation that the store holds.")
@_in_tasks(
    "--retry-errors",
    is_flag=True,
    help="Continue the evaluation that the store holds, and run samples again that lack a score.",
)
@_in_tasks(
    "--rescore",
    is_flag=True,
    help="Score the samples in the store again, without running an agent. With --resume: continue a rescoring that was "
    "interrupted.",
)
@_in_tasks(
    "--keep-workdirs",
    is_flag=True,
    help="Keep the working directory of each sample in the store. Default: only if a scorer failed.",
)
@_in_tasks(
    "--task-id",
    "task_ids",
    multiple=True,
    metavar="ID",
    help="Run only this task. May be given several times.",
)
@_in_tasks(
    "--split",
    metavar="NAME",
    help="If TASKS is a folder that the package datasets has saved: name of the split to use.",
)
@_in_tasks("--name", metavar="NAME", help="Name of the evaluation. Default: the name of TASKS.")
@fleet_options("samples lack a score")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the results as one JSON object instead of the table."
)
@click.argument("tasks", type=_TASKS)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def evaluate(
    tasks: str,
    scorers: tuple[str, ...],
    samples: int | None,
    store: Path | None,
    policy: Path | None,
    engine: str,
    workers: int | None,
    slots_per_worker: int | None,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run an agent on TASKS, score its work, and print a table of the scores.

    TASKS is a file of tasks (.jsonl or .csv; for promptfoo, .yaml; for Inspect, .py or FILE.py:NAME), a folder that
    the package datasets has saved, or a folder of tasks in Harbor's format.

    A sample is scored even if its agent failed or reached a limit. A sample lacks a score if the provider failed, if
    the agent never called the model or could not be started, or if a scorer failed. The exit status is 0 if each sample
    has a score of each scorer of this command. It is 1 if a score is missing, or if --rescore kept an earlier score. It
    is 2 if the command line, the tasks or the store cannot be used.

    \b
    triocept eval tasks.jsonl --agent claude-code --scorer check \\
        --upstream http://127.0.0.1:8000/v1 --model qwen --samples 3
    triocept eval tasks.jsonl --script replies.py -- my-agent '{prompt}'
    """
    from ..evaluation import BadTasks, _worker, read_tasks
    from ..evaluation._evaluate import EvaluationRun, by_name, short_command

    _check_tasks(tasks, command)
    runs = engine_of(engine, workers, slots_per_worker)
    plan = plan_of(command, options, engine=runs, policy=policy)
    try:
        found = read_tasks(tasks, split=options["split"])
        chosen = by_name([_scorer(text) for text in scorers] or _default_scorers(found.tasks))
        evaluation = EvaluationRun(
            name=options["name"] or found.name,
            tasks=found,
            plan=_worker.Plan(
                agent=partial(_run_agent, plan),
                open_model=partial(_open_model, plan.handler),
                scorers=chosen,
                limits=plan.limits,
                workspace=plan.workspace,
                keeps_workdirs=options["keep_workdirs"],
                policy=plan.policy,
                redact=plan.redact,
            ),
            agent=plan.agent.name or short_command(plan.agent.command),
            model=_model_name(plan.handler),
            samples=samples or found.samples or 1,
            engine=runs,
            settings=settings_of(plan, policy),
            most_unscored=options["fail_on_error"],
            retries=options["rollout_retries"],
            say=_say,
        ).chosen(options["limit"], options["task_ids"] or None)
    except OSError as exc:
        raise click.UsageError(f"{exc.filename}: {exc.strerror}") from exc
    except (BadTasks, ValueError, TypeError, ImportError) as exc:
        raise click.UsageError(str(exc)) from exc
    name = re.sub(r"[^\w.-]+", "-", evaluation.name)
    continues = [
        f"--{name.replace('_', '-')}" for name in ("resume", "retry_errors", "rescore") if options[name]
    ]
    if continues and store is None:
        found_stores = sorted(map(str, Path("runs").glob(f"{glob.escape(name)}-*")))
        newest = f"; the newest store of this evaluation is {found_stores[-1]}" if found_stores else ""
        raise click.UsageError(f"{continues[0]} needs --store DIR, the store to continue{newest}")
    store = store or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_writable(store)
    if options["rescore"] and options["retry_errors"]:
        raise click.UsageError(
            "--rescore and --retry-errors exclude each other: run the command once for each of them"
        )
    options["rescore"] = "resume" if options["rescore"] and options["resume"] else options["rescore"]
    check_resume(store, bool(continues), evaluation.settings, next(iter(continues), "--resume"))
    work = partial(_run, evaluation, plan, store, options)
    end_with(work, script=getattr(plan.handler, "path", None), notice=NOTICE)


def _check_tasks(tasks: str, command: tuple[str, ...]) -> None:
    """Raise click.UsageError if `tasks` is not a file or folder of tasks, or if the command is a scorer."""
    usage = "triocept eval tasks.jsonl --scorer includes -- my-agent '{prompt}'"
    for word in (str(tasks), *command[:1]):
        if word in _SCORERS and which(word) is None and not Path(word).exists():
            raise click.UsageError(f"{word} is a scorer: write --scorer {word}, as in: {usage}")
    file = Path(re.sub(r"(?<=\.py):.*", "", str(tasks)))
    if not file.exists():
        hint = similar_file(file, f": TASKS comes first, as in: {usage}")
        raise click.UsageError(f"there is no file {str(tasks)!r}{hint}")
    check_tasks_file(Path(tasks))


async def _run(evaluation: EvaluationRun, plan: Plan, store: Path, options: dict[str, Any]) -> int:
    from ..evaluation._table import counts_of, cut, reasons_of

    if not options["rescore"]:
        await check_model(plan.handler, evaluation.say)
    prices = plan.limits.prices
    table = LiveTable(prices) if options["live"] and has_terminal() else None
    try:
        async with serve_view(options["view"], str(store)) as view:
            watched = replace(
                evaluation,
                watch=lambda fleet: followed_store(fleet, store, prices, table, view),
                below=None if table is None else table.picture,
            )
            results = await watched.run(
                store,
                retry_errors=options["retry_errors"],
                rescore=options["rescore"],
                progress=not options["quiet"],
            )
    except StoreError as exc:
        raise click.UsageError(str(exc)) from exc
    except BaseException:
        evaluation.say(f"store    {store}")
        also = "" if not options["rescore"] or options["resume"] else " as well"
        evaluation.say(f"to run the other samples, use the same command with --resume{also}")
        raise
    evaluation.say(f"store    {store}")
    if options["as_json"]:
        click.echo(msgspec.json.encode(results.document()))
    else:
        click.echo(results.table())
    scorers = [*evaluation.plan.scorers]
    unscored = results.planned - len(results.scored_by(scorers))
    for text in reasons_of(results):
        evaluation.say(cut(text, REASON_LENGTH))
    if not results.score_names and (hint := relative_file_in(plan)):
        evaluation.say(hint)
    if unscored:
        counts = counts_of(results, scorers)
        for name, (number, why) in counts.items():
            if why:
                evaluation.say(
                    f"{name}: {number:,} of {results.planned:,} samples have its score; the others: {why}"
                )
        evaluation.say(f"{unscored:,} of {results.planned:,} samples lack a score")
        missing = results.planned - len(results.samples)
        if options["rescore"] or any("not scored" in why for _, why in counts.values()):
            ended = sum(each.ended is not None for each in results.samples)
            if unrun := results.planned - ended:
                evaluation.say(f"{unrun:,} of them have no work to score: first run them with --retry-errors")
            if unscored > unrun:
                evaluation.say(
                    "repair failed scorers, and use the same command with --rescore, without --resume"
                )
        else:
            option = "--resume" if missing == unscored else "--retry-errors"
            evaluation.say(f"to run them again, use the same command with {option}")
            if not results.score_names and not missing:
                evaluation.say("if you have changed the agent's command, name another --store")
    incomplete = options["rescore"] and (results.unfinished or evaluation.not_rescored(results))
    return 1 if unscored or incomplete else 0


def _say(text: str) -> None:
    text = text.replace("retry_errors", "--retry-errors").replace("keep_workdirs", "--keep-workdirs")
    text = text.replace('rescore="resume"', "--rescore --resume")
    say(f"▸ {text}")


async def _run_agent(plan: Plan, rollout: Rollout, task: Task, workdir: Path) -> AgentResult:
    launch = plan.launch(rollout, workdir.parent / "agent", task.prompt)
    return await rollout.run_agent(launch.argv, env=launch.env, cwd=workdir)


@asynccontextmanager
async def _open_model(handler: Model | None) -> AsyncIterator[Callable[[], Answering]]:
    async with open_model(handler) as model:

        @asynccontextmanager
        async def answering() -> AsyncIterator[Any]:
            async with model.open(ignore) as answers:
                yield answers.model, answers.embeddings

        yield answering


def _model_name(handler: Model | None) -> str:
    if isinstance(handler, Forward):
        return handler.model or handler.url
    if isinstance(handler, HandlerFile):
        return f"{handler.path.name}:{handler.name}"
    return handler.path.name if isinstance(handler, Script) else "greeting"


def _scorer(text: str) -> Any:
    """Return the scorer that `--scorer` names. Raise click.UsageError if there is no such scorer."""
    from .. import evaluation

    file, _, name = text.rpartition(":")
    if file.endswith(".py"):
        if not Path(file).is_file():
            raise click.UsageError(f"--scorer {text}: the file {file} does not exist")
        return HandlerFile(Path(file).absolute(), name, option="--scorer")
    label, equals, rest = text.partition("=")
    named = {"name": label} if equals and label.isidentifier() else {}
    name, colon, argument = (rest if named else text).partition(":")
    with_argument: dict[str, Any] = {"regex": evaluation.regex, "file": evaluation.file_content}
    factories: dict[str, Any] = with_argument | {
        "check": evaluation.check_command,
        "exact": evaluation.exact,
        "includes": evaluation.includes,
        "reward": evaluation.harbor_reward,
    }
    if name not in (with_argument if colon else factories):
        if text.endswith(".py"):
            raise click.UsageError(f"--scorer {text}: the name of the function is missing: write {text}:NAME")
        known = f"; the scorers are {', '.join(factories)} and FILE.py:NAME"
        raise click.UsageError(
            f"--scorer {text}: there is no such scorer{did_you_mean(name, factories, known)}"
        )
    if name == "file" and not argument:
        raise click.UsageError(
            "--scorer file needs the path of a file in the agent's working directory: write file:PATH"
        )
    try:
        return factories[name](*([argument] if colon else []), **named)
    except re.error as exc:
        raise click.UsageError(f"--scorer {text}: {argument!r} is not a regular expression: {exc}") from exc


def _default_scorers(tasks: list[Task]) -> list[Scorer]:
    from .. import evaluation

    if all(task.check for task in tasks):
        return [evaluation.check_command()]
    if all("harbor" in task.metadata for task in tasks):
        return [evaluation.harbor_reward()]
    raise click.UsageError(
        "--scorer is missing, and not every task has a check command: add a --scorer; for example, --scorer includes "
        "compares the agent's answer with the task's target"
    )
