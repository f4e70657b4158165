"""`run_agent(keep_home=True)`: an agent uses the user's own configuration, but calls only the rollout as its model.

Claude Code reads its provider from the environment. But its settings may replace variables of the environment (observed
with 2.1.332), so these settings are checked before Claude Code starts. In Codex, options of the command (`-c`) override
the configuration (observed with 0.171.0), so Codex gets the settings of `agents.codex` as options. Roles for sub-agents
in the user's configuration of Codex could still name another provider, so these roles are checked. All other agents are
refused, because most of them read their provider from the user's configuration. (Copilot's `providers.json` adds models
to the model that the environment names.)
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .._process.environment import is_provider_variable

_CLAUDE, _CODEX = "CLAUDE_CONFIG_DIR", "CODEX_HOME"
_PROFILES = ("-p", "--profile")

Argv = Sequence[str | os.PathLike[str]]
Directory = str | os.PathLike[str] | None


def user_home(
    argv: Argv, env: Mapping[str, str | None] | None, cwd: Directory
) -> tuple[Argv, dict[str, str | None]]:
    """Return the agent's command and environment, changed so that it uses the user's own configuration.

    Raise ValueError if the agent is neither Claude Code nor Codex, or if the user's settings could make it call another
    provider.
    """
    own = dict(env or {})
    name = Path(argv[0]).name
    written = own.pop(_CODEX, None)
    if written is not None or name == "codex":
        check_home("codex", own, cwd)
        return _with_options(argv, written), own
    if own.pop(_CLAUDE, None) is not None:
        name = "claude"
    check_home(name, own, cwd)
    return argv, own


def check_home(name: str, env: Mapping[str, str | None], cwd: Directory) -> None:
    find = {"claude": _claude_problems, "codex": _codex_problems}.get(name)
    if find is None:
        raise ValueError(
            f"keep_home works only with Claude Code and Codex. The configuration of {name} could select another "
            "provider than the rollout: omit keep_home"
        )
    for file, problem in find({**os.environ, **env}, Path(cwd or os.curdir).absolute()):
        raise ValueError(
            f"keep_home: {file} {problem}. Change the file, or omit keep_home: {name} then starts without your "
            "configuration"
        )


def _claude_problems(environment: Mapping[str, str | None], project: Path) -> Iterator[tuple[Path, str]]:
    """Yield each settings file that could make Claude Code call another provider, with the reason."""
    home = Path(environment.get("HOME") or Path.home())
    given = environment.get(_CLAUDE)
    directory = Path(given) if given else home / ".claude"
    names = ("settings.json", "settings.local.json", "remote-settings.json", ".config.json")
    inner = [folder / name for folder in (directory, project / ".claude") for name in names]
    for file in [*inner, (directory if given else home) / ".claude.json"]:
        try:
            settings = msgspec.json.decode(file.read_bytes(), type=dict[str, object])
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:  # Claude Code may be able to read this file
            yield file, f"cannot be checked: {exc}"
            continue
        variables = settings.get("env")
        names_ = (
            [name for name in variables if is_provider_variable(name)] if isinstance(variables, dict) else []
        )
        names_ += ["apiKeyHelper"] if settings.get("apiKeyHelper") else []
        if names_:
            yield file, f"sets {', '.join(names_)}, which replaces the rollout's URL or key"


def _codex_problems(environment: Mapping[str, str | None], project: Path) -> Iterator[tuple[Path, str]]:
    """Yield each settings file that could make Codex call another provider, with the reason."""
    home = Path(environment.get(_CODEX) or Path(environment.get("HOME") or Path.home()) / ".codex")
    for folder in (home, *(each / ".codex" for each in (project, *project.parents))):
        for file in (folder / "config.toml", *sorted(folder.glob("agents/**/*.toml"))):
            try:
                settings = tomllib.loads(file.read_text())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as exc:
                yield file, f"cannot be checked: {exc}"
                continue
            # Options replace the provider of the whole configuration, but not the provider of a role.
            is_role = file.parent != folder
            names: list[str] = [
                name for name in ("profile", "model_provider")[: 1 + is_role] if name in settings
            ]
            for table, word in ("agents", "config_file"), ("model_providers", "triocept"):
                entries = settings.get(table)
                for key, entry in entries.items() if isinstance(entries, dict) else ():
                    if key == word or (isinstance(entry, dict) and word in entry):
                        names.append(f"{table}.{key}")
            if names:
                yield file, f"sets {', '.join(names)}, which could select another provider than the rollout"


def _with_options(argv: Argv, written: str | None) -> Argv:
    """Return `argv`, the command of Codex, with the settings in the directory `written` added as options (`-c`)."""
    words = [os.fspath(word) for word in argv]
    settings = tomllib.loads((Path(written) / "config.toml").read_text()) if written is not None else {}
    if settings.get("model_provider") != "triocept" or "exec" not in words:
        raise ValueError(
            "keep_home: for Codex, pass the argv and env that agents.codex(..., provider='custom') returns"
        )
    if "hooks" in settings:
        raise ValueError(
            "keep_home: Codex cannot have your own configuration in a rollout with a gate. Omit keep_home"
        )
    if any(word in _PROFILES or word.startswith("--profile=") for word in words):
        raise ValueError("keep_home: a profile of Codex could select another provider: omit the profile")
    place = words.index("exec") + 1
    options = [word for name, value in _leaves(settings) for word in ("-c", f"{name}={value}")]
    return [*words[:place], *options, *words[place:]]


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield, for each setting at any depth, its dotted name and its value as TOML."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", json.dumps(value, ensure_ascii=False)
