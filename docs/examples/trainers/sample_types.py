"""A trace's tokens in the words of two trainers: the arguments of their sample types.

Neither is needed here. Each branch is a sample: `branches` says of which tokens.
"""

import math


def verl_output(trace, branch):
    """For `AgentLoopOutput(**…, metrics=AgentLoopMetrics())` of verl 0.9."""
    start = branch.spans[0].start
    versions = [step.policy_version for step in branch.steps]
    return {
        "prompt_ids": branch.token_ids[:start].tolist(),
        "response_ids": branch.token_ids[start:].tolist(),
        "response_mask": list(branch.mask[start:]),
        "response_logprobs": branch.logprobs[start:].tolist(),
        "reward_score": trace.scores.get("reward"),
        "num_turns": 2 * len(branch.steps),  # a prompt, and its answer
        "extra_fields": {"policy_versions": versions},
    }


def prime_rl_sample(branch, advantage, *, env_name="triocept", temperature=1.0):
    """For `TrainingSample(**…)` of prime-rl.

    Args:
        branch: of `branches(trace)`.
        advantage: of its rollout.
        env_name: whose loss is added up.
        temperature: the server's own, for calls that asked for none.
    """
    asked = branch.temperatures
    return {
        "token_ids": branch.token_ids.tolist(),
        "mask": [each == 1 for each in branch.mask],
        "logprobs": branch.logprobs.tolist(),
        "temperatures": [temperature if math.isnan(each) else each for each in asked],
        "env_name": env_name,
        "advantages": [advantage * each for each in branch.mask],
    }
