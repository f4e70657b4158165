"""`triocept fleet`: its options."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from shutil import which

import click
import msgspec

from .._canonical.content import Json
from .._rollout.budget import Limits
from .._trace.redaction import Redaction
from ..agents import AGENTS
from ..agents import agent as find_agent
from ..fleets import RayEngine
from ..fleets.store.layout import DONE, is_store
from .ending import end_with
from .fleet import FleetRun
from .fleet_given import ENGINES, SLOTS, engine_of, read_tasks
from .fleet_worker import PROMPT, Plan
from .forward import Forward, forward_options
from .limits import limit_options
from .options import env_option
from .redact import redact_option
from .script import Script

_NOTICE = "the agents are being ended: one that ignores SIGTERM is killed after 5 s"


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--tasks",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='What is to be done: a JSON object in each line, {"prompt": …, "id": …, "metadata": {…}}; only the prompt '
    "has to be there.",
)
@click.option(
    "--agent",
    type=click.Choice([name.replace("_", "-") for name in AGENTS]),
    help=f"A known agent; without it, COMMAND is one, in which {PROMPT} stands for the prompt.",
)
@click.option("--executable", help="The command of that agent, where it is not the usual one.")
@env_option
@click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory of which each agent gets a copy to work in; without it, an empty one. Gone when the agent is.",
)
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the model says, to each rollout from the beginning: as of `triocept run`. Without it and without "
    "--upstream, every call is answered with one friendly sentence.",
)
@forward_options
@limit_options
@click.option(
    "--store",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory that traces and results go into.",
)
@redact_option
@click.option(
    "--resume", is_flag=True, help="Go on with the run whose store it is: what is done is not done again."
)
@click.option("--retry-errors", is_flag=True, help="Of what is done, run again what failed. With --resume.")
@click.option(
    "--group-size", type=click.IntRange(1), metavar="N", help="How often each task is run; 1 unless said."
)
@click.option(
    "--engine",
    default="processes",
    metavar="ENGINE",
    show_default="processes, one for each core",
    help=f"What runs the workers: {ENGINES}.",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="How many workers; processes:N says it, too."
)
@click.option(
    "--slots-per-worker",
    type=click.IntRange(1),
    metavar="N",
    help=f"How many agents a worker runs at once; {SLOTS} unless said.",
)
@click.option(
    "--rollout-retries",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="N",
    help="How often a rollout is run again that ended its worker alone; see `open_fleet(retries=)`.",
)
@click.option(
    "--rollout-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Cancel a rollout after so long, its workspace and its end included; it has failed then.",
)
@click.option(
    "--fail-on-error",
    type=click.FloatRange(0, min_open=True),
    metavar="LIMIT",
    help="End the run when so many rollouts have failed or were lost: a number, or a share of all (0.1).",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Run the first N tasks of the file alone.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def fleet(
    tasks: Path,
    agent: str | None,
    executable: str | None,
    env: dict[str, str],
    workspace: Path | None,
    script: Path | None,
    forward: Forward | None,
    limits: Limits,
    store: Path,
    redact: Redaction | None,
    resume: bool,
    retry_errors: bool,
    group_size: int | None,
    engine: str,
    workers: int | None,
    slots_per_worker: int | None,
    rollout_retries: int,
    rollout_timeout: float | None,
    fail_on_error: float | None,
    limit: int | None,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run an agent for each task of a file, many at once; traces and results go into a store.

    The limits are those of each rollout. Ends with 0 if all is done, with 1 if something failed, with 2 if the command
    line or the file of tasks is wrong.

    \b
        triocept fleet --tasks tasks.jsonl --agent claude-code --upstream http://127.0.0.1:8000/v1 --model qwen \\
            --engine processes:4 --slots-per-worker 64 --store runs/today
        triocept stats runs/today
    """
    command, agent_options = _split(agent, command)
    _check_agent(agent, executable, command)
    _check_store(store, resume=resume, retry_errors=retry_errors)
    if script is not None and forward is not None:
        raise click.UsageError("--script and --upstream: one of them answers, not both")
    runs = engine_of(engine, workers, slots_per_worker)
    if not isinstance(runs, RayEngine):  # Ray's agents run on its nodes
        _check_program(agent, executable, command)
    plan = Plan(
        handler=forward if script is None else Script(script.absolute()),
        agent=agent,
        executable=executable,
        command=_placed(command),
        limits=limits,
        workspace=None if workspace is None else workspace.absolute(),
        redact=redact,
        agent_options=agent_options,
        env=env,
    )
    what = FleetRun(
        tasks=read_tasks(tasks)[:limit],
        plan=plan,
        engine=runs,
        store=store,
        settings=_settings(plan),
        group_size=group_size,
        retries=rollout_retries,
        timeout=rollout_timeout,
        most_failures=fail_on_error,
        retry_errors=retry_errors,
        quiet=quiet,
    )
    end_with(what.run, script=plan.handler.path if isinstance(plan.handler, Script) else None, notice=_NOTICE)


def _settings(plan: Plan) -> dict[str, Json]:
    """Return the settings of a run; resuming it with other settings is refused."""
    handler = plan.handler
    said: dict[str, Json] = {"agent": plan.agent or list(plan.command)}
    if plan.agent_options:
        said["agent_options"] = list(plan.agent_options)
    if plan.env:  # values may be keys
        said["env"] = sorted(plan.env)
    if plan.workspace is not None:
        said["workspace"] = str(plan.workspace)
    if isinstance(handler, Script):
        said["script"] = str(handler.path)
    elif handler is not None:
        said["model"] = handler.model or handler.url
        for name in ("sampling", "max_output_tokens"):
            if (value := handler.options.get(name)) is not None:
                said[name] = msgspec.to_builtins(value)
    return said


def _split(agent: str | None, command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the command, and the options of a known agent: words behind `--`, or behind a second one as in `run`."""
    if agent is None or not command or not command[0].startswith("-"):
        return command, ()
    return (), command[1:] if command[0] == "--" else command


def _check_agent(agent: str | None, executable: str | None, command: tuple[str, ...]) -> None:
    if agent is not None and command:
        raise click.UsageError(
            f"--agent {agent} and COMMAND: one of them is run, not both. "
            f"Options of the agent begin with -, as in: --agent {agent} -- --max-turns 5"
        )
    if executable is not None and agent is None:
        raise click.UsageError("--executable is the command of a known agent: it belongs to --agent")
    if agent is None and not command:
        raise click.UsageError(f"nothing says what to run: --agent NAME, or -- COMMAND with {PROMPT} in it")
    if agent is None and not any(PROMPT in word for word in command):
        raise click.UsageError(
            f"COMMAND does not say where the prompt goes: write {PROMPT} there, as in: -- claude -p '{PROMPT}'"
        )


def _placed(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command with absolute paths: each agent works in its own directory."""
    if command and os.sep in command[0] and PROMPT not in command[0]:
        return os.path.abspath(command[0]), *command[1:]
    return command


def _check_program(agent: str | None, executable: str | None, command: tuple[str, ...]) -> None:
    name = command[0] if agent is None else executable or _usual(agent)
    if PROMPT not in name and which(name) is None:
        where = "" if agent is None or executable else "; --executable says where else it is"
        raise click.UsageError(f"there is no program {name!r} on the PATH{where}")


def _usual(agent: str) -> str:
    usual: str = signature(find_agent(agent)).parameters["executable"].default
    return usual


def _check_store(store: Path, *, resume: bool, retry_errors: bool) -> None:
    done = store / DONE
    if resume and not is_store(store):
        raise click.UsageError(
            f"--resume: there is no run in {store} to go on with; without --resume one begins"
        )
    if retry_errors and not resume:
        raise click.UsageError("--retry-errors is about a run that was begun before: it takes --resume, too")
    if not resume and is_store(store) and done.exists() and done.stat().st_size:
        raise click.UsageError(
            f"{store} holds the results of a run: --resume goes on with it, and another one takes another directory"
        )
