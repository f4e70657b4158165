"""`python -m bench [--quick] [--rounds N] [--only TEXT ...] [--servers NAMES]`.

`python -m bench --rounds 11 --servers triocept,vf_legacy` measures eleven interleaved pairs of each row.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from msgspec import to_builtins
from rich.console import Console

from .processes import (
    LoadFailed,
    ServerProcess,
    ServerUnavailable,
    open_server_process,
    open_servers,
    raise_file_limit,
)
from .report import Report
from .results import add
from .scenarios import SCENARIOS, Effort, Scenario
from .servers import names
from .targets import OURS

FULL = Effort(
    rounds=5, long_rounds=3, long_servers=None, limit=1500.0, seconds=3.0, warmup=0.5, held=500, times=100
)
QUICK = Effort(
    rounds=3,
    long_rounds=1,
    long_servers=frozenset({OURS, "vf_legacy"}),  # those that rows of the targets are about
    limit=75.0,
    seconds=0.4,
    warmup=0.2,
    held=500,
    times=30,
)


class Run:
    """One run: rounds, each over all scenarios, each over all servers, so that all meet the same weather."""

    def __init__(self, effort: Effort, console: Console, log: Path) -> None:
        self._effort = effort
        self._console = console
        self._log = log
        self._report = Report()

    def measure(self, scenarios: list[Scenario], wanted: list[str]) -> Report:
        """All rounds."""
        start = time.monotonic()
        with open_servers(wanted, log=self._log) as (servers, missing):
            if missing:
                self._console.print(f"left out, for they do not start (not installed?): {', '.join(missing)}")
            for number in range(self._effort.rounds):
                for scenario in scenarios:
                    if number and time.monotonic() - start > self._effort.limit:
                        self._console.print(
                            f"cut short after {self._effort.limit:g} s, in round {number + 1}"
                        )
                        return self._report
                    if number < (self._effort.long_rounds if scenario.long else self._effort.rounds):
                        self._round(scenario, number, servers)
        return self._report

    def _round(self, scenario: Scenario, number: int, servers: list[ServerProcess]) -> None:
        self._console.print(f"[dim]round {number + 1} of {self._effort.rounds}: {scenario.name}[/dim]")
        few = self._effort.long_servers if scenario.long else None
        for server in servers:
            if scenario.ability in server.abilities and (few is None or server.name in few):
                self._measure(scenario, number, server)

    def _measure(self, scenario: Scenario, number: int, server: ServerProcess) -> None:
        with ExitStack() as stack:
            try:
                if scenario.fresh:
                    server = stack.enter_context(open_server_process(server.name, log=self._log))
                self._report.add(server.name, number, scenario.run(server, self._effort))
            except (LoadFailed, ServerUnavailable, TimeoutError) as exc:
                self._console.print(f"[red]{scenario.name}: {server.name}: {exc}[/red]")


def parse_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Side by side with others, in one run."
    )
    parser.add_argument("--quick", action="store_true", help="short loads: ends within two minutes")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="so many rounds of every scenario, without a limit of time"
    )
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="scenarios with this in their names; can be repeated"
    )
    parser.add_argument("--servers", default=",".join(names()), metavar="NAMES", help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Measure, show, write."""
    arguments = parse_arguments()
    console = Console() if sys.stdout.isatty() else Console(width=130)
    raise_file_limit()
    only = arguments.only or [""]
    scenarios = [scenario for scenario in SCENARIOS if any(text in scenario.name for text in only)]
    effort = QUICK if arguments.quick else FULL
    if arguments.rounds:
        effort = replace(effort, rounds=arguments.rounds, long_rounds=arguments.rounds, limit=math.inf)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "servers.log"
        report = Run(effort, console, log).measure(scenarios, arguments.servers.split(","))
        if said := log.read_text(encoding="utf-8", errors="replace").strip():
            console.print("the servers said, last:\n" + said[-2000:], markup=False, highlight=False)
    report.show(console)
    console.print(f"written: {report.write()}")
    if not arguments.quick:
        console.print(f"for the documentation (bench.page): {add('bench', to_builtins(report.ratios()))}")


if __name__ == "__main__":
    main()
