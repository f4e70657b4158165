"""Read tasks from a Python file of Inspect, which contains a function `@task`, a `Task`, or a `Dataset`.

The task's input, target, id, files, setup, metadata, limits and epochs are read. Its solver, scorer and sandbox are not
used.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .reading import BadTasks, TaskList


def read(path: Path, found: TaskList, name: str | None = None) -> Iterator[tuple[str, object]]:
    try:
        from inspect_ai import Task as InspectTask  # type: ignore[import-not-found,unused-ignore]
        from inspect_ai.dataset import Dataset  # type: ignore[import-not-found,unused-ignore]
    except ImportError as exc:
        raise ImportError(f"{path} needs the package inspect-ai: pip install inspect-ai") from exc
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        names = runpy.run_path(str(path))
    finally:
        sys.path.remove(str(path.parent.absolute()))

    def is_tasks(value: Any) -> bool:
        is_function = hasattr(value, "__registry_info__") and value.__registry_info__.type == "task"
        return is_function or isinstance(value, InspectTask | Dataset)

    there = [each for each, value in names.items() if is_tasks(value)]
    if name is None and len(there) == 1:
        name = there[0]
    if name not in there:
        what = (
            f"it contains {', '.join(there)}: name one of them, as in {path}:{there[0]}"
            if there
            else "it contains no @task function"
        )
        raise BadTasks(f"{path}: {what}" if name is None else f"{path}: there is no task {name!r}; {what}")
    value = names[name]
    value = value() if not isinstance(value, InspectTask | Dataset) else value
    task = value if isinstance(value, InspectTask) else None
    found.name = name
    if task is not None and task.epochs:
        found.samples = getattr(task.epochs, "epochs", task.epochs)
    for number, sample in enumerate(task.dataset if task is not None else value, 1):
        prompt = sample.input
        yield (
            f"{path}:{name}, sample {number}",
            {
                "id": sample.id,
                "prompt": prompt if isinstance(prompt, str) else [each.model_dump() for each in prompt],
                "target": sample.target,
                "files": sample.files,
                "setup": sample.setup,
                "metadata": sample.metadata,
                "time_limit": getattr(task, "time_limit", None),
                "turn_limit": getattr(task, "turn_limit", None),
            },
        )
