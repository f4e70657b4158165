"""Quiet walks, for as long as there is time; see `quiet`."""

import time

import pytest

from tests.seeds import first_seed
from tests.walk.quiet import Ask, History, Settle, history_of, play, report
from tests.walk.test_random_walk import SECONDS

pytestmark = pytest.mark.once


def test_a_quiet_walk_holds() -> None:
    seed = first_seed()
    print(f"quiet walks from seed {seed} on")  # pytest shows it where it fails
    until = time.monotonic() + SECONDS / 6
    while time.monotonic() < until:
        if violations := play(history := history_of(seed)):
            pytest.fail(report(history, violations), pytrace=False)
        seed += 1


def test_a_quiet_walk_sees_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two questions that are taken for one, say."""
    monkeypatch.setattr("triocept._rollout.calls.meaning", lambda request: b"")
    steps = (Ask(0, 0), Settle(0), Ask(1, 0, secret=1, says="second try"))
    history = History(seed=1, steps=steps, on_hangup="cancel", on_retry="join")
    violations = play(history)
    assert [line.partition(":")[0] for line in violations] == ["retries"]
    assert "the quiet walk of seed 1 fails" in report(history, violations)
