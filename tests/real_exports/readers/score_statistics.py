"""Statistics of scores by numpy, scipy and Inspect: of each case of a file, the values of A and B by task."""

import json
import sys
from pathlib import Path

import numpy as np
from inspect_ai.scorer import SampleScore, Score, ci_wilson, pass_at, pass_k, stderr
from scipy import stats


def of_values(values):
    means = [np.mean(each) for each in values.values()]
    count = len(means)
    error = stats.sem(means) if count > 1 else None
    half = stats.t.ppf(0.975, count - 1) * error if count > 1 else None
    scores = [
        SampleScore(score=Score(value=value), sample_metadata={"task": task})
        for task, each in values.items()
        for value in each
    ]
    equal = len({len(each) for each in values.values()}) == 1
    found = {"mean": float(np.mean(means)), "stderr": error, "half": half}
    if equal and count > 1:
        found["clustered"] = float(stderr(cluster="task")(scores))
        if all(value in (0, 1) for each in values.values() for value in each):
            found["wilson"] = ci_wilson(cluster="task")(scores)
    found["pass"] = {
        str(k): [
            float(
                np.mean([reduce(k)([Score(value=value) for value in each]).value for each in values.values()])
            )
            for reduce in (pass_at, pass_k)
        ]
        for k in range(1, 1 + min(map(len, values.values())))
    }
    return found


def of(case):
    a, b = case["a"], case["b"]
    first, second = ([np.mean(each[task]) for task in a] for each in (a, b))
    better, worse = (sum(sign * (y - x) > 1e-12 for x, y in zip(first, second)) for sign in (1, -1))
    tested = stats.ttest_rel(second, first)
    interval = tested.confidence_interval(0.95)
    return {
        "a": of_values(a),
        "p": float(tested.pvalue),
        "interval": [float(interval.low), float(interval.high)],
        "sign": float(stats.binomtest(int(worse), int(better + worse)).pvalue) if better + worse else 1.0,
    }


print(json.dumps([of(case) for case in json.loads(Path(sys.argv[1]).read_text())]))
