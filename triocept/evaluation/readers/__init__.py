"""Readers of tasks: one module for each format.

If a format needs a package, its reader imports the package on first use.

The function `read` of each module yields, for each task, its place in the file and its document. If a document cannot
be read, the function yields an exception in place of the document.

* `reading`: the list of tasks that a reader returns, and the check of a document that describes a task.
* `json_lines`, `csv_file`: files with a task in each line. `datasets_folder`: a folder that the package `datasets` has
  saved.
* `inspect_task`: a `Task` or a `Dataset` of Inspect. `harbor_folder`: task folders in Harbor's format.
  `promptfoo_file`: promptfoo's configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from .reading import BadTasks, TaskList

_BY_SUFFIX = {
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".json": "json_lines",
    ".csv": "csv_file",
    ".py": "inspect_task",
    ".yaml": "promptfoo_file",
    ".yml": "promptfoo_file",
}


def is_tasks_file(text: str) -> bool:
    return Path(text).suffix in _BY_SUFFIX


def read_tasks(path: str | os.PathLike[str], *, split: str | None = None) -> TaskList:
    """Return the tasks of a file or folder. The suffix of a file, or the content of a folder, determines the format.

    Args:
        path: a file `.jsonl`, `.json`, `.csv`, `.yaml` (promptfoo) or `.py` (Inspect; `FILE.py:NAME` names a task or
            dataset in the file); a folder that the package `datasets` has saved; a task folder in Harbor's format; or a
            folder that contains task folders in Harbor's format.
        split: name of the split to read, if a folder of `datasets` has several splits.

    Raises:
        BadTasks: the file has errors; the text of `BadTasks` lists each with its place.
        ImportError: the package of the format is not installed.
        OSError: the file cannot be read.
    """
    file, _, name = os.fspath(path).partition(".py:")
    place = Path(f"{file}.py" if name else file)
    options: dict[str, Any] = {"name": name} if name else {}
    folder, reader = place.parent, _BY_SUFFIX.get(place.suffix, "")
    if place.is_dir():
        saved = any((place / each).exists() for each in ("dataset_info.json", "dataset_dict.json"))
        folder, reader = place, "datasets_folder" if saved else "harbor_folder"
    elif not reader:
        place.stat()  # if it does not exist, its suffix does not matter
        known = ", ".join(_BY_SUFFIX)
        raise BadTasks(f"{place}: the suffix is not that of a known format: use one of {known}, or a folder")
    if split is not None:
        if reader != "datasets_folder":
            raise BadTasks(f"{place}: only a folder of datasets has splits: omit the split")
        options["split"] = split
    found = TaskList(place.name if folder is place else place.stem)
    if reader == "inspect_task":
        options["found"] = found
    documents: Iterator[tuple[str, object]] = import_module(f"{__name__}.{reader}").read(place, **options)
    for number, (where, document) in enumerate(documents, 1):
        if document is not None:
            found.add(document, where, folder=folder, number=number)
    return found.checked(str(place))
