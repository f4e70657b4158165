"""200 tests in one session: what each costs above an empty one, and what is left at the end.

All kinds run in one environment, in turn and round by round, so that all meet the same weather. Of a kind's rounds the
best counts: what else the machine does only adds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median

from .running import Failed, Run, run_pytest
from .tools import SESSIONS

TESTS = 200
ROUNDS = 3
KINDS = {
    "empty": "an empty test",
    "triocept": "triocept",
    "httpserver": "pytest-httpserver",
    "aimock": "aimock-pytest, one server for the session",
    "aimock_each": "aimock-pytest, a server for each test",
}
"""By the file in `sessions`, which is `with_` this."""
SLOW = "aimock_each"
"""Which is run in the first round alone."""


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What a kind costs, the empty one's taken off."""

    alone: float
    """Milliseconds for each test that has the fixture, and does nothing with it."""
    call: float
    """Milliseconds for each test that makes one call."""
    cpu: float
    """Seconds of the processor for all of the latter, the server and its start included."""
    once: float
    """Milliseconds once in a session, whatever the number of tests: import, start, stop."""
    left: dict[str, list[str]]
    """Threads, descriptors and processes that were there at the end."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One session of 200 tests."""

    whole: Run
    seconds: list[float]
    """For each test."""
    left: dict[str, list[str]]

    @property
    def each(self) -> float:
        """Seconds for a test, where the first and the last have more to do than others."""
        return median(self.seconds)


def measure(python: Path, environ: dict[str, str]) -> dict[str, Overhead]:
    """Run all kinds, and say what each costs."""
    held: dict[str, dict[str, list[Session]]] = {kind: {"alone": [], "call": []} for kind in KINDS}
    for number in range(ROUNDS):
        for kind, sessions in held.items():
            for test in sessions if kind != SLOW or not number else ():
                sessions[test].append(_hold(python, kind, test, environ))
    return {kind: _overhead(sessions, held["empty"]) for kind, sessions in held.items()}


def _hold(python: Path, kind: str, test: str, environ: dict[str, str]) -> Session:
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "said.json"
        run = run_pytest(python, SESSIONS, f"with_{kind}.py", "-k", test, f"--say={file}", environ=environ)
        said = json.loads(file.read_text())
    if len(run.tests) != TESTS:
        raise Failed(f"{kind}: of {TESTS} tests {len(run.tests)} passed")
    return Session(whole=run, seconds=said["seconds"], left=said["left"])


def _overhead(sessions: dict[str, list[Session]], empty: dict[str, list[Session]]) -> Overhead:
    def above(measured: Callable[[Session], float], test: str) -> float:
        ours, nothing = (min(map(measured, each[test])) for each in (sessions, empty))
        return (ours - nothing) * 1000

    call = above(lambda session: session.each, "call")
    return Overhead(
        alone=above(lambda session: session.each, "alone"),
        call=call,
        cpu=above(lambda session: session.whole.cpu, "call") / 1000,
        once=above(lambda session: session.whole.seconds, "call") - call * TESTS,
        left=_left(sessions),
    )


def _left(sessions: dict[str, list[Session]]) -> dict[str, list[str]]:
    """What any of these sessions left."""
    found: dict[str, set[str]] = {}
    for session in chain(*sessions.values()):
        for what, names in session.left.items():
            found.setdefault(what, set()).update(names)
    return {what: sorted(names) for what, names in found.items() if names}
