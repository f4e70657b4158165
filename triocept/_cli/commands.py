"""The commands and their options."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from shutil import which
from typing import Any

import click

from ..agents import AGENTS
from ..agents import agent as find_agent
from ..errors import StoreError, TrioceptError
from ..exports import FORMATS
from .check import check_files
from .demo import run_demo
from .ending import describe_error, end_with
from .export import Export, Unreadable
from .fleet_command import fleet
from .forward import Forward, forward_options
from .limits import limit_options
from .looking import diff, show, stats
from .options import env_option
from .redact import redact_option
from .replay import ReplayFile, replay_options
from .run import Run, say_hello
from .script import Answers, Script
from .serve import Serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="triocept")
def main() -> None:
    """Be the model of an LLM agent that you do not own."""


_script_option = click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the model says: a Python file that defines 'replies', a list in YAML or JSON, or aimock's fixtures. "
    "Without it, every call is answered with one friendly sentence.",
)


def _checked_record(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Raise if the file is not a trace file: other files are not appended to."""
    if path is not None and path.is_file():
        with path.open("rb") as file:
            if (head := file.read(len(_HEAD))) and head != _HEAD:
                raise click.BadParameter(f"{path} is there, and is no trace file: nothing is appended to it")
    return path


_HEAD = b'{"type":"'
"""The beginning of every line of a trace."""
_record_option = click.option(
    "--record",
    callback=_checked_record,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append every turn to this file, one JSON line each, before the agent sees the end of its answer.",
)


_host_option = click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
_port_option = click.option("--port", default=0, show_default="a free one", type=click.IntRange(0, 65535))


@main.command(context_settings={"allow_interspersed_args": False})
@_script_option
@forward_options
@limit_options
@replay_options
@_record_option
@redact_option
@_host_option
@_port_option
@click.option(
    "--agent",
    type=click.Choice([name.replace("_", "-") for name in AGENTS]),
    help="A known agent: COMMAND is then what it is to do, and what follows a second -- are options of the agent. It "
    "gets a home or configuration of its own, not yours, and runs its tools in this directory without asking.",
)
@click.option("--executable", help="The command of that agent, where it is not the usual one.")
@env_option
@click.option("--quiet", is_flag=True, help="Show the agent's output only.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(
    script: Path | None,
    forward: Forward | None,
    replay: ReplayFile | None,
    agent: str | None,
    executable: str | None,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run COMMAND as an agent whose model is triocept, and show each of its model calls.

    The agent gets the endpoint and a key by the usual environment variables (OPENAI_BASE_URL, ANTHROPIC_BASE_URL, …).
    Ends with the agent's own exit code, or with 1 if an error of the script, or of triocept, ended it.

    \b
        triocept run --script replies.py -- claude -p "fix the bug" --allowedTools Bash
        triocept run --script replies.py --agent codex -- "fix the bug"
        triocept run --script replies.py --agent claude-code -- "fix the bug" -- --max-turns 5
        triocept run --upstream http://127.0.0.1:8000/v1 --model qwen -- claude -p "fix the bug" --allowedTools Bash
        triocept run --replay trace.jsonl -- claude -p "fix the bug" --allowedTools Bash
    """
    command, agent_options = _without_options(command) if agent is not None else (command, ())
    _check_command(command, agent, executable)
    handler = _replayed(replay, _handler(script, forward))
    what = Run(
        command, handler=handler, agent=agent, executable=executable, agent_options=agent_options, **options
    )
    end_with(what.run, script=script, notice=None if what.quiet else _NOTICE)


@main.command()
@_script_option
@forward_options
@limit_options
@_record_option
@redact_option
@_host_option
@_port_option
@click.option(
    "--watch",
    is_flag=True,
    help="Read the script anew whenever its file changes; refuse what it has no reply for, and go on.",
)
@click.option("--quiet", is_flag=True, help="Show no model calls.")
def serve(script: Path | None, forward: Forward | None, watch: bool, **options: Any) -> None:
    """Serve an endpoint with one rollout until Ctrl-C, for agents that are started elsewhere.

    Its base URLs, its key and the lines that point an agent there are printed on standard output, as a shell reads
    them.

    \b
        triocept serve --upstream https://api.openai.com/v1 --record traces.jsonl
        triocept serve --script replies.yaml --watch
    """
    if watch and script is None:
        raise click.UsageError("--watch looks at a script: --script says which")
    end_with(Serve(_handler(script, forward), watch=watch, **options).run, script=script)


@main.command()
@_record_option
def demo(record: Path | None) -> None:
    """Run a small agent in its own process, with a scripted model that answers it: no key, no network."""
    end_with(partial(run_demo, record), notice=_NOTICE)


@main.command()
@click.option(
    "--to",
    type=click.Choice(list(FORMATS)),
    required=True,
    help="; ".join(f"{each.name}: {each.what}" for each in FORMATS.values()),
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    help="The file that is written (of atif, the folder); - for standard output. It is there when it is whole.",
)
@click.option(
    "--rollout", "rollouts", multiple=True, metavar="ID", help="This one alone; may be given several times."
)
@click.option(
    "--reward",
    metavar="NAME",
    help="The score that is the reward, of verifiers; the others are metrics. Without it an only score is the reward.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
def export(
    to: str,
    out: Path,
    rollouts: tuple[str, ...],
    reward: str | None,
    force: bool,
    files: tuple[Path, ...],
) -> None:
    """Write the traces in all FILES, of `--record`, in another format; of a fleet's store those of its results.

    The last line says what the format has no words for.

    \b
        triocept export --to inspect traces.jsonl -o log.json
        triocept export --to jsonl runs/*.jsonl -o - | jq .outcome
    """
    try:
        Export(files, to, out, rollouts=rollouts, replace=force, reward=reward).run()
    except (TrioceptError, OSError) as exc:
        given = isinstance(exc, StoreError) or (isinstance(exc, OSError) and exc.filename in map(str, files))
        kind = Unreadable if given else click.ClickException
        raise kind(describe_error(exc).removeprefix("Error: ")) from exc


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
@click.option("--quiet", is_flag=True, help="Say it by the exit status alone.")
def check(files: tuple[Path, ...], as_json: bool, quiet: bool) -> None:
    """Check that trace files are whole: nothing flipped, dropped, doubled, moved or cut, each call with its turn.

    Each gap is a line of its own, with its name, file and line, rollout and call. Ends with 1 if there is one, with 2
    if a file cannot be read. A fleet's store is a file, too: each of its results has to have its rollouts.

    \b
        triocept check traces.jsonl
    """
    sys.exit(check_files(files, as_json=as_json, quiet=quiet))


for _command in (fleet, show, diff, stats):
    main.add_command(_command)

_NOTICE = "the agent is being ended; again to kill it"


def _handler(script: Path | None, forward: Forward | None) -> Answers | Forward | Script:
    """Return the handler: a script, a real model, or one fixed greeting."""
    if script is not None and forward is not None:
        raise click.UsageError("--script and --upstream: one of them answers, not both")
    if script is not None:
        return Script(script)
    return forward or Answers(say_hello)


def _replayed(
    replay: ReplayFile | None, handler: Answers | Forward | Script
) -> Answers | Forward | Script | ReplayFile:
    """Return the handler behind a recorded run, if any; a run that is recorded once needs no handler."""
    if replay is None or replay.once:
        return replay or handler
    then = handler if isinstance(handler, Forward | Script) else None
    if replay.until is not None and then is None:
        raise click.UsageError(
            "--until says where another model takes over: --script or --upstream says which"
        )
    return replace(replay, then=then)


def _check_command(command: tuple[str, ...], agent: str | None, executable: str | None) -> None:
    if executable is not None and agent is None:
        raise click.UsageError("--executable is the command of a known agent: it belongs to --agent")
    if agent is None and not command[0].strip():
        raise click.UsageError(
            "COMMAND is empty: it names the agent to run, as in: triocept run -- claude -p hello"
        )
    if agent is None and len(command) == 1 and len(words := command[0].split()) > 1:
        _check_quotes(command[0], words)
    if agent is not None and not any(word.strip() for word in command):
        raise click.UsageError(f"COMMAND is empty: with --agent {agent} it is what the agent is to do")
    if agent is not None and _is_repeated(command, agent, executable):
        raise click.UsageError(
            f"COMMAND is what the agent is to do: --agent {agent} knows its command, as in: "
            f'triocept run --agent {agent} -- "fix the bug"'
        )
    if agent is not None and (word := next(filter(_LIKE_AN_OPTION.match, command), None)) is not None:
        task = command[: command.index(word)] or ("fix the bug",)
        raise click.UsageError(
            f"{word} begins like an option of {agent}, and COMMAND is what the agent is to do. Options of the agent "
            f"follow a second --, as in: triocept run --agent {agent} -- {shlex.join([' '.join(task)])} -- {word}. "
            "A word of the task goes into its quotes"
        )


_LIKE_AN_OPTION = re.compile(r"-[^\s\d]")


def _without_options(command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the task of a known agent, and the agent's options after a second `--`."""
    end = command.index("--") if "--" in command else len(command)
    return command[:end], command[end + 1 :]


def _check_quotes(command: str, words: list[str]) -> None:
    if which(command) is None and not Path(command).exists():
        raise click.UsageError(
            f"there is no program {command!r}; without the quotes it is {words[0]!r} with arguments, as in: "
            f"triocept run -- {' '.join(words)}"
        )


def _is_repeated(command: tuple[str, ...], agent: str, executable: str | None) -> bool:
    """Return True if the command begins with the agent's own command, followed by an option of it."""
    usual = signature(find_agent(agent)).parameters["executable"].default
    own = {executable, usual, Path(usual).name}
    return command[0] in own and any(word.startswith("-") for word in command[1:])
