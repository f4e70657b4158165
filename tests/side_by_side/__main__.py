"""`python -m tests.side_by_side [--only NAME] [--record] [--rounds N]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import page
from .aimock_examples import try_examples
from .environments import aimock_environ, build_wheel, interpreter, interpreter_of
from .languages import run_languages
from .overhead import measure
from .provider import record
from .running import Failed, Run, run_pytest
from .tools import BOTH, OVERHEAD, SUITES, TOOLS, TRIOCEPT, Tool

ROUNDS = 3


def main() -> None:
    """Run what is asked for; the status says whether every test that can pass has passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.side_by_side", description=__doc__)
    parser.add_argument("--only", choices=[tool.key for tool in TOOLS], help="run one tool's tests, once")
    parser.add_argument("--record", action="store_true", help="record the cassettes of pytest-recording anew")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="of each tool's tests; the page has the best"
    )
    asked = parser.parse_args()
    try:
        if asked.record:
            record()
        elif asked.only:
            _run_all([tool for tool in TOOLS if tool.key == asked.only], rounds=1, wheel=build_wheel())
        else:
            _write_pages(asked.rounds, build_wheel())
    except Failed as exc:
        sys.exit(str(exc))


def _write_pages(rounds: int, wheel: Path) -> None:
    page.put(page.SIDE_BY_SIDE, "code", page.code())
    page.put(page.SIDE_BY_SIDE, "unsaid", page.unsaid_list())
    runs = _run_all(TOOLS, rounds=rounds, wheel=wheel)
    page.put(page.SIDE_BY_SIDE, "figures", page.figures(runs))
    page.put(page.FROM_AIMOCK, "examples", page.examples(try_examples()))
    _run_beside(wheel)
    costs = measure(interpreter("overhead", OVERHEAD, wheel), aimock_environ())
    page.put(page.SIDE_BY_SIDE, "sessions", page.sessions(costs))


def _run_beside(wheel: Path) -> None:
    """What other pages show: other HTTP that is mocked in the same test, and other languages."""
    run = run_pytest(interpreter("both", BOTH, wheel), SUITES, "both.py")
    print(f"a model beside other HTTP that is mocked: {len(run.tests)} passed", flush=True)
    for line in run_languages(interpreter_of(TRIOCEPT, wheel)):
        print(line, flush=True)


def _run_all(tools: tuple[Tool, ...] | list[Tool], *, rounds: int, wheel: Path) -> dict[str, list[Run]]:
    """Round by round, so that all tools meet the same weather."""
    environ = aimock_environ() if any(tool.key == "aimock" for tool in tools) else {}
    pythons = {tool.key: interpreter_of(tool, wheel) for tool in tools}
    runs: dict[str, list[Run]] = {tool.key: [] for tool in tools}
    for number in range(rounds):
        for tool in tools:
            run = run_pytest(pythons[tool.key], SUITES, tool.file, environ=environ)
            runs[tool.key].append(run)
            print(
                f"round {number + 1}: {tool.name}: {len(run.tests)} passed in {run.seconds:.1f} s", flush=True
            )
    return runs


if __name__ == "__main__":
    main()
