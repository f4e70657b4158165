"""Evaluate agents: run an agent on each task of a list, score its work, and print a table of the scores.

`evaluate` runs an agent on each task, as many times as you choose, and scores the agent's work::

    results = await evaluate("tasks.jsonl", "claude-code", model=model, scorers=check_command(), samples=3)
    print(results.table())

* `_evaluate` contains the function `evaluate`. `_worker` runs one sample (one run of a task) in a worker. `_scorers`
  contains the built-in scorers.
* `_types` defines tasks, scores and samples, and their format in a store. `readers` read tasks from files of many
  formats.
* `_progress` shows the progress, and `_table` the table at the end.
* `_statistics` computes means with intervals, pass@k, and sums. `_comparison` compares two evaluations, paired by task.
"""

from typing import TYPE_CHECKING

from .._moved import hints_of
from ._comparison import Comparison, ScoreComparison, TaskChange, compare_results
from ._evaluate import evaluate
from ._scorers import (
    check_command,
    exact,
    file_content,
    harbor_reward,
    includes,
    model_judge,
    regex,
)
from ._statistics import Estimate
from ._types import AgentEnd, EvaluationResults, NoScore, Reason, Sample, Score, Task, read_results
from ._worker import AgentFunction, Scorer, answer_of
from .readers import read_tasks
from .readers.reading import BadTasks, TaskList

if not TYPE_CHECKING:
    __getattr__ = hints_of(__name__)

__all__ = [
    "AgentEnd",
    "AgentFunction",
    "BadTasks",
    "Comparison",
    "Estimate",
    "ScoreComparison",
    "TaskChange",
    "NoScore",
    "Reason",
    "EvaluationResults",
    "Sample",
    "Score",
    "Scorer",
    "Task",
    "TaskList",
    "answer_of",
    "check_command",
    "compare_results",
    "evaluate",
    "exact",
    "file_content",
    "harbor_reward",
    "includes",
    "model_judge",
    "read_results",
    "read_tasks",
    "regex",
]
