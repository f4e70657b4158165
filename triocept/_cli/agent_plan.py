"""Describe the agent that `run` and `fleet` start: a command, or a known agent with a task."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from math import inf
from pathlib import Path
from shutil import which

import click
import msgspec

from .._process.environment import is_provider_variable
from .._process.terminal import terminal_problem
from .._rollout.budget import Limits
from .._rollout.rollout import Rollout
from .._rollout.user_home import check_home
from ..agents import AGENTS, Launch
from ..agents import agent as find_agent
from ..dialects import known_dialects
from .install import INSTALL
from .options import Choice, F, Option, add_options, variables_of

PROMPT = "{prompt}"
"""Placeholder in a command. The prompt of a task replaces it."""
_SHELLS = ("sh", "bash", "dash", "zsh")
TO_END = 10.0
"""Seconds that an agent may still run after `--max-seconds` have passed. In this time, triocept refuses the agent's
calls, so that most agents exit by themselves.
"""


@dataclass(frozen=True)
class AgentPlan:
    """Description of an agent. `triocept run` starts it once; `triocept fleet` starts it once for each task."""

    command: tuple[str, ...]
    """The agent's command and its arguments. If `name` names a known agent: the words of the agent's task."""
    name: str | None = None
    """Name of a known agent (in `AGENTS`). If None, `command` starts the agent."""
    executable: str | None = None
    """Program to start for a known agent; None means the agent's usual program."""
    options: tuple[str, ...] = ()
    """Additional options for a known agent, appended to the arguments that triocept passes."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that are added to the agent's environment."""
    keep_home: bool = False
    """True if the agent uses the user's own configuration (`--keep-home`)."""

    @property
    def usual(self) -> str:
        usual: str = signature(find_agent(self.name or "")).parameters["executable"].default
        return usual

    def launch(self, rollout: Rollout, folder: Path, prompt: str | None = None) -> Launch:
        """Return the command that starts the agent. The configuration of a known agent is written into `folder`.

        `prompt` is the task of a known agent; for another agent, it replaces `{prompt}` in `command`. If `prompt` is
        None, `command` is used unchanged: as the task of a known agent, or as the command of another agent.
        """
        if self.name is None:
            words = self.command
            return Launch(
                argv=words if prompt is None else tuple(word.replace(PROMPT, prompt) for word in words)
            )
        options = {} if self.executable is None else {"executable": self.executable}
        task = " ".join(self.command) if prompt is None else prompt
        launch = find_agent(self.name)(rollout, folder, task, **options)
        return msgspec.structs.replace(launch, argv=(*launch.argv, *self.options))

    def check_installed(self) -> None:
        """Raise click.UsageError if the agent's program is not on the PATH, or not executable."""
        name = self.command[0] if self.name is None else self.executable or self.usual
        if PROMPT in name or which(name, path=self.env.get("PATH")) is not None:
            return
        words = name.split()
        if self.name is None and len(self.command) == 1 and len(words) > 1 and not Path(name).exists():
            raise click.UsageError(
                f"there is no program {name!r}; to run {words[0]!r} with arguments, omit the quotes, as in: "
                f"triocept run -- {' '.join(words)}"
            )
        if os.sep not in name:
            if self.name is None and Path(name).is_file():
                raise click.UsageError(f"there is no program {name!r} on the PATH; {self._meant()}")
            other = "give its full path" if self.name is None else "give its path with --executable"
            how = f"install it with: {INSTALL[name]}; or" if name in INSTALL else "install it, or"
            raise click.UsageError(f"there is no program {name!r} on the PATH: {how} {other}")
        if not Path(name).is_file():
            what = "is a directory" if Path(name).is_dir() else "does not exist"
            raise click.UsageError(f"the program {name!r} {what}: correct the path")
        raise click.UsageError(f"the file {name!r} is not executable: run chmod +x {shlex.quote(name)}")

    def _meant(self) -> str:
        """Return advice for a command whose program is only a file of the current directory: what to write instead."""
        name, *arguments = self.command
        if "--" in arguments:
            return f"did you mean --script {shlex.quote(name)}?"
        if name.endswith(".py"):
            return f"to run this file, write {shlex.join(['python', *self.command])}"
        return f"to run the file in this directory, write {shlex.join([f'./{name}', *arguments])}"

    @property
    def overridden(self) -> str:
        """Warning that `--env` replaces a URL or key with which the agent calls triocept; empty if it replaces none."""
        dialects = known_dialects().values()
        own = {name for each in dialects if each.environment for name in each.environment("", "", "")}
        names = [name for name in own & self.env.keys() if self.env[name] and is_provider_variable(name)]
        if not names:
            return ""
        return (
            f"--env replaces {' and '.join(sorted(names))}, with which the agent calls triocept, so its calls fail or "
            "go elsewhere: omit this --env. For a real model, give its URL with --upstream, and the variable of its "
            "key with --api-key-env"
        )

    def check_home(self, cwd: Path | None) -> None:
        name = Path(self.command[0] if self.name is None else self.usual).name
        if self.name is None and name != "claude":
            raise click.UsageError(
                f"--keep-home needs --agent NAME (except for claude): only with this option, triocept gives {name} "
                "the rollout as its provider"
            )
        try:
            check_home(name, self.env, cwd)
        except ValueError as exc:
            raise click.UsageError(str(exc).replace("keep_home", "--keep-home")) from None


def patience(limits: Limits | None) -> float:
    return inf if limits is None or limits.seconds is None else limits.seconds + TO_END


_in_agent = partial(click.option, cls=Option, group="Agent")
_NAMES = Choice(AGENTS)


def agent_options(what: str) -> Callable[[F], F]:
    """Return a decorator that adds the options for choosing the agent.

    `what` is the part of the help text of `--agent` that describes COMMAND.
    """
    return add_options(
        _in_agent(
            "--agent",
            type=_NAMES,
            metavar="NAME",
            help=f"Start an agent that triocept knows by name. {what} The agent gets a temporary configuration instead "
            f"of yours, and runs its tools without asking you. Names: {_NAMES}.",
        ),
        _in_agent(
            "--executable",
            metavar="FILE",
            help="Program to start for --agent. Default: the usual command of this agent, for example "
            "claude for claude-code.",
        ),
        _in_agent(
            "--env",
            multiple=True,
            callback=variables_of,
            metavar="NAME[=VALUE]",
            help="Pass this variable to the agent. Without =VALUE, the agent gets the value from your environment. "
            "Variables with keys or URLs of model providers reach the agent only if you name them with this option. "
            "May be given several times.",
        ),
    )


run_options: Callable[[F], F] = add_options(
    _in_agent(
        "--cwd",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Working directory of the agent. Default: the current directory.",
    ),
    _in_agent(
        "--interactive",
        is_flag=True,
        help="Give this terminal and the keyboard to the agent. triocept prints its own output when the agent has "
        "ended.",
    ),
    _in_agent(
        "--keep-home",
        is_flag=True,
        help="Let the agent use your own configuration (settings, hooks, MCP servers): Claude Code, Codex, opencode, "
        "kilo, qwen-code, gemini-cli or Copilot. If a setting in it could select another provider, the command ends "
        "with an error.",
    ),
)


def plan_run(
    command: tuple[str, ...],
    agent: str | None,
    executable: str | None,
    env: dict[str, str],
    *,
    cwd: Path | None = None,
    interactive: bool = False,
    keep_home: bool = False,
) -> AgentPlan:
    """Return the agent that `triocept run` starts.

    Raise click.UsageError if the command is invalid or not installed, or if `interactive` finds no terminal.
    """
    if interactive and agent is not None:
        raise click.UsageError(
            f"--interactive and --agent exclude each other: --agent {agent} starts the agent for a single task. Name "
            "the agent's command instead, as in: triocept run --interactive -- claude"
        )
    if interactive and (problem := terminal_problem()) is not None:
        raise click.UsageError(
            f"--interactive cannot give the agent the terminal: {problem}. Run the command in the foreground of a "
            "terminal, without a pipe or a redirection, or omit --interactive"
        )
    if not command:
        what = "COMMAND is missing: name the agent to run, as in: triocept run -- claude -p hello"
        if agent is not None:
            what = f'the agent has no task: add it, as in: triocept run --agent {agent} -- "fix the bug"'
        raise click.UsageError(what)
    if agent is None and (option := command[0].partition("=")[0]) in _options_of_command():
        raise click.UsageError(
            f"{option} is an option of triocept, but it is written after --: write it before --, as in: triocept run "
            f"{shlex.join(command[:2])} -- …"
        )
    try:
        Path.cwd()
    except FileNotFoundError:
        raise click.UsageError(
            "the current directory does not exist any more: change to another directory"
        ) from None
    if cwd is not None and os.sep in command[0]:  # relative to this program's directory, not to `cwd`
        command = (os.path.abspath(command[0]), *command[1:])
    if executable is not None and agent is None:
        raise click.UsageError(
            "--executable needs --agent NAME, because --executable names the program of that agent"
        )
    plan = AgentPlan(command, env=env, keep_home=keep_home)
    if agent is not None:
        end = command.index("--") if "--" in command else len(command)
        plan = AgentPlan(command[:end], agent, executable, command[end + 1 :], env, keep_home)
        _check_task(plan, agent)
    elif not command[0].strip():
        raise click.UsageError(
            "COMMAND is empty: name the agent to run, as in: triocept run -- claude -p hello"
        )
    plan.check_installed()
    if keep_home:
        plan.check_home(cwd)
    return plan


def _options_of_command() -> set[str]:
    context = click.get_current_context(silent=True)
    return (
        set()
        if context is None
        else {name for each in context.command.params for name in each.opts if "-" in name}
    )


def _check_task(plan: AgentPlan, agent: str) -> None:
    """Raise click.UsageError if the task of a known agent is empty, or if it is a command or an option of the agent."""
    task = plan.command
    usage = f'triocept run --agent {agent} -- "fix the bug"'
    if not any(word.strip() for word in task):
        raise click.UsageError(f"COMMAND is empty: with --agent, COMMAND is the agent's task, as in: {usage}")
    own = {plan.executable, plan.usual, Path(plan.usual).name}
    if task[0] in own and any(word.startswith("-") for word in task[1:]):
        raise click.UsageError(
            f"with --agent, COMMAND is only the agent's task, because --agent {agent} adds the command {task[0]!r}; "
            f"write: {usage}"
        )
    if (option := next((word for word in task if re.match(r"-[^\s\d]", word)), None)) is not None:
        words = " ".join(task[: task.index(option)]) or "fix the bug"
        is_own = option in _options_of_command()
        more = f". As an option of triocept, write {option} before the first --" if is_own else ""
        raise click.UsageError(
            f"{option} looks like an option of {agent}, but COMMAND is the agent's task. Write options of the agent "
            f"after a second --, as in: triocept run --agent {agent} -- {shlex.quote(words)} -- {option}. If {option} "
            f"belongs to the task, put the whole task in quotes{more}"
        )


def _check_shell(command: tuple[str, ...]) -> None:
    """Raise click.UsageError if a shell would execute the prompts of tasks as a part of its script."""
    match command:
        case (shell, flag, script, *_) if Path(shell).name in _SHELLS and re.fullmatch("-[a-z]*c", flag):
            if PROMPT not in script or script == PROMPT:
                return
            safe = re.sub(r"""["']?\{prompt\}["']?""", '"$1"', script)
            raise click.UsageError(
                f"the shell would execute the text of {PROMPT} as a part of its script: pass the prompt as an "
                f"argument, as in: -- {shell} {flag} {shlex.quote(safe)} {Path(shell).name} '{PROMPT}'"
            )


def plan_fleet(
    command: tuple[str, ...], agent: str | None, executable: str | None, env: dict[str, str], *, here: bool
) -> AgentPlan:
    """Return the agent that `triocept fleet` starts.

    Args:
        command: if `agent` is None, a command that contains `{prompt}`. Otherwise options for the known agent, after
            `--` or after a second `--` (as in `run`).
        agent: name of a known agent, or None.
        executable: program to start for the known agent; None means the agent's usual program.
        env: variables that are added to the environment of each agent.
        here: True if the agents run on this machine, where they must be installed.
    """
    options: tuple[str, ...] = ()
    if agent is not None and command and command[0].startswith("-"):
        options = command[1:] if command[0] == "--" else command
        command = ()
    if agent is not None and command:
        raise click.UsageError(
            f"--agent {agent} and COMMAND exclude each other: give only one of them. Options of the agent begin with "
            f"-, as in: --agent {agent} -- --max-turns 5"
        )
    if executable is not None and agent is None:
        raise click.UsageError(
            "--executable needs --agent NAME, because --executable names the program of that agent"
        )
    if agent is None and not command:
        raise click.UsageError(
            f"no agent is named: give --agent NAME, or a command that contains {PROMPT}, as in: -- claude -p '{PROMPT}'"
        )
    if agent is None and not any(PROMPT in word for word in command):
        raise click.UsageError(
            f"COMMAND does not contain {PROMPT}, which stands for the task's prompt: add it, as in: -- claude -p "
            f"'{PROMPT}'"
        )
    _check_shell(command)
    if command and os.sep in command[0] and PROMPT not in command[0]:  # each agent works in its own directory
        command = (os.path.abspath(command[0]), *command[1:])
    plan = AgentPlan(command, agent, executable, options, env)
    if here:
        plan.check_installed()
    return plan
