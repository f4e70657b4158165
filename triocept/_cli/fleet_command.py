"""The command `triocept fleet`, and its options. All options are checked before any agent starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import msgspec

from .._canonical.content import Json
from .._util.terminal import say
from ..errors import StoreError
from ..fleets import Engine, RayEngine
from ..fleets.store.layout import DONE, is_store, read_run
from .agent_plan import PROMPT, agent_options, plan_fleet
from .approval import policy_of, policy_option
from .ending import end_with
from .fleet import FleetRun
from .fleet_given import ENGINES, SLOTS, engine_of, read_tasks
from .fleet_worker import Plan
from .forward import Forward, forward_of, forward_options
from .handler_file import HandlerFile, handler_option, one_model
from .limits import limit_options, limits_of
from .options import (
    Command,
    F,
    InputPath,
    Option,
    PositiveNumber,
    WholeNumber,
    add_options,
    existing_file,
    redact_option,
    script_option,
)
from .script import Script

NOTICE = "triocept has asked the agents to end; an agent that ignores this (SIGTERM) is killed after 5 s"


_in_tasks = partial(click.option, cls=Option, group="Tasks and store")
_in_workers = partial(click.option, cls=Option, group="Workers")


def fleet_options(failures: str) -> Callable[[F], F]:
    """Return a decorator that adds the options of commands that run many agents.

    `failures` completes the help text of `--fail-on-error`.
    """
    return add_options(
        _in_tasks("--limit", type=WholeNumber(1), metavar="N", help="Run only the first N tasks."),
        _in_tasks(
            "--fail-on-error",
            type=PositiveNumber(),
            metavar="LIMIT",
            help=f"End the run when LIMIT {failures}. A LIMIT below 1 is a fraction: 0.1 means one in ten.",
        ),
        agent_options(
            f"Without --agent, COMMAND starts the agent, and {PROMPT} in COMMAND stands for the task's prompt."
        ),
        click.option(
            "--workspace",
            cls=Option,
            group="Agent",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            metavar="DIR",
            help="Give each agent its own copy of this directory to work in. The copy is removed when the agent has "
            "ended. Default: an empty directory.",
        ),
        script_option,
        handler_option,
        forward_options,
        policy_option,
        limit_options,
        redact_option,
        _in_workers(
            "--engine",
            default="processes",
            metavar="ENGINE",
            show_default="processes, one for each core",
            help=f"Where the workers run: {ENGINES}. SLOTS is the number of agents that run at the same time, N the "
            "number of processes, and ADDRESS the address of a Ray cluster.",
        ),
        _in_workers(
            "--workers",
            type=WholeNumber(1),
            metavar="N",
            help="Number of workers, which is the same as N in --engine processes:N.",
        ),
        _in_workers(
            "--slots-per-worker",
            type=WholeNumber(1),
            metavar="N",
            help=f"Maximum number of agents that a worker runs at the same time. Default: {SLOTS}.",
        ),
        _in_workers(
            "--rollout-retries",
            type=WholeNumber(0),
            default=2,
            show_default=True,
            metavar="N",
            help="If a rollout kills its worker, run the rollout again, up to N times.",
        ),
        click.option(
            "--view",
            is_flag=True,
            help="Serve a page on which you watch the rollouts of all workers in a browser. The page's address, "
            "which contains its key, is printed on standard error.",
        ),
        click.option(
            "--live",
            is_flag=True,
            help="Show the rollouts of all workers in a table below the progress while they run. Without a terminal, "
            "only the progress is printed.",
        ),
        click.option("--quiet", is_flag=True, help="Do not print the progress."),
    )


@click.command(
    cls=Command,
    short_help="Run an agent for each task of a file, many at once.",
    context_settings={"allow_interspersed_args": False},
)
@existing_file(
    "--tasks",
    "Tasks and store",
    'File of tasks, one JSON object per line: {"prompt": …, "id": …, "metadata": {…}}. Only the prompt is required.',
    required=True,
    missing="Name a file of prompts, as in --tasks tasks.jsonl",
)
@_in_tasks(
    "--store",
    required=True,
    type=InputPath("Name a directory for the results, as in --store runs/today"),
    metavar="DIR",
    help="Directory for traces and results. If the directory does not exist, it is created.",
)
@_in_tasks(
    "--resume", is_flag=True, help="Continue the run that the store holds. Finished tasks are not run again."
)
@_in_tasks("--retry-errors", is_flag=True, help="Together with --resume: run failed tasks again.")
@_in_tasks(
    "--group-size", type=WholeNumber(1), metavar="N", help="Number of rollouts for each task. Default: 1."
)
@fleet_options("rollouts have failed or were lost")
@_in_workers(
    "--rollout-timeout",
    "timeout",
    type=PositiveNumber(),
    metavar="SECONDS",
    help="Cancel a rollout after SECONDS, and count it as failed. This time includes the copying of the workspace.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def fleet(
    tasks: Path,
    policy: Path | None,
    store: Path,
    resume: bool,
    engine: str,
    workers: int | None,
    slots_per_worker: int | None,
    fail_on_error: float | None,
    limit: int | None,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run an agent for each task of a file, many agents at the same time, and store their traces and results.

    The limits apply to each rollout separately. The exit status is 0 if all tasks are done; 1 if a task failed or no
    agent called the model; 2 if the command line or the file of tasks is wrong, in which case no agent was started.

    \b
    triocept fleet --tasks tasks.jsonl --agent claude-code \\
        --upstream http://127.0.0.1:8000/v1 --model qwen \\
        --engine processes:4 --slots-per-worker 64 --store runs/today
    triocept stats runs/today
    """
    runs = engine_of(engine, workers, slots_per_worker)
    plan = plan_of(command, options, engine=runs, policy=policy)
    found = read_tasks(tasks)
    check_writable(store)
    settings = settings_of(plan, policy)
    check_resume(store, resume, settings)
    if options["retry_errors"] and not resume:
        raise click.UsageError(
            "--retry-errors needs --resume, because --retry-errors repeats the failed tasks of an earlier run"
        )
    what = FleetRun(
        tasks=dict(list(found.items())[:limit]),
        plan=plan,
        engine=runs,
        store=store,
        settings=settings,
        most_failures=fail_on_error,
        **options,
    )
    end_with(what.run, script=getattr(plan.handler, "path", None), notice=NOTICE)


def plan_of(
    command: tuple[str, ...], options: dict[str, Any], *, engine: Engine, policy: Path | None
) -> Plan:
    """Return the settings that all tasks share, and remove their options from `options`.

    Raise click.UsageError if an option is invalid.
    """
    if options["live"] and options["quiet"]:
        raise click.UsageError(
            "--live and --quiet exclude each other, because --quiet hides the progress, and --live shows its table "
            "below the progress: omit one of the two options"
        )
    forward = forward_of(options)
    limits = limits_of(options, forward)
    script: Path | None = options.pop("script")
    handler: HandlerFile | None = options.pop("handler")
    workspace: Path | None = options.pop("workspace")
    agent, executable, env = (options.pop(name) for name in ("agent", "executable", "env"))
    # Ray's agents run on its nodes
    plan = plan_fleet(command, agent, executable, env, here=not isinstance(engine, RayEngine))
    if (warning := plan.overridden) and not options["quiet"]:
        say(f"▸ {warning}")
    return Plan(
        handler=one_model(
            Script(script.absolute()) if script else None,
            replace(handler, path=handler.path.absolute()) if handler else None,
            forward,
        ),
        agent=plan,
        limits=limits,
        policy=policy_of(policy, no_terminal="agents of a fleet have no terminal"),
        workspace=None if workspace is None else workspace.absolute(),
        redact=options.pop("redact"),
    )


def check_resume(store: Path, resume: bool, settings: Mapping[str, Json], option: str = "--resume") -> None:
    """Raise click.UsageError if the run in the store cannot be resumed.

    The run cannot be resumed in three cases: `resume` is True, but the store has no run. `resume` is False, but the
    store has a run. The content of a file in `settings` has changed since the run started.
    """
    done = store / DONE
    if resume and not is_store(store):
        raise click.UsageError(
            f"{option}: there is no run in {store} to continue; omit {option} to start a run"
        )
    if not resume and is_store(store) and done.exists() and done.stat().st_size:
        raise click.UsageError(
            f"{store} holds the results of a run: continue that run with --resume, or name another directory"
        )
    if resume:
        try:
            before = read_run(store).settings.get("sha256") or {}
        except StoreError as exc:
            raise click.UsageError(str(exc)) from exc
        now = settings.get("sha256") or {}
        if changed := [file for file, digest in now.items() if before.get(file, digest) != digest]:
            raise click.UsageError(
                f"{store}: the content of {changed[0]} has changed since this run started: choose another --store, or "
                "restore the file"
            )


def check_writable(store: Path) -> None:
    folder = next(each for each in (store.absolute(), *store.absolute().parents) if os.path.lexists(each))
    if not folder.is_dir():
        raise click.UsageError(f"--store {store}: {folder} is a file; name another directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(
            f"--store {store}: you have no permission to write in {folder}; name another directory"
        )


def settings_of(plan: Plan, policy: Path | None) -> dict[str, Json]:
    """Return the settings of a run that must be unchanged when the run is resumed."""
    handler, agent = plan.handler, plan.agent
    settings: dict[str, Json] = {"agent": agent.name or list(agent.command)}
    if agent.options:
        settings["agent_options"] = list(agent.options)
    if agent.env:  # values may be keys
        settings["env"] = sorted(agent.env)
    if plan.workspace is not None:
        settings["workspace"] = str(plan.workspace)
    if policy is not None:
        settings["policy"] = str(policy.absolute())
    if isinstance(handler, Script):
        settings["script"] = str(handler.path)
    elif isinstance(handler, HandlerFile):
        settings["handler"] = str(handler)
    elif isinstance(handler, Forward):
        settings["model"] = handler.model or handler.url
        for name in ("sampling", "max_output_tokens"):
            if (value := handler.options.get(name)) is not None:
                settings[name] = msgspec.to_builtins(value)
    model = handler.path if isinstance(handler, Script | HandlerFile) else None
    files = [file.absolute() for file in (model, policy) if file is not None and file.is_file()]
    if files:
        settings["sha256"] = {str(file): sha256(file.read_bytes()).hexdigest() for file in files}
    return settings
