"""What would disable the hook of an agent with a gate is overridden, or refused before the agent starts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.cli.cli_forks import triocept
from triocept import agents, serve_endpoint
from triocept._rollout.hook_checks import check_hook
from triocept._rollout.hooks import CLAUDE_CODE, CODEX, COPILOT, GEMINI_CLI, HOOKS, Hook
from triocept.handlers import Decision

GATE: Any = {"*": Decision.approve()}
SETTINGS = ".gemini/settings.json"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that prints its environment."""
    file = tmp_path / "program"
    file.write_text("#!/bin/sh\nenv\n")
    file.chmod(0o755)
    return file


async def run(name: str, program: Path, gate: Any, *words: str, **options: Any) -> Sequence[str]:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(gate=gate) as rollout:
        launch = agents.agent(name)(rollout, program.parent / "fresh", "a task", executable=str(program))
        env = {**launch.env, **options.pop("env", {})}
        result = await rollout.run_agent(
            [*launch.argv, *words], env=env, cwd=options.pop("cwd", program.parent), **options
        )
    return result.stdout_text.splitlines()


@pytest.mark.parametrize("name", HOOKS)
async def test_variables_that_disable_hooks_are_overridden_if_there_is_a_gate(
    name: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = HOOKS[name].variables
    for variable in own:
        monkeypatch.setenv(variable, "1")
    lines = await run(name, program, GATE)
    assert {f"{variable}={value}" for variable, value in own.items()} <= set(lines)
    lines = await run(name, program, None)
    assert {f"{variable}=1" for variable in own} <= set(lines)


@pytest.mark.parametrize(
    ("name", "variable"), [(name, variable) for name, hook in HOOKS.items() for variable in hook.variables]
)
async def test_a_variable_in_env_that_disables_hooks_is_refused(
    name: str, variable: str, program: Path
) -> None:
    with pytest.raises(ValueError, match=f"^env sets {variable}, which disables hooks, so .* Remove it"):
        await run(name, program, GATE, env={variable: "1"})
    assert f"{variable}=1" in await run(name, program, None, env={variable: "1"})
    for off in "", HOOKS[name].variables[variable]:
        assert f"{variable}={off}" in await run(name, program, GATE, env={variable: off})


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, hook in HOOKS.items() for option in hook.options]
)
async def test_an_option_that_disables_hooks_is_refused(name: str, option: str, program: Path) -> None:
    is_codex_value = option.startswith("features")
    forms = ["{}=x", " {} =x", "-c{}=x", "-c={}=x", "--config={}=x"] if is_codex_value else ["{}", "{}=x"]
    for word in [form.format(option) for form in forms]:
        with pytest.raises(ValueError, match=f"^argv contains {option}, which disables hooks, so "):
            await run(name, program, GATE, word)
        assert await run(name, program, None, word)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"hooksConfig": {"enabled": false}}', "sets hooksConfig.enabled, which disables hooks"),
        ('{"hooksConfig": {"enabled": "${NO:-}"}}', "sets hooksConfig.enabled, which"),
        ('{"hooksConfig": null, "hooks": []}', "sets hooksConfig.enabled, hooks, which"),
        ('{"hooks\\u0043onfig": {/* "*/"enabled": 0 // "\n}}', "sets hooksConfig.enabled, which"),
        ("[]", None),
        ("{", "cannot be checked: Input data was truncated. It could disable hooks"),
        ("[" * 100_000, "cannot be checked: "),
    ],
)
@pytest.mark.parametrize("keep_home", [False, True])
async def test_a_file_of_the_project_that_disables_the_hooks_of_gemini_cli_is_refused(
    text: str, problem: str, keep_home: bool, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(program.parent / "home"))
    file = program.parent / "work" / SETTINGS
    file.parent.mkdir(parents=True)
    file.write_text(text)
    options = {"cwd": program.parent / "work", "keep_home": keep_home}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        await run("gemini_cli", program, GATE, **options)
    assert str(caught.value).startswith(f"{file} {problem or 'sets hooksConfig.enabled, hooks, which'}")
    if not keep_home or "sets" in (problem or ""):  # with keep_home, the file must be readable, too
        assert await run("gemini_cli", program, None, **options)


@pytest.mark.parametrize(
    "text",
    [
        '{"hooksConfig": {"enabled": true, "disabled": ["lint"]}, "hooks": {"BeforeTool": []}}',
        *("{} // none", " \n", "\ufeff{}"),
    ],
)
async def test_other_settings_of_the_project_are_no_problem(text: str, program: Path) -> None:
    file = program.parent / SETTINGS
    file.parent.mkdir()
    file.write_text(text)
    assert await run("gemini_cli", program, GATE)
    file.unlink()
    file.mkdir()  # gemini-cli cannot read it
    assert await run("gemini_cli", program, GATE)


@pytest.mark.parametrize("name", COPILOT.settings)
async def test_copilots_settings_are_checked_up_to_the_root_of_the_repository(
    name: str, program: Path
) -> None:
    work = program.parent / "repository" / "a" / "b"
    file = program.parent / name
    for folder in work, file.parent:
        folder.mkdir(parents=True, exist_ok=True)
    file.write_text('{"disableAllHooks": true}')
    assert await run("copilot", program, GATE, cwd=work)
    (program.parent / "repository" / ".git").touch()
    assert await run("copilot", program, GATE, cwd=work)
    (work.parents[1] / name).parent.mkdir(parents=True)
    file = file.rename(work.parents[1] / name)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} sets disableAllHooks, which disables"):
        await run("copilot", program, GATE, cwd=work)


@pytest.mark.parametrize(
    ("hook", "name", "text", "problem"),
    [
        (
            CLAUDE_CODE,
            "/etc/claude-code/managed-settings.json",
            '{"allowManagedHooksOnly": true, "disableAllHooks": true}',
            "sets disableAllHooks, allowManagedHooksOnly, which disables hooks",
        ),
        (
            GEMINI_CLI,
            "/etc/gemini-cli/settings.json",
            '{"hooksConfig": {"enabled": 0}}',
            "sets hooksConfig.enabled",
        ),
        (CODEX, "/etc/codex/requirements.toml", "[features]\nhooks = false", "sets features.hooks, which"),
        (CODEX, "/etc/codex/managed_config.toml", "[features", "cannot be checked: "),
    ],
)
def test_settings_of_the_administrator_that_disable_hooks_are_refused(
    hook: Hook, name: str, text: str, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / Path(name).name
    changed = replace(hook, settings={str(file): hook.settings[name]})
    check_hook(changed, ["agent"], {}, None)
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} {problem}"):
        check_hook(changed, ["agent"], {}, None)
    file.write_text("" if file.suffix == ".toml" else "{}")
    check_hook(changed, ["agent"], {}, None)


async def test_the_name_of_the_hook_of_gemini_cli_is_unknown_to_settings(tmp_path: Path) -> None:
    names: list[str] = []
    async with serve_endpoint() as endpoint, endpoint.open_rollout(gate=GATE) as rollout:
        for place in "a", "b":
            agents.gemini_cli(rollout, tmp_path / place, "a task")
            text = (tmp_path / place / ".gemini" / "settings.json").read_text()
            names.append(text.partition('"name": "')[2].partition('"')[0])
    assert len(set(names)) == 2
    assert all(name.startswith("triocept-") for name in names)


def test_the_command_line_prints_what_disables_the_hook(program: Path) -> None:
    policy = program.parent / "policy.yaml"
    policy.write_text('"*": approve\n')
    options = ("--policy", str(policy), "--env", "OPENCODE_PURE=1", "--executable", str(program))
    done = triocept("run", *options, "--agent", "opencode", "--", "a task", timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: env sets OPENCODE_PURE, which disables hooks, so opencode would run tools" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["-C", "other/below"], ["-Cother/below"]])
async def test_the_settings_of_the_directory_to_which_copilot_changes_are_checked(
    words: list[str], program: Path
) -> None:
    other = program.parent / "other"
    for name in ".git", ".claude", "below":
        (other / name).mkdir(parents=True)
    (other / ".claude" / "settings.json").write_text('{"disableAllHooks": true}')
    with pytest.raises(ValueError, match="sets disableAllHooks, which disables hooks"):
        await run("copilot", program, GATE, *words)
    assert await run("copilot", program, None, *words)
