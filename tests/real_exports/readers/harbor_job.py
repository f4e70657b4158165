"""A job of Harbor, as its models have it: rewards and counts, and its own statistics of the same trials."""

import json
import sys
from pathlib import Path

from harbor.models.job.result import JobResult, JobStats
from harbor.models.trial.result import TrialResult

folder = Path(sys.argv[1])
job = JobResult.model_validate_json((folder / "result.json").read_bytes())
trials = [TrialResult.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*/result.json"))]
stats = JobStats.from_trial_results(trials, n_total_trials=job.n_total_trials)


def of(stats):
    found = stats.model_dump(mode="json")
    return {
        key: found[key]
        for key in ("n_completed_trials", "n_errored_trials", "n_input_tokens", "n_output_tokens")
    } | {
        "evals": {
            key: {
                "n_trials": each["n_trials"],
                "n_errors": each["n_errors"],
                "rewards": {
                    name: {str(float(value)): sorted(names) for value, names in values.items()}
                    for name, values in each["reward_stats"].items()
                },
                "exceptions": {name: sorted(names) for name, names in each["exception_stats"].items()},
            }
            for key, each in found["evals"].items()
        }
    }


print(
    json.dumps(
        {
            "said": of(job.stats),
            "computed": of(stats),
            "trials": {
                each.trial_name: [
                    each.task_name,
                    each.reward_valid,
                    each.verifier_result and each.verifier_result.rewards,
                ]
                for each in trials
            },
        }
    )
)  # fmt: skip
