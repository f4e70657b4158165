"""GRPO in plain torch on what real agent processes had sampled for them: it learns, and nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

import pytest

from triocept import Trace
from triocept._trace.tokens import packed_floats
from triocept.traces import branches, drift, steps

from .conftest import EXAMPLES, Learned

pytestmark = pytest.mark.timeout(900)  # the training is in the first one's time; it takes a minute or two
PROBE = "user: <unk> </s> assistant:"
"""What the tiny model reads of the question that an upstream asks when it is opened."""


def words(ids: Iterable[int]) -> str:
    from tiny_model import WORDS

    return " ".join(WORDS[each] for each in ids)


def test_training_raises_the_reward(learned: Learned) -> None:
    """Its loss says nothing: on the weights that have sampled it is 0."""
    before, after = mean(learned.rewards[:3]), mean(learned.rewards[-5:])
    assert abs(before) < 0.25, "words by chance lead nowhere"
    assert after > before + 0.4


def test_what_is_trained_on_is_to_the_last_id_what_the_server_has_sampled(learned: Learned) -> None:
    """With the version of its weights, and the very log probabilities."""
    sampled = Counter(
        (version, tuple(prompt), tuple(ids), packed_floats(logprobs))
        for version, prompt, ids, logprobs in learned.log
        if words(prompt) != PROBE
    )
    trained = Counter(
        (step.policy_version, tuple(step.prompt_ids), tuple(step.completion_ids), step.tokens.probabilities)
        for traces in learned.traces
        for trace in traces
        for step in steps(trace)
    )
    assert trained == sampled
    assert trained.total() == len(learned.traces) * 2 * 8 * 3, "goals, samples of a group, turns of an agent"


def test_log_probabilities_are_those_that_the_trainer_finds(learned: Learned) -> None:
    assert max(learned.apart) < 1e-4


def test_each_round_is_of_the_weights_before_it(learned: Learned) -> None:
    versions = [
        {step.policy_version for trace in traces for step in steps(trace)} for traces in learned.traces
    ]
    assert versions == [{f"step-{number}"} for number in range(len(learned.traces))]


def every_trace(learned: Learned) -> list[Trace]:
    return [trace for traces in learned.traces for trace in traces]


def test_every_call_is_fit_for_training_and_says_how_it_was_sampled(learned: Learned) -> None:
    from tiny_model import WORDS

    end = WORDS.index("</s>")
    for trace in every_trace(learned):
        assert (trace.sealed, trace.gaps, trace.ended) == (True, (), "body")
        for step in steps(trace):
            assert (step.gaps, step.unknown, step.delivered) == ((), (), True)
            assert step.temperature == step.turn.temperature == 1.0
            assert step.turn.request.sampling.temperature is None, "the agent asked for none"
            assert step.stop_included == (step.completion_ids[-1] == end)


def test_each_rollout_is_one_sequence_that_trains_each_token_once(learned: Learned) -> None:
    for trace in every_trace(learned):
        (branch,) = branches(trace)
        sampled = [each for step in steps(trace) for each in step.completion_ids]
        ids = branch.token_ids
        assert [each for each, mask in zip(ids, branch.mask, strict=True) if mask] == sampled
        assert drift(trace).counts == {"new_root": 1, "extends": 2}


@pytest.mark.parametrize("name", ["grpo.py", "trl_rollouts.py"])
def test_the_example_is_a_program(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len([word for word in done.stdout.split() if word[0] in "+-"]) == 2, "a reward for each round"
