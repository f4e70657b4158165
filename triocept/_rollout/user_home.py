"""`run_agent(keep_home=True)`: an agent uses the user's own configuration, but calls only the rollout as its model.

Claude Code reads its provider from the environment. But its settings may replace variables of the environment (observed
with 2.1.332), so these settings are checked before Claude Code starts. The other agents get the configuration that
`agents.NAME` has written in a way that overrides the user's configuration (observed with Codex 0.171.0, opencode
1.18.33, kilo 7.7.7, qwen-code 0.15.10 and 0.24.4, gemini-cli 0.61.0, Copilot 1.0.102):

* Codex: in options (`-c`). Roles for sub-agents in the user's configuration could still name another provider, so these
  roles are checked.
* opencode and kilo: in the variable `…_CONFIG_CONTENT`. Its `enabled_providers` disables all other providers.
* qwen-code: in the system settings, to which a variable points. Their `modelProviders` replaces the user's, each
  provider on its own. Sub-agents can still name the provider `qwen-oauth` or its only model, `coder-model`, so their
  files are checked.
* gemini-cli: in the settings of a directory that otherwise consists of links to the user's own files. (gemini-cli reads
  system settings only from a file that belongs to root.) `httpOptions` of a model could still name another URL, so the
  settings are checked.
* Copilot: in variables. One of them replaces the user's `providers.json`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .._process.environment import is_provider_variable
from .hook_checks import read_settings

_CLAUDE, _CODEX = "CLAUDE_CONFIG_DIR", "CODEX_HOME"
_PROFILES = ("-p", "--profile")
_HOMES = {
    "claude": (_CLAUDE, _CLAUDE),
    "codex": (_CODEX, _CODEX),
    "copilot": ("COPILOT_PROVIDERS_CONFIG", "COPILOT_HOME"),
    "gemini": ("GEMINI_CLI_HOME", "HOME"),
    "kilo": ("KILO_CONFIG", "XDG_CONFIG_HOME"),
    "opencode": ("OPENCODE_CONFIG", "XDG_CONFIG_HOME"),
    "qwen": ("QWEN_CODE_SYSTEM_SETTINGS_PATH", "HOME"),
}
"""For each agent that can use the user's own configuration: a variable that only its function in `agents` sets, and the
variable that names the directory in place of the user's own."""

Argv = Sequence[str | os.PathLike[str]]
Directory = str | os.PathLike[str] | None


def user_home(
    argv: Argv, env: Mapping[str, str | None] | None, cwd: Directory
) -> tuple[Argv, dict[str, str | None]]:
    """Return the agent's command and environment, changed so that it uses the user's own configuration.

    Raise ValueError if the agent cannot use the user's own configuration, or if the user's settings could make it call
    another provider.
    """
    own = dict(env or {})
    name = next((name for name, (mark, _) in _HOMES.items() if own.get(mark)), Path(argv[0]).name)
    mark, home = _HOMES.get(name, ("", ""))
    written = own.get(mark)
    if mark and not written and name != "claude":
        raise ValueError(
            f"keep_home: for {name}, pass the argv and env that the function in triocept.agents returns"
        )
    own.pop(home, None)
    check_home(name, own, cwd)
    if written and name == "codex":
        argv = _with_options(argv, written)
    elif written and name in ("opencode", "kilo"):
        own[f"{mark}_CONTENT"] = Path(written).read_text()
        del own[mark]
    elif written and name == "gemini":
        own[mark] = str(_linked(Path(written)))
    return argv, own


def check_home(name: str, env: Mapping[str, str | None], cwd: Directory) -> None:
    if name not in _HOMES:
        raise ValueError(
            f"keep_home works only with {', '.join(_HOMES)}. The configuration of {name} could select another "
            "provider than the rollout: omit keep_home"
        )
    checks = {
        "claude": _claude_problems,
        "codex": _codex_problems,
        "gemini": _gemini_problems,
        "qwen": _qwen_problems,
    }
    find = checks.get(name, lambda environment, project: ())
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


def _gemini_problems(environment: Mapping[str, str | None], project: Path) -> Iterator[tuple[Path, str]]:
    """Yield each settings file that could make gemini-cli call another provider, with the reason."""
    name = Path(".gemini", "settings.json")
    provider = r'"selectedType"(?!: "gemini-api-key")'  # the user's own is replaced (see `_linked`)
    for folder in _gemini_home(), project:
        try:
            text = json.dumps(_settings(folder / name))
        except (OSError, ValueError, RecursionError) as exc:
            yield folder / name, f"cannot be read: {exc}"
            continue
        for setting, pattern in ("httpOptions", '"httpOptions"'), ("security.auth.selectedType", provider):
            if re.search(pattern, text) and (folder == project or setting == "httpOptions"):
                yield folder / name, f"sets {setting}, which could select another provider than the rollout"


def _gemini_home() -> Path:
    return Path(os.environ.get("GEMINI_CLI_HOME") or Path.home())


def _qwen_problems(environment: Mapping[str, str | None], project: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of a sub-agent that calls Qwen's own service, whose URL qwen-code does not let anyone change."""
    for folder in Path(environment.get("QWEN_HOME") or Path.home() / ".qwen"), project / ".qwen":
        extensions = (_extension(each, project) for each in folder.glob("extensions/*"))
        for file in (file for each in (folder, *extensions) for file in each.glob("agents/**/*.md")):
            if match := re.search(r"qwen-oauth(?=\s*:)|coder-model", _text(file)):
                yield file, f"names {match[0]}, which is served by another provider than the rollout"


class _Installed(msgspec.Struct):
    type: str
    source: str


def _extension(folder: Path, project: Path) -> Path:
    """Return the directory with the files of an extension of qwen-code, which `folder` may only link to."""
    try:
        form = msgspec.json.decode(_text(folder / ".qwen-extension-install.json"), type=_Installed)
    except ValueError:
        return folder
    return project / form.source if form.type == "link" else folder


def _text(file: Path) -> str:
    """Return the text of a file; an empty text if the agent cannot read the file either."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _settings(file: Path) -> dict[str, Any]:
    """Return the JSON object in a settings file; an empty one if there is no such file."""
    return msgspec.convert(read_settings(file), dict[str, Any]) if file.is_file() else {}


def _linked(written: Path) -> Path:
    """Return a new directory with links to the user's files of gemini-cli, and with the settings of both."""
    home = _gemini_home()
    linked = written / "kept"
    shutil.rmtree(linked, ignore_errors=True)
    (linked / ".gemini").mkdir(parents=True)
    for file in (home / ".env", home / ".agents", *(home / ".gemini").glob("*")):
        if file.exists() and file.name != "settings.json":
            (linked / file.relative_to(home)).symlink_to(file)
    name = Path(".gemini", "settings.json")
    settings = _merged(_settings(home / name), _settings(written / name))
    (linked / name).write_text(json.dumps(settings))
    return linked


def _merged(first: Any, second: Any) -> Any:
    """Return both settings; where both set one value, the second one has priority. Lists are concatenated."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {**first, **{name: _merged(first.get(name), value) for name, value in second.items()}}
    return [*first, *second] if isinstance(first, list) and isinstance(second, list) else second


def _with_options(argv: Argv, written: str) -> Argv:
    """Return `argv`, the command of Codex, with the settings in the directory `written` added as options (`-c`)."""
    words = [os.fspath(word) for word in argv]
    settings = tomllib.loads((Path(written) / "config.toml").read_text())
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
