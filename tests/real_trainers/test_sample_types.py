"""The sample types of trainers take what a trace has: verifiers' and verl's own, and one like prime-rl's.

The rollouts are those that the example in plain torch has trained on.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.real_exports.environments import read
from triocept import Trace
from triocept._trace.tokens import packed_floats
from triocept.exports import write_export
from triocept.traces import TokenBranch, branches, steps

from .conftest import Learned

pytestmark = pytest.mark.timeout(1200)  # each package is installed with its first test


@pytest.fixture
def traces(learned: Learned) -> list[Trace]:
    return learned.traces[0]


def branch_of(trace: Trace) -> TokenBranch:
    (branch,) = branches(trace)
    return branch


def test_branches_of_verifiers_are_ours(traces: list[Trace], tmp_path: Path) -> None:
    """Its MessageNode and its Branch: what prime-rl makes its samples of."""
    write_export(traces, "verifiers", tmp_path / "traces.jsonl")
    episodes = read("verifiers_episodes", tmp_path)
    assert len(episodes) == len(traces)
    for episode, trace in zip(episodes, traces, strict=True):
        ((told,), branch) = episode["traces"][0]["branches"], branch_of(trace)
        assert told["token_ids"] == branch.token_ids.tolist()
        assert told["mask"] == [each == 1 for each in branch.mask]
        assert packed_floats(told["logprobs"]) == branch.probabilities
        assert told["sampled"] == [False, True] * len(branch.steps)
        assert episode["traces"][0]["reward"] == trace.scores["reward"]


def test_verl_takes_a_branch_as_the_output_of_an_agent_loop(traces: list[Trace], tmp_path: Path) -> None:
    from sample_types import verl_output

    path = tmp_path / "outputs.json"
    path.write_text(json.dumps([verl_output(trace, branch_of(trace)) for trace in traces]))
    for told, trace in zip(read("verl_outputs", path), traces, strict=True):
        branch, called = branch_of(trace), steps(trace)
        assert told["prompts"] == called[0].prompt_ids.tolist()
        assert told["prompts"] + told["responses"] == branch.token_ids.tolist()
        sampled = [each for each, mask in zip(told["responses"], told["response_mask"], strict=True) if mask]
        assert sampled == [each for step in called for each in step.completion_ids]
        assert packed_floats([0.0] * len(told["prompts"]) + told["rollout_log_probs"]) == branch.probabilities
        assert sum(told["rm_scores"]) == pytest.approx(trace.scores["reward"])
        assert told["extra_fields"] == {"policy_versions": ["step-0"] * 3}


class TrainingSample(msgspec.Struct, array_like=True, gc=False, omit_defaults=True):
    """The fields that prime-rl's has (commit 559b4477, 21 August 2026), as far as text needs them, in that order."""

    token_ids: list[int]
    mask: list[bool]
    logprobs: list[float]
    temperatures: list[float]
    env_name: str
    ref_logprobs: list[float] | None = None
    mm_kwargs: dict[str, object] | None = None
    routed_experts: object = None
    mm_token_type_ids: list[int] | None = None
    rl_weights: list[float] | None = None
    ce_weights: list[float] | None = None
    ref_kl_weights: list[float] | None = None
    advantages: list[float] | None = None


def test_a_sample_like_prime_rls_takes_a_branch(traces: list[Trace]) -> None:
    """Its four rows are as long as each other, the temperature of each token among them."""
    from sample_types import prime_rl_sample

    for trace in traces:
        branch = branch_of(trace)
        sample = TrainingSample(**prime_rl_sample(branch, 0.5))
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(sample), type=TrainingSample)
        assert read == sample
        assert read.token_ids == branch.token_ids.tolist()
        assert packed_floats(read.logprobs) == branch.probabilities
        assert read.temperatures == [1.0] * len(read.token_ids)
        assert read.advantages == [0.5 * each for each in read.mask]
        assert len(read.mask) == len(read.logprobs) == len(read.token_ids)
        assert sum(read.mask) == sum(len(step.completion_ids) for step in steps(trace))
