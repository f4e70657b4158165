"""What a person gets to see who has made a mistake: a line or two, which name the place and what to do."""

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path

import pytest
from cli_helpers import AGENT, PATIENCE, on_a_terminal

from tests.cli.cli_forks import triocept as forked
from tests.real_agents.cases import SOURCES
from triocept._cli.install import INSTALL
from triocept.agents import AGENTS

pytestmark = pytest.mark.once

ASK = ("--", sys.executable, "-c", AGENT, "0")


def triocept(*arguments: str | Path, shell: str | None = None) -> subprocess.CompletedProcess[str]:
    if shell is None:
        return forked(*arguments, timeout=60)
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "triocept", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def written(folder: Path, text: str, name: str = "replies.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_an_option_that_there_is_not_is_no_agent() -> None:
    done = triocept("run", "--scrpt", "x.py", "claude", "-p", "hello")
    assert done.returncode == 2
    assert "--scrpt" in done.stderr
    assert "--script" in done.stderr.replace("--scrpt", "")


def test_what_stands_behind_two_dashes_may_look_like_an_option() -> None:
    done = triocept("run", "--quiet", "--", "--no-such-agent")
    assert done.returncode == 2
    assert "there is no program '--no-such-agent' on the PATH" in done.stderr


@pytest.mark.parametrize("command", [("",), ("", "x"), (" ",)])
def test_an_empty_command_is_said(command: tuple[str, ...]) -> None:
    done = triocept("run", "--", *command)
    assert done.returncode == 2
    assert "COMMAND is empty" in done.stderr


def test_a_known_agent_without_anything_to_do_is_said() -> None:
    done = triocept("run", "--agent", "codex", "--", " ")
    assert done.returncode == 2
    assert "with --agent, COMMAND is the agent's task" in done.stderr


def test_a_command_for_no_agent_is_said() -> None:
    done = triocept("run", "--executable", "claude-next", "--", "hello")
    assert done.returncode == 2
    assert "needs --agent NAME" in done.stderr


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_file_that_cannot_be_written_is_named(command: str, tmp_path: Path) -> None:
    path = tmp_path / "none" / "t.jsonl"
    done = triocept(command, "--record", path, *(ASK if command == "run" else ()))
    assert done.returncode == 2
    assert f"{path}: there is no directory {path.parent}; create it, or name another file\n" in done.stderr


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_port_that_is_taken_is_named(command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = triocept(command, "--port", str(port), *(ASK if command == "run" else ()))
    assert done.returncode == 1
    why = "Address already in use; choose another --host or --port"
    assert done.stderr == f"Error: cannot listen on 127.0.0.1:{port}: {why}\n"


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_syntax_error_shows_the_script_its_line_and_a_caret(command: str, tmp_path: Path) -> None:
    script = written(tmp_path, "replies = [\n    'one' 'two'),\n]\n")
    done = triocept(command, "--script", script, *(ASK if command == "run" else ()))
    assert done.returncode == 1
    assert f'File "{script}", line 2' in done.stderr
    assert "^" in done.stderr
    assert "SyntaxError" in done.stderr
    assert len(done.stderr.splitlines()) == 5
    assert "triocept/" not in done.stderr.replace(str(tmp_path), "")


def test_a_script_that_fails_while_it_is_read_shows_its_own_lines_alone(tmp_path: Path) -> None:
    script = written(tmp_path, "def make():\n    return [nothing]\nreplies = make()\n")
    done = triocept("run", "--script", script, *ASK)
    assert done.returncode == 1
    assert "line 3" in done.stderr
    assert "line 2" in done.stderr
    assert "NameError: name 'nothing' is not defined" in done.stderr
    assert "runpy" not in done.stderr


def test_a_reply_that_fails_shows_its_own_lines_alone(tmp_path: Path) -> None:
    script = written(tmp_path, "def answer(request):\n    return request.no_such_thing\nreplies = [answer]\n")
    done = triocept(
        "run", "--quiet", "--script", script, "--", sys.executable, "-c", "pass" + AGENT, "0", "a"
    )
    assert done.returncode == 1
    told = done.stderr[done.stderr.index("Error: the script") :]
    assert f'File "{script}", line 2, in answer' in told
    assert "no_such_thing" in told
    assert "trio" not in told.replace("triocept.Request", "").replace(str(script), "")


def test_how_the_agent_ended_is_said_though_the_script_has_failed(tmp_path: Path) -> None:
    """The command then ends with 1: the agent's own status is what it made of a fault that is not its."""
    script = written(tmp_path, "def answer(request):\n    1 / 0\nreplies = ['one', answer]\n")
    agent = f"import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)){AGENT}"
    agent = agent.replace("for text in", "sys.excepthook = lambda *_: os._exit(3)\nfor text in")
    done = triocept("run", "--script", script, "--", sys.executable, "-c", agent, "0", "a", "b")
    assert done.returncode == 1
    ended, _, told = done.stderr.partition("Error: the script")
    assert "▸ the agent ended with exit status 3 after " in ended
    assert "ZeroDivisionError" in told
    assert re.search(r" m \d+~ in \d+~ out ", ended)  # an estimate has one mark everywhere


@pytest.mark.parametrize(("text", "said"), [
    ("replies = ['one', {'text': 'two'}]", "replies[1] is not a reply: {'text': 'two'}"),
    ("replies = ['one', None]", "replies[1] is not a reply: None"),
    ("replies = [lambda request: 5]", "replies[0] is a function, and returned 5"),
    ("replies = [lambda request: None]", "replies[0] is not a reply: None"),
    ("replies = 'hello'", "a list named 'replies', not str: 'hello'"),
    ("", "a list named 'replies'"),
])  # fmt: skip
def test_what_is_no_reply_is_said_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    script = written(tmp_path, text)
    done = triocept("run", "--quiet", "--script", script, "--", sys.executable, "-c", AGENT, "0", "a")
    assert done.returncode == 1
    _, *tolds = done.stderr.split("Error: ")  # behind what its agent was saying when it was ended, perhaps
    assert tolds, done.stderr
    told = tolds[-1].partition("\n")[0]
    assert said in told
    assert str(script) in told
    assert "triocept/" not in done.stderr.replace(str(tmp_path), "")


@pytest.mark.parametrize(("text", "said"), [
    ('["a", {"refuse": 200}]', "s.json:1: [1]: the status of a refusal must be 400 to 599, not 200"),
    ('[{"refuse": 429, "retry": 1}]', "s.json:1: [0].retry: there is no key 'retry' here; did you mean retry_after?"),
    ('[{"tool": "bash", "args": {}}]', "s.json:1: [0].args: there is no key 'args' here"),
    ('[["a", {"tool": "b", "x": 1}]]', "s.json:1: [0][1].x: there is no key 'x' here"),
])  # fmt: skip
def test_what_is_no_reply_of_a_json_script_is_said_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    done = triocept("run", "--script", written(tmp_path, text, "s.json"), *ASK)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert said in line


def test_a_function_that_cannot_be_called_with_a_request_is_said_before_the_agent_starts(
    tmp_path: Path,
) -> None:
    script = written(tmp_path, "def answer():\n    return 'x'\nreplies = ['one', answer]\n")
    done = triocept("run", "--script", script, *ASK)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{script}: replies[1]: answer() cannot be called with the request" in line


@pytest.mark.parametrize(
    ("code", "status", "said"), [("'bye'", 1, "bye\n"), ("3", 3, ""), ("None", 0, ""), ("", 0, "")]
)
def test_a_script_that_exits_ends_the_command_as_it_would_end_itself(
    code: str, status: int, said: str, tmp_path: Path
) -> None:
    done = triocept(
        "run", "--script", written(tmp_path, f"import sys\nsys.exit({code})\nreplies = []\n"), *ASK
    )
    assert (done.returncode, done.stderr) == (status, said)


def test_a_script_imports_what_lies_beside_it_wherever_it_is_started(tmp_path: Path) -> None:
    written(tmp_path, "REPLIES = ['from beside']\n", "beside_it.py")
    script = written(tmp_path, "from beside_it import REPLIES\nreplies = REPLIES\n")
    command = [str(Path(sys.executable).with_name("triocept")), "run", "--script", str(script), *ASK, "a"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "said: from beside\n", done.stderr


def test_a_key_that_is_missing_is_said_before_the_first_call() -> None:
    shell = 'unset OPENAI_API_KEY; exec "$@"'
    done = triocept("run", "--upstream", "https://model.invalid/v1", "--", "true", shell=shell)
    assert (
        "OPENAI_API_KEY is not set, so calls are sent to https://model.invalid/v1 without a key"
        in done.stderr
    )
    done = triocept("run", "--upstream", "http://127.0.0.1:9/v1", "--", "true", shell=shell)
    assert "is not set" not in done.stderr


def test_what_is_piped_in_is_said_not_to_reach_the_agent() -> None:
    done = triocept("run", "--", "cat", shell='echo words | exec "$@"')
    assert "triocept does not pass its standard input to the agent" in done.stderr
    assert (
        "does not pass its standard input"
        not in triocept("run", "--", "cat", shell='exec "$@" </dev/null').stderr
    )


def test_a_model_without_a_price_is_named_at_the_end(tmp_path: Path) -> None:
    done = triocept("run", "--price", "other=1,2", *ASK, "a")
    assert "cost     unknown, because at least one of the requested models has no price (m)" in done.stderr


def test_prices_that_are_none_name_the_model(tmp_path: Path) -> None:
    prices = written(tmp_path, '{"good": {"input": 1, "output": 2}, "bad": {"input": 1}}', "prices.json")
    done = triocept("run", "--prices", prices, "--", "true")
    assert done.returncode == 2
    assert "the price of 'bad' is invalid: Object missing required field `output`" in done.stderr


def test_a_python_script_of_another_name_says_what_is_wrong(tmp_path: Path) -> None:
    done = triocept("run", "--script", written(tmp_path, "replies = ['a']", "replies"), *ASK)
    assert done.returncode == 1
    assert "its name does not end in .py" in done.stderr


def test_an_agent_that_made_no_call_is_told_with_what_to_do() -> None:
    done = triocept("run", "--", "true")
    assert done.returncode == 0
    assert "triocept received no model call" in done.stderr
    assert "OPENAI_BASE_URL" in done.stderr
    assert "--agent" in done.stderr
    done = triocept("run", *ASK, "a")
    assert "triocept received no model call" not in done.stderr


@pytest.mark.parametrize(
    "base", ['os.environ["OPENAI_BASE_URL"]', 'os.environ["OPENAI_BASE_URL"].split("/rollout")[0] + "/v1"']
)
def test_calls_that_were_refused_are_counted_with_the_reason_of_the_last(base: str) -> None:
    agent = f"""
import os, urllib.error, urllib.request
for _ in range(2):
    headers = {{"authorization": "Bearer wrong", "content-type": "application/json"}}
    url = {base} + "/chat/completions"
    try:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{{}}", headers=headers))
    except urllib.error.HTTPError:
        pass
"""
    done = triocept("run", "--", sys.executable, "-c", agent)
    assert done.returncode == 0
    assert "no model call was accepted: 2 requests were refused; the last refusal is POST " in done.stderr
    assert "401 this API key is not valid for " in done.stderr
    assert "triocept received no model call" not in done.stderr


def test_the_screen_counts_as_the_trace_does() -> None:
    done = triocept("run", *ASK, "a", "b")
    numbers = [line.split()[0] for line in done.stderr.splitlines() if "answered" in line]
    assert numbers == ["0", "1"]


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2> >(true)"])
def test_a_screen_that_takes_nothing_does_not_concern_the_agent(where: str, tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    words = [sys.executable, "-m", "triocept", "run", "--record", str(record), *ASK, "a", "b"]
    command = ["bash", "-c", f'exec "$@" {where}', "bash", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.stdout.count("said: ") == 2
    assert done.returncode == 0
    assert len(record.read_text().splitlines()) >= 3


def test_a_screen_that_is_held_up_holds_up_nobody() -> None:
    """A terminal after Ctrl-S, a pager that nobody scrolls: the pipe is full, and nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    command = [sys.executable, "-m", "triocept", "run", *ASK, *(["a"] * 20)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True) as process:
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            os.close(reader)
            os.close(writer)
    assert out.count("said: ") == 20
    assert process.returncode == 0


def test_nothing_that_an_agent_or_a_model_says_steers_the_terminal(tmp_path: Path) -> None:
    """On a terminal, where colours are ours and every other escape would be theirs."""
    agent = AGENT.replace('"model": "m"', '"model": "m\\x1b]0;mine\\x07"')
    script = written(
        tmp_path,
        "from triocept import ToolCall, Refusal\n"
        "replies = [ToolCall.of('x\\x1b[2J', a='\\x9b31m\\u202e'), Refusal(404, 'no\\x1b[1A\\r')]",
    )
    arguments = ("run", "--script", str(script), "--", sys.executable, "-c", agent, "0", "a\x1b[3J", "b")
    text = on_a_terminal(*arguments, columns=500, kind="xterm-256color")
    for escape in ("\x1b]0", "\x1b[2J", "\x1b[3J", "\x1b[1A", "\x9b", "\u202e", "\x07"):
        assert escape not in text, text
    assert "m\\x1b]0;mine" in text
    assert "x\\x1b[2J" in text
    assert "a\\x1b[3J" in text
    assert "no\\x1b[1A" in text


def test_serve_says_why_it_ended_with_an_error(tmp_path: Path) -> None:
    script = written(tmp_path, '["one"]', "s.json")
    command = [sys.executable, "-m", "triocept", "serve", "--script", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            variables = {}
            for line in process.stdout:
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    variables[name] = value
                if "DISABLE_AUTOUPDATER" in line:
                    break
            subprocess.run(
                [sys.executable, "-c", AGENT, "0", "a", "what now"],
                env={**os.environ, **variables},
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "call 2 came, but the script has 1 reply" in err
    assert "user: what now" in err
    assert "Traceback" not in err


def test_a_standard_output_that_is_full_is_named() -> None:
    done = triocept("serve", "--quiet", shell='exec "$@" >/dev/full')
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: No space left on device\n"


def test_a_price_that_is_none_says_how_it_is_written() -> None:
    done = triocept("run", "--price", "any", "--", "true")
    assert done.returncode == 2
    assert "MODEL=INPUT,OUTPUT" in done.stderr.split("Error: ")[-1]


def test_a_command_in_quotes_says_to_leave_them_out() -> None:
    done = triocept("run", "--", "python x.py")
    assert done.returncode == 2
    assert "omit the quotes" in done.stderr
    assert "triocept run -- python x.py" in done.stderr


def test_a_command_that_is_repeated_after_its_name_is_said() -> None:
    done = triocept("run", "--agent", "claude-code", "--", "claude", "-p", "fix it")
    assert done.returncode == 2
    assert 'triocept run --agent claude-code -- "fix the bug"' in done.stderr


def test_an_option_of_a_known_agent_among_the_words_of_its_task_is_said() -> None:
    done = triocept("run", "--agent", "claude-code", "--", "fix the bug", "--model", "opus")
    assert done.returncode == 2
    told = " ".join(done.stderr.split())
    assert "--model looks like an option of claude-code" in told
    assert "triocept run --agent claude-code -- 'fix the bug' -- --model" in told


def test_a_variable_that_is_not_set_cannot_be_passed_to_an_agent() -> None:
    done = triocept("run", "--env", "NOT_SET_ANYWHERE", "--", "true")
    assert done.returncode == 2
    assert (
        "'NOT_SET_ANYWHERE' is not set in this environment: set it, or write NOT_SET_ANYWHERE=VALUE"
        in done.stderr
    )


TINY_AGENT = Path(__file__).parents[2] / "docs/examples/tiny_agent.py"
SHELL = "from triocept import ToolCall\nreplies = [ToolCall.of('bash', command='echo hi'), 'sorry']\n"


def test_the_end_of_a_run_counts_rejected_tool_calls_and_names_the_tool_that_the_policy_misnames(
    tmp_path: Path,
) -> None:
    script, policy = written(tmp_path, SHELL), written(tmp_path, "Bash: approve\n", "policy.yaml")
    arguments = ("run", "--script", script, "--policy", policy, "--", sys.executable, TINY_AGENT, "hi")
    done = triocept(*arguments)
    assert done.returncode == 0
    assert "▸ 1 tool call was rejected: bash (1)\n" in done.stderr
    what = "the policy decides about Bash, but the agent's tool is bash: write bash in the policy"
    assert what in done.stderr
    policy.write_text("read_file: approve\n")
    assert (
        "the policy has no decision about bash: add bash, or '*' for all other tools"
        in triocept(*arguments).stderr
    )
    policy.write_text("bash: reject\n")
    done = triocept(*arguments)
    assert "▸ 1 tool call was rejected: bash (1)\n" in done.stderr
    assert "has no decision" not in done.stderr
    policy.write_text("bash: approve\n")
    assert "rejected" not in triocept(*arguments).stderr


@pytest.mark.parametrize(("proxy", "said"), [
    ("socks5://127.0.0.1:1", "names a SOCKS proxy, for which the package socksio is missing: run pip install 'httpx2"),
    ("http://[bad", "is not the URL of a proxy (Invalid IPv6 URL): write HTTPS_PROXY=http://HOST:PORT"),
    ("http://host:port", "is not the URL of a proxy (Invalid port: 'port'): write HTTPS_PROXY=http://HOST:PORT"),
    ("not a url", "is not the URL of a proxy: write HTTPS_PROXY=http://HOST:PORT, or run `unset HTTPS_PROXY`"),
    ("ftp://me:secret@host", "names a proxy of a kind that triocept cannot use, ftp: write HTTPS_PROXY="),
])  # fmt: skip
def test_a_proxy_variable_that_cannot_be_used_is_named_in_one_line(proxy: str, said: str) -> None:
    env = {"HTTPS_PROXY": proxy, "OPENAI_API_KEY": "k", "NO_PROXY": ""}
    done = forked("run", "--upstream", "https://api.openai.com/v1", "--", "true", timeout=60, env=env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"Error: the environment variable HTTPS_PROXY {said}" in line
    assert "secret" not in line


def test_a_program_that_is_given_as_the_script_is_not_run_and_named() -> None:
    done = triocept("run", "--script", TINY_AGENT, "--", "true")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{TINY_AGENT}: a Python script must define a list named 'replies'; this file defines no" in line
    assert "If the file is an agent, write it after --, as in: triocept run -- python FILE.py" in line


@pytest.mark.parametrize("text", [
    "from replies import *\n",
    "globals()['replies'] = ['a']\n",
    "globals().update(replies=['a'])\n",
    "import replies\nreplies = replies.replies\n",
    "if True:\n    from other import REPLIES as replies\n",
])  # fmt: skip
def test_a_script_may_define_its_replies_in_any_way(text: str, tmp_path: Path) -> None:
    written(tmp_path, "replies = REPLIES = ['a']\n")
    written(tmp_path, "REPLIES = ['a']\n", "other.py")
    done = triocept("run", "--quiet", "--script", written(tmp_path, text, "script.py"), *ASK, "hi")
    assert done.stdout == "said: a\n", done.stderr


MISTYPED = [
    (
        ("run", "--agent", "codex"),
        'the agent has no task: add it, as in: triocept run --agent codex -- "fix the bug"',
    ),
    (("run",), "COMMAND is missing: name the agent to run, as in: triocept run -- claude -p hello"),
    (
        ("run", "--", "--agent", "codex"),
        "--agent is an option of triocept, but it is written after --: write it before --, as in: triocept run --ag",
    ),
    (
        ("run", "--agent", "codex", "--", "hi", "--record", "t.jsonl"),
        "As an option of triocept, write --record before the first --",
    ),
    (
        ("run", "--http2", "--", "true"),
        "there is no option --http2; it was removed, because the endpoint uses HTTP/1.1",
    ),
    (
        ("run", "-m", "x"),
        "there is no option -m; if -m belongs to the agent's command, write -- before this command;",
    ),
    (
        ("eval", "--tasks", "t.jsonl"),
        "there is no option --tasks; TASKS is an argument: write its value alone",
    ),
    (
        ("diff", "t.jsonl", "3"),
        "Name a trace file and two of its turns, as in: triocept diff traces.jsonl 6 7",
    ),
    (
        ("compare", "runs/a"),
        "Missing argument 'B'. Name the stores of two evaluations, as in: triocept compare runs/a runs/b",
    ),
    (("run", "--record", "--", "true"), "--record needs a value (FILE) before --"),
    (("run", "--env", "--", "true"), "--env needs a value (NAME[=VALUE]) before --"),
    (("run", "--script", "--quiet", "--", "true"), "--script needs a value (FILE) before --quiet"),
    (("serve", "--http2"), "there is no option --http2; it was removed, because the endpoint uses HTTP/1.1"),
    (
        ("run", "--upstrem", "http://x/v1", "--", "true"),
        "there is no option --upstrem; did you mean --upstream or",
    ),
    (
        ("show", "--upstrem", "x"),
        "there is no option --upstrem; python -m triocept show --help lists the options",
    ),
    (
        ("--upstream", "http://x/v1"),
        "--upstream; it is an option of triocept run, triocept serve, triocept fleet and triocept eval",
    ),
    (("-v",), "there is no option -v; to print the version: triocept --version"),
    (("version",), "there is no command 'version'; to print the version: triocept --version"),
    (("help",), "there is no command 'help'; to print the help: triocept --help"),
    (
        ("run", "--interactive", "--", "cat"),
        "in the foreground of a terminal, without a pipe or a redirection, or omit",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "said"), MISTYPED, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_command_line_that_is_wrong_names_the_next_step(arguments: tuple[str, ...], said: str) -> None:
    done = triocept(*arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_variable_that_replaces_triocepts_own_is_named(tmp_path: Path) -> None:
    env = ("--env", "OPENAI_API_KEY=k", "--env", "OPENAI_BASE_URL=http://127.0.0.1:9/v1", "--env", "MINE=1")
    what = "▸ --env replaces OPENAI_API_KEY and OPENAI_BASE_URL, with which the agent calls triocept"
    assert what in triocept("run", *env, "--", "true").stderr
    assert (
        "replaces" not in triocept("run", "--env", "MINE=1", "--env", "OPENAI_API_KEY=", "--", "true").stderr
    )
    tasks = written(tmp_path, '{"prompt": "a"}\n', "tasks.jsonl")
    fleet = ("fleet", "--tasks", tasks, "--store", tmp_path / "store", *env, "--", "true", "{prompt}")
    assert what in triocept(*fleet).stderr


def test_a_key_that_no_header_can_carry_names_its_variable_and_the_wrong_character() -> None:
    env = {"OPENAI_API_KEY": "sk-schlüssel"}
    done = forked("run", "--upstream", "http://127.0.0.1:9/v1", "--", "true", timeout=60, env=env)
    assert done.returncode == 2
    what = (
        "the variable OPENAI_API_KEY must be printable ASCII, but its character 8 is 'ü': copy the key again"
    )
    assert what in done.stderr
    assert "sk-schl" not in done.stderr


@pytest.mark.parametrize("first", ["[", '[{"prompt": "a"}]'])
@pytest.mark.parametrize("command", ["eval", "fleet"])
def test_a_json_list_in_place_of_lines_names_what_to_write(command: str, first: str, tmp_path: Path) -> None:
    tasks = written(tmp_path, f'{first}\n{{"prompt": "b"}},\n', "tasks.jsonl")
    how = (
        ("--tasks", tasks, "--store", tmp_path / "s")
        if command == "fleet"
        else (tasks, "--scorer", "includes")
    )
    done = triocept(command, *how, "--", "true", "{prompt}")
    assert done.returncode == 2
    what = (
        f"{tasks}:1: this is a JSON list, but each line must hold one task: write each task on its own line"
    )
    assert done.stderr.count("tasks.jsonl:") == 1
    assert what in done.stderr


def test_a_prompt_within_the_script_of_a_shell_is_not_executed(tmp_path: Path) -> None:
    tasks = written(tmp_path, '{"prompt": "a"}\n', "tasks.jsonl")
    fleet = ("fleet", "--tasks", tasks, "--store", tmp_path / "store", "--")
    done = triocept(*fleet, "bash", "-ec", "agent --task '{prompt}'")
    assert done.returncode == 2
    what = "pass the prompt as an argument, as in: -- bash -ec 'agent --task \"$1\"' bash '{prompt}'"
    assert what in done.stderr
    assert "execute" not in triocept(*fleet, "sh", "-c", 'test "$1" = a', "sh", "{prompt}").stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (("tasks.jsonl", "includes", "--", "true"), "includes is a scorer: write --scorer includes, as in: triocept eval"),
    (("includes", "tasks.jsonl", "--", "true"), "includes is a scorer: write --scorer includes, as in: triocept eval"),
    (("task.jsonl", "--", "true"), "there is no file 'task.jsonl'; did you mean tasks.jsonl?"),
    (("--", "python", "agent.py", "{prompt}"), "there is no file 'python': TASKS comes first, as in: triocept eval"),
    (("none.py:x", "--", "true"), "there is no file 'none.py:x': TASKS comes first, as in: triocept eval tasks.jsonl"),
])  # fmt: skip
def test_an_argument_of_eval_in_the_wrong_place_names_the_right_place(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    written(tmp_path, '{"prompt": "a"}\n', "tasks.jsonl")
    done = forked("eval", *arguments, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(("file", "said"), [
    ("reples.py", "File '{folder}/reples.py' does not exist; did you mean {folder}/replies.py?"),
    ("none.yaml", "File '{folder}/none.yaml' does not exist; correct the path"),
    ("none/replies.py", "File '{folder}/none/replies.py' does not exist; correct the path"),
])  # fmt: skip
def test_a_file_that_does_not_exist_is_answered_by_a_similar_one(
    file: str, said: str, tmp_path: Path
) -> None:
    for name in ("replies.py", ".nones", "reples.txt"):
        written(tmp_path, "", name)
    done = triocept("run", "--script", tmp_path / file, "--", "true")
    assert done.returncode == 2
    assert said.format(folder=tmp_path) in done.stderr
    assert "the name of the file is empty" in triocept("run", "--script", "", "--", "true").stderr


def test_an_evaluation_to_resume_needs_the_name_of_its_store(tmp_path: Path) -> None:
    written(tmp_path, '{"prompt": "a", "target": "b"}\n', "tasks.jsonl")
    resumed = ("eval", "tasks.jsonl", "--scorer", "includes", "--resume", "--", "true", "{prompt}")
    assert (
        "--resume needs --store DIR, the store to continue\n"
        in forked(*resumed, timeout=60, cwd=tmp_path).stderr
    )
    (tmp_path / "runs/tasks-20260101-000000").mkdir(parents=True)
    done = forked(*resumed, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "to continue; the newest store of this evaluation is runs/tasks-20260101-000000\n" in done.stderr


def test_an_empty_script_names_what_to_write(tmp_path: Path) -> None:
    done = triocept("run", "--script", written(tmp_path, "# nothing\n", "s.yaml"), "--", "true")
    assert 's.yaml:1: the file contains no reply: write a list of replies, such as ["hello"]\n' in done.stderr


@pytest.mark.parametrize("text", ["import os\nos.environ['OPENAI_BASE_URL']\n", "import os\ndef main():\n"
                                  "    return os.environ['ANTHROPIC_API_KEY']\n"])  # fmt: skip
def test_an_agent_in_place_of_a_handler_names_what_to_write(text: str, tmp_path: Path) -> None:
    file = written(tmp_path, text, "agent.py")
    done = triocept("run", "--handler", f"{file}:main", "--", "true")
    assert done.returncode == 1
    assert f"If {file} is the agent, write it after --, as in: triocept run -- python {file}" in done.stderr


def test_a_call_that_waits_for_the_page_alone_is_named_on_the_terminal(tmp_path: Path) -> None:
    """Without a terminal, no question is printed, and the run would wait in silence."""
    script = written(tmp_path, SHELL)
    run = ("run", "--script", script, "--view", "--approve", "*", "--max-seconds", "1")
    done = triocept(*run, "--", sys.executable, TINY_AGENT, "hi")
    assert (
        '▸ approve  bash({"command":"echo hi"}) waits until you decide about it on the page of' in done.stderr
    )


def test_an_agent_that_is_not_installed_names_the_command_that_installs_it() -> None:
    env = {"PATH": "/nowhere"}
    done = forked("run", "--agent", "claude-code", "--", "hi", timeout=60, env=env)
    assert done.returncode == 2
    what = "'claude' on the PATH: install it with: npm install -g @anthropic-ai/claude-code; or give"
    assert what in done.stderr
    done = forked("run", "--", "mini", "-t", "hi", timeout=60, env=env)
    assert "install it with: pip install mini-swe-agent; or give its full path" in done.stderr


def test_each_known_agent_has_a_command_that_installs_it() -> None:
    known = {
        source.command: ("npm install -g " if source.registry == "npm" else "pip install ") + source.package
        for name, source in SOURCES.items()
    }
    programs = {signature(prepare).parameters["executable"].default for prepare in AGENTS.values()}
    assert programs <= INSTALL.keys()
    assert {name: INSTALL[name] for name in programs} == {name: known[name] for name in programs}


@pytest.mark.parametrize(("text", "name", "said"), [
    ("async def answer():\n    pass\n", "answer",
     "answer takes no argument, so triocept called it to get the handler, and it returned None: return the handler, "
     "or, if answer itself is the handler, write `async def answer(exchange)`"),
    ("def make():\n    pass\n", "make", "and it returned None: return the handler"),
    ("from math import sqrt\nasync def answer(exchange): ...\nclass Guard: ...\n", "nope",
     "there is no 'nope' in {file}; it defines answer, Guard"),
    ("from math import sqrt\nx = 1\n", "nope", "there is no 'nope' in {file}; it defines no function, class"),
    ("async def answer(exchange): ...\n", "answr", "there is no 'answr' in {file}; did you mean answer?"),
])  # fmt: skip
def test_a_handler_that_a_file_does_not_have_is_named_with_what_it_has(
    text: str, name: str, said: str, tmp_path: Path
) -> None:
    file = written(tmp_path, text, "guard.py")
    done = triocept("run", "--handler", f"{file}:{name}", "--", "true")
    assert done.returncode == 2
    assert said.format(file=file) in done.stderr


@pytest.mark.parametrize(("name", "command", "said"), [
    ("ok.yaml", "ok.yaml -- true", "there is no program 'ok.yaml' on the PATH; did you mean --script ok.yaml?"),
    ("tiny.py", "-- tiny.py hi", "'tiny.py' on the PATH; to run this file, write python tiny.py hi"),
    ("agent", "-- agent hi", "'agent' on the PATH; to run the file in this directory, write ./agent hi"),
])  # fmt: skip
def test_a_file_in_place_of_a_program_names_what_to_write(
    name: str, command: str, said: str, tmp_path: Path
) -> None:
    written(tmp_path, "- hello\n", name)
    done = forked("run", *command.split(), timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(("text", "said"), [
    ("*: approve\n", 'policy.yaml:1: this is not YAML: a text that begins with * must be in quotes: write "*": ap'),
    ("Read: approve\n*.x: ask\n", 'policy.yaml:2: this is not YAML: a text that begins with * must be in quotes'),
    ("Bash: {rejct: no}\n", "policy.yaml:1: Bash: unknown decision 'rejct'; did you mean reject?"),
    ("Bash: approv\n", "policy.yaml:1: Bash: unknown decision 'approv'; did you mean approve?"),
    ("Bash: Reject\n", "policy.yaml:1: Bash: unknown decision 'Reject'; did you mean reject?"),
    ("Read: approve\nBash: [reject\nWrite: ask\n",
     "policy.yaml:2: this is not YAML: the [ in line 2 is not closed: close it with ], or put a text"),
    ("Read: approve\nBash: {reject: no\n",
     "policy.yaml:2: this is not YAML: the { in line 2 is not closed: close it with }"),
])  # fmt: skip
def test_a_policy_that_is_mistyped_names_what_to_write(text: str, said: str, tmp_path: Path) -> None:
    done = triocept("run", "--policy", written(tmp_path, text, "policy.yaml"), "--", "true")
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("option", ["--replay", "--record-once"])
def test_a_file_to_replay_that_is_no_trace_is_described_in_one_line(option: str, tmp_path: Path) -> None:
    file = written(tmp_path, '{\n"model": "gpt",\n"messages": []\n}\n', "request.json")
    done = triocept("run", option, file, "--", "true")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {file}: this is not a trace file: it contains a JSON object with the keys 'model', 'messages'. Trace "
        "files are written by `triocept run --record FILE`, and by JSONLRecorder in a program\n"
    )


@pytest.mark.parametrize("more", [(), ("--task", "x")])
def test_a_comparison_of_what_is_no_store_names_what_it_is(more: tuple[str, ...], tmp_path: Path) -> None:
    file, folder = written(tmp_path, "{}", "a.json"), tmp_path / "folder"
    folder.mkdir()
    for path, what in (
        (tmp_path / "none", "there is no such directory"),
        (file, "this is a file, but a store is a directory"),
        (folder, "the directory is not a store: it contains no run.json"),
    ):
        done = triocept("compare", path, path, *more)
        assert done.returncode == 2
        assert (
            f"Error: {path}: {what}; name a directory that `triocept eval`, `triocept fleet`" in done.stderr
        )


def test_a_provider_whose_host_does_not_exist_is_named() -> None:
    done = triocept("run", "--upstream", "http://model.invalid/v1", *ASK, "hi")
    what = "http://model.invalid/v1/chat/completions: the host model.invalid was not found ("
    assert what in done.stderr
    assert "correct the base URL" in done.stderr


def test_a_key_in_place_of_the_name_of_its_variable_is_not_printed() -> None:
    for key in ("sk-abcdefghijklmnopqrstuvwxyz0123456789", "AIzaSyA1234567890abcdefghijklmnopqrstuvw"):
        done = triocept("run", "--upstream", "http://x/v1", "--api-key-env", key, "--", "true")
        assert done.returncode == 2
        assert "--api-key-env must name an environment variable, and not contain a key" in done.stderr
        assert key not in done.stderr


@pytest.mark.parametrize(("text", "name", "said"), [
    ("", "p.py", "p.py: a policy file is a YAML or JSON file; a policy in Python is an argument of approve("),
    ("- Bash: approve\n", "p.yaml", "not a list: omit the - before each tool"),
    ("Bash:approve\n", "p.yaml", "not a text: write a space after each colon"),
    ("", "p.yaml", "p.yaml:1: the file is empty: write a decision for each tool"),
    ("Bash: {reject: a, answer: b}\n", "p.yaml", "a decision has one key, not 2: give only one of reject, answer"),
    ("Bash: true\n", "p.yaml", "Bash: unknown decision 'true'; did you mean approve?"),
    ("Bash: deny\n", "p.yaml", "Bash: unknown decision 'deny'; did you mean reject?"),
    ("approve: [Bash, Write]\n", "p.yaml", "approve is a decision, and not a tool: write Bash: approve"),
])  # fmt: skip
def test_a_policy_of_another_form_names_what_to_change(
    text: str, name: str, said: str, tmp_path: Path
) -> None:
    done = triocept("run", "--policy", written(tmp_path, text, name), "--", "true")
    assert done.returncode == 2
    assert said in done.stderr


def test_a_module_or_a_list_of_replies_is_no_handler_and_the_error_names_what_to_write(
    tmp_path: Path,
) -> None:
    (tmp_path / "package").mkdir()
    written(tmp_path, "async def answer(exchange): ...\n", "package/module.py")
    done = forked("run", "--handler", "package.module:answer", "--", "true", timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "'package.module' is the name of a module: write the path of its file, package/module.py:answer"
        in done.stderr
    )
    file = written(tmp_path, "replies = ['a']\n")
    done = triocept("run", "--handler", f"{file}:replies", "--", "true")
    assert done.returncode == 2
    assert f"replies is a list of replies, and no handler: write --script {file}" in done.stderr


def test_a_trace_in_place_of_a_script_names_the_option_that_replays_it(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    assert triocept("run", "--record", trace, *ASK, "hi").returncode == 0
    done = triocept("run", "--script", trace, *ASK, "hi")
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: --script: {trace} is a trace file, and not a script: to replay it, write --replay {trace}\n"
    )
    before = trace.read_bytes()
    done = triocept("export", "--to", "jsonl", trace, "-o", trace, "--force")
    assert done.returncode == 2
    assert f"{trace} is one of the files to read: name another file with -o" in done.stderr
    assert trace.read_bytes() == before


def test_a_trace_in_place_of_tasks_is_said_in_one_line(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    assert triocept("run", "--record", trace, *ASK, "hi").returncode == 0
    for done in (
        triocept("eval", trace, "--scorer", "exact", "--", "true", "{prompt}"),
        triocept("fleet", "--tasks", trace, "--store", tmp_path / "s", "--", "true", "{prompt}"),
    ):
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last == f"Error: {trace} is a trace file, and not a list of tasks: name a file of tasks"


def test_a_page_of_what_is_no_trace_describes_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '{"a": 1}\n', "a.json")
    done = triocept("view", file)
    assert done.returncode == 2
    assert (
        f"Error: {file}: this is not a trace file: it contains a JSON object with the keys 'a'."
        in done.stderr
    )


@pytest.mark.parametrize(("scorer", "said"), [
    ("score.py", "--scorer score.py: the name of the function is missing: write score.py:NAME"),
    ("regex:[", "--scorer regex:[: '[' is not a regular expression: unterminated character set"),
    ("exct", "--scorer exct: there is no such scorer; did you mean exact?\n"),
    ("exact", "there is no task with the id 'dats' in tasks; did you mean dates?"),
])  # fmt: skip
def test_a_mistyped_scorer_or_task_names_what_to_write(scorer: str, said: str, tmp_path: Path) -> None:
    tasks = written(tmp_path, '{"id": "dates", "prompt": "a", "target": "b"}\n', "tasks.jsonl")
    done = triocept("eval", tasks, "--scorer", scorer, "--task-id", "dats", "--", "true", "{prompt}")
    assert done.returncode == 2
    assert said in done.stderr


def test_a_current_directory_that_was_removed_is_said(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f'cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "$@"'
    done = triocept("run", "--", "true", shell=command)
    assert done.returncode == 2
    assert "the current directory does not exist any more: change to another directory" in done.stderr


def test_plain_http_behind_an_https_url_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(100_000)  # all: to close with some unread would reset the connection
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threads.submit(answer)
        url = f"https://127.0.0.1:{server.getsockname()[1]}/v1"
        done = triocept("run", "--upstream", url, *ASK, "hi")
        answering.result(timeout=PATIENCE)
    assert (
        "the TLS handshake failed (WRONG_VERSION_NUMBER); if the server uses plain HTTP, write http://"
        in done.stderr
    )


def test_a_proxy_that_is_down_is_named_before_a_fleet_starts(tmp_path: Path) -> None:
    tasks = written(tmp_path, '{"prompt": "a"}\n', "tasks.jsonl")
    env = {"HTTP_PROXY": "http://127.0.0.1:1", "OPENAI_API_KEY": "k", "NO_PROXY": ""}
    arguments = (
        "fleet",
        "--tasks",
        tasks,
        "--store",
        tmp_path / "s",
        "--upstream",
        "http://model.invalid/v1",
    )
    done = forked(*arguments, "--", "true", "{prompt}", timeout=60, env=env)
    assert "by the proxy 127.0.0.1:1, which HTTP_PROXY names: " in done.stderr
    assert "start the proxy, or run `unset HTTP_PROXY`" in done.stderr


def test_a_limit_of_cost_without_the_price_of_the_model_names_the_option() -> None:
    done = triocept("run", "--max-cost", "5", "--price", "other=1,2", *ASK, "a")
    assert done.returncode == 1
    assert (
        "'m' has no price; --price and --prices name only other: add --price MODEL=INPUT,OUTPUT"
        in done.stderr
    )


def test_an_option_of_triocept_after_the_command_of_the_agent_is_said(tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    done = triocept("run", "--", "echo", "hi", "--record", record)
    assert done.stdout == f"hi --record {record}\n"
    assert (
        "--record comes after the agent's command, so the agent gets it; options of triocept come"
        in done.stderr
    )
    assert "comes after" not in triocept("run", "--", "echo", "hi", "--model", "x").stderr


def test_a_task_whose_prompt_has_another_name_is_said_with_the_names_of_its_fields(tmp_path: Path) -> None:
    file = written(tmp_path, '{"id": "a", "promt": "hi"}\n', "tasks.jsonl")
    done = triocept("eval", file, "--scorer", "exact", "--", "true", "{prompt}")
    assert (
        "tasks.jsonl:1: task 'a': it has no prompt (prompt or input); its other fields are promt\n"
        in done.stderr
    )
    file = written(tmp_path, "question,target\na,b\n", "tasks.csv")
    done = triocept("eval", file, "--scorer", "exact", "--", "true", "{prompt}")
    assert "tasks.csv:2: it has no prompt (prompt or input); its other fields are question\n" in done.stderr
