"""`--max-turns` and its kin, as a person types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import AGENT

from tests.cli.cli_forks import triocept
from tests.programs import run_python
from triocept import read_traces
from triocept._cli import main

pytestmark = pytest.mark.once

AGENT_COMMAND = ("--", sys.executable, "-c", AGENT, "0", "a", "b", "c", "d")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return triocept("run", *arguments, timeout=60)


def test_a_run_ends_at_its_turns_and_says_so(tmp_path: Path) -> None:
    record = tmp_path / "t.jsonl"
    done = run("--max-turns", "2", "--record", record, *AGENT_COMMAND)
    assert done.stdout.count("said: Hello") == 2
    assert "404" in done.stderr
    assert "stopped: the limit of 2 turns is reached" in done.stderr
    (trace,) = read_traces(record)
    assert trace.stopped == "the limit of 2 turns is reached"
    assert trace.sealed


def test_a_run_ends_at_its_tokens() -> None:
    done = run("--max-tokens", "20", *AGENT_COMMAND)
    assert "stopped: the limit of 20 tokens is reached" in done.stderr


def test_a_run_ends_at_its_cost_and_prices_come_from_options_and_a_file(tmp_path: Path) -> None:
    prices = tmp_path / "p.json"
    prices.write_text(json.dumps({"*": {"input": 0, "output": 100_000}}))  # some 1.4 for each answer
    for price in (("--prices", prices), ("--price", "*=0,100000"), ("--price", "*=0,100000,0")):
        done = run("--max-cost", "2", *price, *AGENT_COMMAND)
        assert done.stdout.count("said: Hello") == 2, done.stderr
        assert "stopped: the limit of 2 for the cost is reached" in done.stderr
        assert "cost     2." in done.stderr
    done = run("--price", "*=0,100000", *AGENT_COMMAND)
    assert done.stdout.count("said: Hello") == 4
    assert "cost     5." in done.stderr  # no limit, and still the cost


def test_an_agent_that_asks_nobody_is_ended_some_time_after_its_seconds(tmp_path: Path) -> None:
    code = "from triocept._cli import agent_plan, main; agent_plan.TO_END = 0.3; main()"
    arguments = ("run", "--max-seconds", "0.2", "--", sys.executable, "-c", "import time; time.sleep(60)")
    done = run_python(code, *arguments, timeout=30)
    assert done.returncode == 128 + 15, done.stderr
    assert re.search(
        r"triocept ended the agent \(SIGTERM\) after .* s: the limit of 0.2 seconds is", done.stderr
    )
    assert "stopped: the limit of 0.2 seconds is reached" in done.stderr


def test_a_model_without_a_price_is_told_in_words() -> None:
    done = run("--max-cost", "2", "--price", "other=1,2", *AGENT_COMMAND)
    assert done.returncode == 1
    assert (
        "\nError: the cost is limited, but the model 'm' has no price; --price and --prices name only other"
        in done.stderr
    )


def test_what_is_asked_under_another_name_costs_what_that_costs(tmp_path: Path) -> None:
    arguments = (
        "--max-cost",
        "2",
        "--model",
        "far",
        "--price",
        "far=1,2",
        "--upstream",
        "http://127.0.0.1:9/v1",
    )
    done = run(*arguments, *AGENT_COMMAND)
    assert "has no price" not in done.stderr


def test_limits_that_make_no_sense_are_told(tmp_path: Path) -> None:
    broken = tmp_path / "p.json"
    broken.write_text('{"m": {"input": "much"}}')
    for arguments, text in (
        (("--max-cost", "1"), "--max-cost needs prices: add --price MODEL=INPUT,OUTPUT"),
        (("--price", "m=1"), "MODEL=INPUT,OUTPUT"),
        (("--price", "m=1,x"), "MODEL=INPUT,OUTPUT"),
        (("--price", "m=-1,2"), "'-1' is not a number of 0 or more"),
        (("--prices", broken), "the price of 'm'"),
        (("--max-turns", "-1"), "--max-turns"),
    ):
        done = run(*arguments, "--", "true")
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("amount", ["nan", "inf", "-inf", "-1", "1e999"])
@pytest.mark.parametrize("option", ["--max-seconds", "--max-cost"])
def test_an_amount_that_is_none_is_a_mistake_of_whoever_typed_it(
    capsys: pytest.CaptureFixture[str], option: str, amount: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(("run", option, amount, "--price", "*=1,1", *AGENT_COMMAND))
    assert left.value.code == 2
    assert f"Invalid value for '{option}': " in capsys.readouterr().err


@pytest.mark.parametrize("price", ["nan,1", "1,inf", "1,1,-1"])
def test_a_price_that_is_none_is_too(capsys: pytest.CaptureFixture[str], price: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(("run", "--price", f"*={price}", *AGENT_COMMAND))
    assert left.value.code == 2
    assert f"--price *={price}: " in capsys.readouterr().err
