"""`run_agent(keep_home=True)`: an agent uses the user's own configuration, but calls only the rollout as its model.

Claude Code takes its provider from the environment. Its settings may replace variables of the environment (measured:
2.1.332), so they are checked before it starts. Other agents are refused: most take their provider from their
configuration, and Copilot's `providers.json` adds models to that of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from .._process.environment import is_provider_variable

_HOME = "CLAUDE_CONFIG_DIR"


def user_home(
    argv: Sequence[str | os.PathLike[str]],
    env: Mapping[str, str | None] | None,
    cwd: str | os.PathLike[str] | None,
) -> dict[str, str | None]:
    """Return `env` without `CLAUDE_CONFIG_DIR`, so that Claude Code uses the user's own configuration.

    Raise ValueError if the agent is not Claude Code, or if a settings file of the user may make it call another
    provider.
    """
    own = dict(env or {})
    name = Path(argv[0]).name
    if _HOME not in own and name != "claude":
        raise ValueError(
            f"keep_home works only with Claude Code. The configuration of {name} may name another provider than the "
            "rollout: omit keep_home"
        )
    own.pop(_HOME, None)
    for file in _files({**os.environ, **own}, Path(cwd or os.curdir)):
        if problem := _problem(file):
            raise ValueError(
                f"keep_home: {file} {problem}. Change the file, or omit keep_home: Claude Code then starts without "
                "your configuration"
            )
    return own


def _files(environment: Mapping[str, str | None], project: Path) -> list[Path]:
    """Return the files in which Claude Code may find environment variables: those of the user and of the project."""
    home = Path(environment.get("HOME") or Path.home())
    given = environment.get(_HOME)
    directory = Path(given) if given else home / ".claude"
    names = ("settings.json", "settings.local.json", "remote-settings.json", ".config.json")
    inner = [folder / name for folder in (directory, project / ".claude") for name in names]
    return [*inner, (directory if given else home) / ".claude.json"]


def _problem(file: Path) -> str:
    """Return the reason why this settings file may make Claude Code call another provider, or an empty text."""
    try:
        settings = msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as exc:  # a decoder of Claude Code may be more patient
        return f"cannot be checked: {exc}"
    variables = settings.get("env")
    names = [name for name in variables if is_provider_variable(name)] if isinstance(variables, dict) else []
    names += ["apiKeyHelper"] if settings.get("apiKeyHelper") else []
    return f"sets {', '.join(names)}, which replaces the rollout's URL or key" if names else ""
