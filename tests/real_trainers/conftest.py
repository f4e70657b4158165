"""The examples for trainers, each run once for all tests. Not collected by the test suite: `nox -s trainers`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from triocept import Trace
from triocept.fleets import Processes, open_fleet

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "trainers"
sys.path.insert(0, str(EXAMPLES))  # where workers of a fleet look, too

Sampled = tuple[str, tuple[int, ...], tuple[int, ...]]
"""With which weights, after which prompt, which completion."""


@dataclass(frozen=True)
class Learned:
    """What came of a training."""

    traces: list[list[Trace]]
    """Of each round."""
    apart: list[float]
    """The largest difference of a log probability in each round, between the server's and the trainer's."""
    log: list[tuple[str, list[int], list[int], list[float]]]
    """What the server has sampled, as it says."""

    @property
    def rewards(self) -> list[float]:
        """The mean of each round."""
        return [sum(trace.scores["reward"] for trace in each) / len(each) for each in self.traces]


@pytest.fixture(scope="session")
def learned() -> Learned:
    """The example in plain torch, with its agents in two processes."""
    began = time.monotonic()
    found = trio.run(learn)
    shown = " ".join(f"{reward:+.2f}" for reward in found.rewards)
    print(f"\nplain torch, {time.monotonic() - began:.0f} s: reward {shown}")
    return found


async def learn() -> Learned:
    import grpo
    import torch
    from tiny_model import Engine, make_model, make_tokenizer, serve_engine

    torch.manual_seed(0)
    engine: Any = Engine(make_model(), make_tokenizer())
    found = Learned([], [], engine.log)
    with trio.fail_after(900):
        async with trio.open_nursery() as nursery:
            worker = partial(grpo.open_worker, await nursery.start(serve_engine, engine))
            async with open_fleet(Processes(2, slots_per_worker=8), worker=worker) as fleet:
                async for traces, apart in grpo.rounds(fleet, engine):
                    found.traces.append(traces)
                    found.apart.append(apart)
            nursery.cancel_scope.cancel()
    return found
