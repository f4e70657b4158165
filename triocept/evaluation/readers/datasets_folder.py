"""Read tasks from a folder that the method `Dataset.save_to_disk` of the package `datasets` has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .reading import BadTasks, document_of


def read(path: Path, split: str | None = None) -> Iterator[tuple[str, object]]:
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
    for number, row in enumerate(dataset, 1):
        yield f"{path}, row {number}", document_of(row)
