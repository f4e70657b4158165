"""Tasks in a folder that `Dataset.save_to_disk` of the package `datasets` has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._types import Task
from .reading import BadTasks, TaskList


def read(path: Path, split: str | None = None) -> TaskList:
    try:
        from datasets import Dataset, load_from_disk  # type: ignore[import-not-found,unused-ignore]
    except ImportError as exc:
        raise ImportError(f"{path} needs the package datasets: pip install datasets") from exc
    dataset: Any = load_from_disk(str(path))
    if not isinstance(dataset, Dataset):
        if split not in dataset:
            raise BadTasks(f"{path}: it has the splits {', '.join(dataset)}; name one of them as the split")
        dataset = dataset[split]
    elif split is not None:
        raise BadTasks(f"{path}: it has no splits: omit the split")
    found = TaskList(path.name)
    for number, row in enumerate(dataset, 1):
        document = {
            name: value for name, value in row.items() if name == "input" or name in Task.__struct_fields__
        }
        others = {name: value for name, value in row.items() if name not in document}
        document["metadata"] = others | (document.get("metadata") or {})
        found.add(document, f"{path}, row {number}", folder=path, number=number)
    return found.checked(str(path))
