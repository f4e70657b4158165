"""The commands `run`, `serve`, `demo`, `export` and `check`, with their options."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import StoreError, TrioceptError
from ..exports import FORMATS
from ..exports._formats import RESULT_FORMATS
from .agent_plan import agent_options, plan_run, run_options
from .approval import approve_option, policy_of, policy_option
from .check import check_files
from .compare import compare
from .demo import run_demo
from .ending import describe_error, end_with
from .eval import evaluate
from .export import Export, WrongPath
from .fleet_command import fleet
from .forward import forward_of, forward_options
from .handler_file import HandlerFile, handler_option, one_model
from .json_events import json_option
from .limits import limit_options, limits_of
from .looking import diff, show, stats
from .options import (
    Choice,
    Group,
    NewFile,
    Option,
    add_options,
    endpoint_options,
    files_argument,
    live_option,
    record_option,
    redact_option,
    script_option,
    view_option,
)
from .replay import replay_of, replay_options
from .run import Run, say_hello
from .script import Answers, Model, Script
from .serve import Serve
from .view import View

_NOTICE = "triocept has asked the agent to end; to kill the agent, press Ctrl-C (or send the signal) again"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="triocept")
def main() -> None:
    """Act as the LLM behind an agent that you did not write.

    `triocept COMMAND --help` describes a command; `triocept demo` runs an example.
    """


@main.command(
    short_help="Run an agent with triocept as its model.", context_settings={"allow_interspersed_args": False}
)
@agent_options("COMMAND is then the agent's task, and options of the agent follow a second --.")
@run_options
@script_option
@handler_option
@forward_options
@replay_options
@policy_option
@approve_option
@limit_options
@add_options(record_option, redact_option)
@endpoint_options
@view_option
@live_option
@json_option
@click.option("--quiet", is_flag=True, help="Print only the agent's own output.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND...")
def run(
    script: Path | None,
    handler: HandlerFile | None,
    agent: str | None,
    executable: str | None,
    env: dict[str, str],
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run COMMAND as an agent whose model is triocept, and print each model call.

    The agent gets the endpoint and a key in the usual environment variables (OPENAI_BASE_URL, ANTHROPIC_BASE_URL, …).
    The command exits with the agent's status, or with 1 after an error in the script or in triocept, or with 2 if the
    command line is wrong.

    \b
    triocept run --script replies.py -- claude -p "fix the bug"
    triocept run --script replies.py --agent codex -- "fix the bug"
    triocept run --agent claude-code -- "fix the bug" -- --max-turns 5
    triocept run --upstream http://127.0.0.1:8000/v1 --model qwen \\
        -- claude -p "fix the bug" --allowedTools Bash
    triocept run --replay trace.jsonl -- claude -p "fix the bug"
    """
    cwd, interactive, keep_home = options["cwd"], options["interactive"], options.pop("keep_home")
    plan = plan_run(command, agent, executable, env, cwd=cwd, interactive=interactive, keep_home=keep_home)
    if interactive and options["as_json"]:
        raise click.UsageError(
            "--json and --interactive exclude each other: with --interactive, the agent uses the terminal"
        )
    forward = forward_of(options)
    limits = limits_of(options, forward)
    if options["live"] and (interactive or options["quiet"]):
        other = "--interactive" if interactive else "--quiet"
        raise click.UsageError(f"--live and {other} exclude each other: the table needs the terminal")
    busy = "with --interactive the agent has the terminal" if interactive else why_no_terminal(options)
    policy = policy_of(options.pop("policy"), options.pop("approve"), no_terminal=busy, view=options["view"])
    replay = replay_of(options)
    model = one_model(Script(script) if script else None, handler, forward)
    chosen: Model = model or Answers(say_hello)
    if replay is not None and replay.once:  # it needs no handler
        chosen = replay
    elif replay is not None:
        if replay.until is not None and model is None:
            raise click.UsageError(
                "--until needs a model that answers from that turn on: add --script FILE, --handler FILE:NAME or "
                "--upstream URL"
            )
        chosen = replace(replay, then=model)
    what = Run(plan, handler=chosen, limits=limits, policy=policy, **options)
    end_with(what.run, script=getattr(model, "path", None), notice=None if what.quiet else _NOTICE)


@main.command(short_help="Serve an endpoint for agents that are started elsewhere.")
@script_option
@click.option(
    "--watch",
    cls=Option,
    group="Model",
    is_flag=True,
    help="Reload the script whenever its file changes. A call for which the script has no reply is refused, and does "
    "not end the command.",
)
@handler_option
@forward_options
@policy_option
@approve_option
@limit_options
@add_options(record_option, redact_option)
@endpoint_options
@view_option
@live_option
@json_option
@click.option("--quiet", is_flag=True, help="Do not print a line for each model call.")
def serve(script: Path | None, handler: HandlerFile | None, watch: bool, **options: Any) -> None:
    """Serve an endpoint with one rollout until Ctrl-C, for agents that are started elsewhere.

    Prints the base URLs, the key, and `export` lines for a shell. Agents that are started
    from a shell with these variables use the endpoint.

    \b
    triocept serve --upstream https://api.openai.com/v1 --record traces.jsonl
    triocept serve --script replies.yaml --watch
    """
    if watch and script is None:
        raise click.UsageError("--watch needs a script that it can reload: add --script FILE")
    forward = forward_of(options)
    limits = limits_of(options, forward)
    policy = policy_of(
        options.pop("policy"),
        options.pop("approve"),
        no_terminal=why_no_terminal(options),
        view=options["view"],
    )
    model = one_model(Script(script) if script else None, handler, forward)
    serving = Serve(model or Answers(say_hello), watch=watch, limits=limits, policy=policy, **options)
    end_with(serving.run, script=getattr(model, "path", None))


def why_no_terminal(options: dict[str, Any]) -> str:
    return "with --live the table has the terminal" if options["live"] else ""


@main.command(short_help="Run a small agent with a scripted model: no key, no network.")
@record_option
def demo(record: Path | None) -> None:
    """Run a small agent, as a separate process, with a scripted model. The demo needs no key and no network."""
    end_with(partial(run_demo, record), notice=_NOTICE)


@main.command(short_help="Write traces in another format.")
@click.option(
    "--to",
    type=Choice(dict.fromkeys((*FORMATS, *RESULT_FORMATS))),
    required=True,
    metavar="NAME",
    help=f"Name of the format. {'; '.join(f'{each.name}: {each.what}' for each in FORMATS.values())}; harbor: the "
    "results of an evaluation, as the folder of a Harbor job.",
)
@click.option(
    "-o",
    "--output",
    "out",
    type=NewFile(dir_okay=True, parents=True),
    required=True,
    metavar="FILE",
    help="File to write; for atif and harbor, a directory. - means standard output. The file appears only when it is "
    "complete. Missing parent directories are created.",
)
@click.option(
    "--rollout",
    "rollouts",
    multiple=True,
    metavar="ID",
    help="Export only the rollout with this id. May be given several times.",
)
@click.option(
    "--reward",
    metavar="NAME",
    help="Only with --to verifiers: use this score as the reward, and all other scores as metrics. The "
    "option may be omitted if each rollout has only one score, and all these scores have the same name.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@files_argument
def export(
    to: str,
    out: Path,
    rollouts: tuple[str, ...],
    reward: str | None,
    force: bool,
    files: tuple[Path, ...],
) -> None:
    """Write the traces of all FILES in another format.

    If a FILE is the directory of a fleet's store, the traces of its results are written. If the only FILE is the store
    of an evaluation, --to inspect and --to verifiers write its samples, each with its scores and the id of its task.
    The last line of output names the parts of the traces that the format cannot hold.

    \b
    triocept export --to inspect traces.jsonl -o log.json
    triocept export --to jsonl runs/*.jsonl -o - | jq .outcome
    """
    if reward is not None and to != "verifiers":
        raise click.UsageError("--reward needs --to verifiers, because the other formats have no reward")
    try:
        status = Export(files, to, out, rollouts=rollouts, replace=force, reward=reward).run()
    except (TrioceptError, OSError) as exc:
        wrong_paths = StoreError | IsADirectoryError | PermissionError
        given = isinstance(exc, wrong_paths) or (
            isinstance(exc, OSError) and exc.filename in [str(file) for file in files]
        )
        kind = WrongPath if given else click.ClickException
        raise kind(describe_error(exc).removeprefix("Error: ")) from exc
    sys.exit(status)


@main.command(short_help="Show recorded runs in a browser.")
@files_argument
@endpoint_options
def view(files: tuple[Path, ...], host: str, port: int) -> None:
    """Serve a page that shows the rollouts of all FILES in a browser, until Ctrl-C.

    A FILE may also be the directory of a fleet's store. For stores of evaluations, the page shows their tasks, too. The
    address of the page, which contains its key, is printed on standard error. `triocept export --to html` writes the
    same page as one file.

    \b
    triocept view traces.jsonl
    """
    end_with(View(files, host, port).run)


@main.command(short_help="Check that trace files are complete.")
@files_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file.")
@click.option("--quiet", is_flag=True, help="Print nothing: the exit status is the result.")
def check(files: tuple[Path, ...], as_json: bool, quiet: bool) -> None:
    """Check that trace files are complete: each call has a turn, and no line is changed, lost, doubled, moved or cut.

    Prints one line for each gap (a missing or changed part): the file and its line, the name of the gap, the rollout
    and the call. In a fleet's store, the rollouts of each result must be present, too. The exit status is 1 if there
    is a gap, 2 if a file cannot be read.

    \b
    triocept check traces.jsonl
    """
    sys.exit(check_files(files, as_json=as_json, quiet=quiet))


for each in (fleet, evaluate, compare, show, diff, stats):
    main.add_command(each)
