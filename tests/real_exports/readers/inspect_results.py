"""The results of an evaluation, as Inspect has them: its samples, and its own means of them, from JSON and `.eval`."""

import json
import sys
from pathlib import Path

from inspect_ai.log import read_eval_log, recompute_metrics, write_eval_log

path = Path(sys.argv[1])


def of(place):
    log = read_eval_log(str(place))
    said = {
        score.name: {name: metric.value for name, metric in score.metrics.items()}
        for score in log.results.scores
    }
    recompute_metrics(log)
    return {
        "said": said,
        "computed": {
            score.name: {name: metric.value for name, metric in score.metrics.items()}
            for score in log.results.scores
        },
        "counts": [log.results.total_samples, log.results.completed_samples],
        "scored": {score.name: [score.scored_samples, score.unscored_samples] for score in log.results.scores},
        "started": log.stats.started_at,
        "completed": log.stats.completed_at,
        "samples": [
            {
                "place": [each.id, each.epoch],
                "input": each.input,
                "target": each.target,
                "scores": {name: score.model_dump() for name, score in (each.scores or {}).items()},
                "error": each.error and each.error.message,
                "limit": each.limit and each.limit.type,
                "metadata": each.metadata,
            }
            for each in log.samples
        ],
    }  # fmt: skip


packed = path.with_suffix(".eval")
write_eval_log(read_eval_log(str(path)), str(packed))
print(json.dumps({"json": of(path), "eval": of(packed)}))
