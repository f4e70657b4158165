"""`run_agent(keep_home=True)`: the user's own configuration, and no provider beside the rollout."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_forks import triocept
from triocept import Rollout, agents, serve_endpoint
from triocept._rollout.user_home import user_home
from triocept.handlers import Decision


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's HOME, with a program `claude` that prints its configuration directory and its URL."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    (tmp_path / "work").mkdir()
    claude = tmp_path / "claude"
    claude.write_text('#!/bin/sh\necho "${CLAUDE_CONFIG_DIR-none} $ANTHROPIC_BASE_URL"\n')
    claude.chmod(0o755)
    return tmp_path


def written(file: Path, **settings: Any) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(settings))
    return file


async def run(rollout: Rollout, home: Path, **options: Any) -> str:
    launch = agents.claude_code(rollout, home / "fresh", "a task", executable=str(home / "claude"))
    result = await rollout.run_agent(launch.argv, env=launch.env, cwd=home / "work", **options)
    return result.stdout_text.strip()


async def test_claude_code_has_the_configuration_of_its_user_and_the_url_of_the_rollout(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(home / ".claude" / "settings.json", env={"ANTHROPIC_MODEL": "m"}, hooks={})
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        url = rollout.environ()["ANTHROPIC_BASE_URL"]
        assert await run(rollout, home) == f"{home / 'fresh' / 'claude'} {url}"
        assert await run(rollout, home, keep_home=True) == f"none {url}"
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "own"))
        assert await run(rollout, home, keep_home=True) == f"{home / 'own'} {url}"
        written(home / "own" / ".claude.json", env={"ANTHROPIC_BASE_URL": "https://elsewhere"})
        with pytest.raises(ValueError, match=r"own/\.claude\.json sets ANTHROPIC_BASE_URL, which replaces"):
            await run(rollout, home, keep_home=True)


PLACES = (
    ".claude.json",
    ".claude/settings.json",
    ".claude/remote-settings.json",
    "work/.claude/settings.local.json",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}}, "sets CLAUDE_CODE_USE_BEDROCK, which"),
        ({"env": {"A": "b", "ANTHROPIC_AUTH_TOKEN": "x"}}, "sets ANTHROPIC_AUTH_TOKEN, which"),
        ({"apiKeyHelper": "print-key"}, "sets apiKeyHelper, which"),
        (None, "cannot be checked: "),
    ],
)
def test_a_file_that_names_another_provider_is_refused(
    home: Path, place: str, settings: dict[str, Any] | None, problem: str
) -> None:
    file = written(home / place, **(settings or {}))
    if settings is None:
        file.write_text("// a comment")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        user_home(["claude"], None, home / "work")
    assert str(caught.value).startswith(f"keep_home: {file} {problem}")


@pytest.fixture
def codex_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's CODEX_HOME; the HOME has a program `codex` that prints its own and its arguments."""
    monkeypatch.delenv("CODEX_HOME", raising=False)
    program = home / "codex"
    program.write_text('#!/bin/sh\necho "${CODEX_HOME-none}"\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (home / ".codex").mkdir()
    return home / ".codex"


async def run_codex(rollout: Rollout, home: Path, *more: str, **options: Any) -> list[str]:
    launch = agents.codex(rollout, home / "fresh", "a task", executable=str(home / "codex"), **options)
    argv = [*launch.argv, *more]
    result = await rollout.run_agent(argv, env=launch.env, cwd=home / "work", keep_home=True)
    return result.stdout_text.splitlines()


async def test_codex_has_the_configuration_of_its_user_and_the_rollouts_in_options(
    home: Path, codex_home: Path
) -> None:
    (codex_home / "config.toml").write_text(
        'model_provider = "mine"\n[model_providers.mine]\nbase_url = "https://elsewhere"\n[agents]\nmax_threads = 2\n'
    )
    async with serve_endpoint() as endpoint, endpoint.open_rollout(model="é😀") as rollout:
        own, *words = await run_codex(rollout, home)
        url = rollout.base_url("openai_responses")
    assert own == "none"
    assert words[0] == "exec"
    assert words[-1] == "a task"
    settings = dict(words[place + 1].split("=", 1) for place, word in enumerate(words) if word == "-c")
    given = tomllib.loads("\n".join(f"{name}={value}" for name, value in settings.items()))
    assert (given["model"], given["model_provider"]) == ("é😀", "triocept")
    assert given["model_providers"]["triocept"]["base_url"] == url
    assert given["model_providers"]["triocept"]["supports_websockets"] is False


@pytest.mark.parametrize(
    ("place", "text", "problem"),
    [
        (".codex/config.toml", 'profile = "work"', "sets profile, which could select another provider"),
        (".codex/config.toml", '[agents.a]\nconfig_file = "x"', "sets agents.a, which"),
        (
            ".codex/config.toml",
            '[model_providers.triocept]\nname = "x"',
            "sets model_providers.triocept, which",
        ),
        (".codex/agents/a.toml", 'model_provider = "mine"', "sets model_provider, which"),
        ("work/.codex/agents/a.toml", 'model_provider = "mine"', "sets model_provider, which"),
        ("work/.codex/config.toml", "broken", "cannot be checked: "),
    ],
)
async def test_a_file_of_codex_that_may_name_another_provider_is_refused(
    home: Path, codex_home: Path, place: str, text: str, problem: str
) -> None:
    file = home / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
            await run_codex(rollout, home)
    assert str(caught.value).startswith(f"keep_home: {file} {problem}")


async def test_codex_is_refused_without_its_launch_with_a_profile_and_with_a_gate(
    home: Path, codex_home: Path
) -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout() as rollout:
            with pytest.raises(ValueError, match="for codex, pass the argv and env"):
                await rollout.run_agent([home / "codex", "exec", "a task"], keep_home=True)
            with pytest.raises(ValueError, match="for Codex, pass the argv and env"):
                await run_codex(rollout, home, provider="built_in")
            with pytest.raises(ValueError, match="omit the profile"):
                await run_codex(rollout, home, "-p", "work")
        async with endpoint.open_rollout(gate={"*": Decision.approve()}) as rollout:
            with pytest.raises(ValueError, match="in a rollout with a gate"):
                await run_codex(rollout, home)


OVERRIDING = ("copilot", "gemini_cli", "kilo", "opencode", "qwen_code")
"""Agents that get their configuration in a way that overrides the user's."""


@pytest.mark.parametrize("name", sorted(agents.AGENTS.keys() - {"claude_code", "codex", *OVERRIDING}))
async def test_other_agents_are_refused_by_name(name: str, home: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        launch = agents.agent(name)(rollout, home / "fresh", "a task")
        with pytest.raises(
            ValueError, match=rf"^keep_home works only with claude, .* of {launch.argv[0]} could"
        ):
            await rollout.run_agent(launch.argv, env=launch.env, keep_home=True)


@pytest.mark.parametrize("name", OVERRIDING)
async def test_other_agents_keep_the_home_only_with_the_environment_of_their_launch(
    name: str, home: Path
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        launch = agents.agent(name)(rollout, home / "fresh", "a task")
        _, env = user_home(launch.argv, launch.env, home / "work")
        with pytest.raises(ValueError, match=f"for {launch.argv[0]}, pass the argv and env"):
            user_home(launch.argv, None, home / "work")
    kept = {"HOME", "XDG_CONFIG_HOME", "COPILOT_HOME", "OPENCODE_CONFIG", "KILO_CONFIG"} & env.keys()
    assert not kept


async def test_a_file_that_no_agent_can_read_is_no_problem(home: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        for name, place in (
            ("gemini_cli", "work/.gemini/settings.json"),
            ("qwen_code", ".qwen/agents/index.md"),
        ):
            (home / place).mkdir(parents=True)
            launch = agents.agent(name)(rollout, home / "fresh", "a task")
            argv, _ = user_home(launch.argv, launch.env, home / "work")
            assert argv == launch.argv


@pytest.mark.parametrize("name", ["claude_code", "gemini_cli", "qwen_code"])
async def test_the_gates_hooks_run_although_the_users_settings_disable_hooks(name: str, home: Path) -> None:
    off = {"hooksConfig": {"enabled": False}, "disableAllHooks": True}
    written(home / ".gemini" / "settings.json", **off)
    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(gate={"*": Decision.approve()}) as rollout,
    ):
        launch = agents.agent(name)(rollout, home / "fresh", "a task")
        _, env = user_home(launch.argv, launch.env, home / "work")
    places = {
        "claude_code": home / "fresh" / "gate.json",
        "gemini_cli": Path(env.get("GEMINI_CLI_HOME") or "") / ".gemini" / "settings.json",
        "qwen_code": Path(env.get("QWEN_CODE_SYSTEM_SETTINGS_PATH") or ""),
    }
    settings = json.loads(places[name].read_text())
    assert (
        settings["hooksConfig"]["enabled"] if name == "gemini_cli" else settings["disableAllHooks"] is False
    )


async def test_no_provider_of_the_users_qwen_code_is_left(home: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        agents.qwen_code(rollout, home / "fresh", "a task")
    providers = json.loads((home / "fresh" / "settings.json").read_text())["modelProviders"]
    assert providers == {name: [] for name in ("openai", "anthropic", "gemini", "vertex-ai", "qwen-oauth")}


async def test_gemini_cli_gets_the_settings_of_both_and_links_to_the_other_files(home: Path) -> None:
    own = {"hooks": {"BeforeTool": ["own"]}, "security": {"auth": {"selectedType": "oauth-personal", "a": 1}}}
    file = written(home / ".gemini" / "settings.json", **own)
    file.write_text(text := f"// my settings\n{file.read_text()}")
    (home / ".gemini" / "commands.toml").write_text("be brief")
    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(gate={"*": Decision.approve()}) as rollout,
    ):
        launch = agents.gemini_cli(rollout, home / "fresh", "a task")
        for _ in range(2):
            _, env = user_home(launch.argv, launch.env, home / "work")
    folder = Path(env["GEMINI_CLI_HOME"] or "") / ".gemini"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["security"]["auth"] == {"selectedType": "gemini-api-key", "a": 1}
    first, second = settings["hooks"]["BeforeTool"]
    assert (first, second["matcher"]) == ("own", "*")
    assert (folder / "commands.toml").readlink() == home / ".gemini" / "commands.toml"
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("name", "place", "text", "problem"),
    [
        ("gemini_cli", ".gemini/settings.json", "{// a comment", "cannot be read: "),
        (
            "gemini_cli",
            "work/.gemini/settings.json",
            '{"auth": {"selectedType": "vertex-ai"}}',
            "sets security.auth",
        ),
        (
            "gemini_cli",
            "work/.gemini/settings.json",
            '{"auth": {"selectedType": /* mine */ "vertex-ai"}}',
            "sets security.auth",
        ),
        (
            "gemini_cli",
            "work/.gemini/settings.json",
            '{"auth": {"selected\\u0054ype": "vertex-ai"}}',
            "sets security.auth",
        ),
        ("gemini_cli", "work/.gemini/settings.json", '{"auth": ', "cannot be read: "),
        ("gemini_cli", ".gemini/settings.json", '{"modelConfigs": {"httpOptions": {}}}', "sets httpOptions"),
        (
            "gemini_cli",
            "work/.gemini/settings.json",
            '{"modelConfigs": {"httpOptions": {}}}',
            "sets httpOptions",
        ),
        (
            "qwen_code",
            ".qwen/extensions/own/agents/index.md",
            "---\nmodel: qwen-oauth:coder-model\n---",
            "names qwen-oauth",
        ),
        (
            "qwen_code",
            ".qwen/agents/index.md",
            "---\nmodel: qwen-oauth:coder-model\n---",
            "names qwen-oauth",
        ),
        (
            "qwen_code",
            "work/.qwen/agents/b/index.md",
            "model: 'qwen-oauth : x'",
            "names qwen-oauth",
        ),
        ("qwen_code", ".qwen/agents/index.md", "---\nmodel: coder-model\n---", "names coder-model"),
    ],
)
async def test_a_file_that_no_setting_can_override_is_refused(
    name: str, place: str, text: str, problem: str, home: Path
) -> None:
    file = home / place
    file.parent.mkdir(parents=True)
    file.write_text(text)
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        launch = agents.agent(name)(rollout, home / "fresh", "a task")
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
            await rollout.run_agent(launch.argv, env=launch.env, cwd=home / "work", keep_home=True)
    assert str(caught.value).startswith(f"keep_home: {file} {problem}")


@pytest.mark.parametrize(
    ("metadata", "searched"),
    [
        ('{"type": "link", "source": "%s"}', True),
        ('{"type": "link", "source": "../elsewhere"}', True),
        ('{"type": "local", "source": "%s"}', False),  # qwen-code has copied its files
        ('{"type": "link"}', False),
        ("{", False),
    ],
)
async def test_an_extension_of_qwen_code_that_is_a_link_is_searched(
    metadata: str, searched: bool, home: Path
) -> None:
    own, elsewhere = home / ".qwen" / "extensions" / "own", home / "elsewhere"
    own.mkdir(parents=True)
    (own / ".qwen-extension-install.json").write_text(metadata.replace("%s", str(elsewhere)))
    (elsewhere / "agents").mkdir(parents=True)
    (elsewhere / "agents" / "index.md").write_text("---\nmodel: qwen-oauth:coder-model\n---")
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        launch = agents.qwen_code(rollout, home / "fresh", "a task")
        refused = False
        try:
            user_home(launch.argv, launch.env, home / "work")
        except ValueError as exc:
            refused = "agents/index.md names qwen-oauth" in str(exc)
    assert refused == searched


def test_the_command_line_keeps_the_home_of_claude_code(home: Path) -> None:
    known = ("run", "--keep-home", "--executable", str(home / "claude"), "--agent")
    env = {"HOME": str(home)}
    done = triocept(*known, "claude-code", "--", "a task", timeout=60, env=env)
    assert (done.returncode, done.stdout.startswith("none http://127.0.0.1:")) == (0, True)
    assert "config   your own; the agent runs its tools" in done.stderr
    written(home / ".claude" / "settings.json", env={"ANTHROPIC_BASE_URL": "https://elsewhere"})
    done = triocept(*known, "claude-code", "--", "a task", timeout=60, env=env)
    assert done.returncode == 2
    assert "--keep-home: " in done.stderr
    assert "sets ANTHROPIC_BASE_URL" in done.stderr
    done = triocept(*known, "pi", "--", "a task", timeout=60, env=env)
    assert done.returncode == 2
    assert "The configuration of pi could" in done.stderr
    done = triocept("run", "--keep-home", "--", "env", timeout=60, env=env)
    assert done.returncode == 2
    assert "--keep-home needs --agent NAME" in done.stderr


def test_the_command_line_keeps_the_home_of_codex(home: Path, codex_home: Path) -> None:
    known = ("run", "--keep-home", "--executable", str(home / "codex"), "--agent", "codex", "--", "a task")
    done = triocept(*known, timeout=60, env={"HOME": str(home)})
    assert (done.returncode, done.stdout.splitlines()[:3]) == (0, ["none", "exec", "-c"])
    (codex_home / "config.toml").write_text('profile = "work"')
    done = triocept(*known, timeout=60, env={"HOME": str(home)})
    assert done.returncode == 2
    assert "config.toml sets profile, which could select another provider" in done.stderr
