"""TRL's own trainer learns from rollouts that are agents, in a trio of their own in each of its steps."""

from __future__ import annotations

import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.real_trainers.test_grpo import PROBE, words

pytestmark = pytest.mark.timeout(900)  # the training is in the first one's time; it takes a minute or two


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The example, run once: its trainer, what its server has sampled, what it was given in each step."""
    import torch
    import trl_rollouts
    from tiny_model import Engine, make_model, make_tokenizer

    torch.manual_seed(0)
    engine: Any = Engine(make_model(), make_tokenizer())
    given: list[dict[str, Any]] = []

    def roll_out(*arguments: Any) -> Any:
        given.append(trl_rollouts.roll_out(engine, *arguments))
        return given[-1]

    began = time.monotonic()
    trainer = trl_rollouts.make_trainer(engine, str(folder_of(tmp_path_factory)))
    trainer.rollout_func = roll_out
    trainer.train()
    found = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    print(f"\nTRL, {time.monotonic() - began:.0f} s: reward {' '.join(f'{reward:+.2f}' for reward in found)}")
    return found, engine.log, given


def folder_of(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("trl")


def test_training_raises_the_reward(trained: Any) -> None:
    rewards, _, _ = trained
    before, after = mean(rewards[:3]), mean(rewards[-5:])
    assert abs(before) < 0.25
    assert after > before + 0.4


def test_what_trl_trains_on_is_what_the_server_has_sampled_and_nothing_between(trained: Any) -> None:
    _, log, given = trained
    sampled = Counter(tuple(ids) for _, prompt, ids, _ in log if words(prompt) != PROBE)
    runs: Counter[tuple[int, ...]] = Counter()
    for step in given:
        for ids, mask in zip(step["completion_ids"], step["env_mask"], strict=True):
            pairs = zip(ids, mask, strict=True)
            runs.update(
                tuple(each for each, _ in run)
                for is_sampled, run in groupby(pairs, lambda p: p[1])
                if is_sampled
            )
    assert runs == sampled
    assert runs.total() == len(given) * 2 * 8 * 3
