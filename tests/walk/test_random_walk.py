"""Random walks, for as long as there is time; and those that once failed, first."""

from __future__ import annotations

import os
import time

import pytest

from tests.seeds import first_seed
from tests.walk.__main__ import EXCHANGES, report, walk
from tests.walk.generate import history_of
from tests.walk.history import QUIET, Call, History, OpenEndpoint, OpenRollout, Plan, Serve, Step, Stop, Visit
from tests.walk.shrink import shrunk

pytestmark = pytest.mark.once

SECONDS = float(os.environ.get("TRIOCEPT_WALK_SECONDS", "3"))
"""Of walks with fresh seeds. `nox` gives them half a minute, on the newest Python; `nox -s soak` walks for longer."""
PLACE = OpenEndpoint(number=1)
ONCE_FAILED: dict[str, tuple[Step, ...]] = {
    "a fault in a stream that could not be recorded vanished behind the recorder's error": (PLACE,
     OpenRollout(number=2, endpoint=1, form="serve", recorder="failing"),
     Call(number=3, rollout=2, plan=Plan(does="stream", fails="fault", unrecorded=True))),
    "a note behind the end of its rollout got into the turn, which was recorded without it": (PLACE,
     OpenRollout(number=2, endpoint=1, form="tasks", recorder="jsonl"),
     Call(number=3, rollout=2, stream=True, plan=Plan(does="forward", turns=30), pause=10), Stop(rollout=2)),
    "a client that went while it was refused left a traceback in the log": (
     OpenEndpoint(number=1, own_http1=False), OpenRollout(number=2, endpoint=1),
     *(Visit(rollout=2, path="/mcp", leaves=turns, pause=50) for turns in range(60))),
    "a client that left a service route before its answer left a traceback in the log": (PLACE,
     OpenRollout(number=2, endpoint=1),
     *(Visit(rollout=2, path="/v1/embeddings", leaves=turns, pause=50) for turns in range(40))),
    "a service that began when a fault had cancelled its scope made the rollout forget that fault": (PLACE,
     *(step for turns in range(12, 24) for step in (
       OpenRollout(number=turns, endpoint=1, form="serve", recorder="awaiting", unwinds=QUIET),
       Call(number=100 + turns, rollout=turns, plan=Plan(does="fault"), pause=turns), Serve(rollout=turns),
       Call(number=200 + turns, rollout=turns, plan=Plan(does="hold"), pause=20)))),
}  # fmt: skip
"""What walks have found, and the shortest history of each. A seed is another history when `generate` changes."""


@pytest.mark.parametrize("found", ONCE_FAILED)
def test_a_history_that_once_failed_holds(found: str) -> None:
    hold(History(seed=0, exchanges=1, steps=ONCE_FAILED[found]))


def test_a_random_walk_holds() -> None:
    seed = first_seed()
    print(f"walks from seed {seed} on")  # pytest shows it where it fails
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        hold(history_of(seed, EXCHANGES))
        seed += 1


def hold(history: History) -> None:
    walked = walk(history)
    if walked.violations:
        pytest.fail(report(history, walked, shrink_seconds=60), pytrace=False)


def test_a_seed_is_a_history() -> None:
    assert history_of(7, 100) == history_of(7, 100) != history_of(8, 100)


def test_the_shortest_part_that_fails_is_found() -> None:
    history = history_of(7, 100)
    guilty = {3, 40, 77}

    def fails(part: History) -> bool:
        assert part.kept is not None
        return guilty <= set(part.kept)

    assert shrunk(history, fails).kept == (3, 40, 77)


def test_any_part_of_a_history_can_be_walked() -> None:
    history = history_of(7, 40)
    assert not walk(history.only(tuple(range(1, len(history.steps), 3)))).violations


def test_a_walk_sees_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is released before it was recorded, say."""
    from triocept._rollout.exchange_state import ExchangeState

    settle = ExchangeState.settle

    async def too_early(self: ExchangeState, outcome: object, last: object = None) -> None:
        self.answer.end(outcome, last)  # type: ignore[arg-type]
        await settle(self, outcome, last)  # type: ignore[arg-type]

    monkeypatch.setattr(ExchangeState, "settle", too_early)
    steps = (
        OpenEndpoint(number=1),
        OpenRollout(number=2, endpoint=1, recorder="awaiting"),
        Call(number=3, rollout=2, plan=Plan(does="respond")),
    )
    walked = walk(History(seed=1, exchanges=1, steps=steps))
    assert [line.partition(":")[0] for line in walked.violations] == ["recorded before released"]
