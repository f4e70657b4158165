"""Readers of tasks: one module for each format. A reader imports the package of its format when it is used.

* `reading`: the list of tasks that a reader returns, and the check of a document that describes a task.
* `json_lines`, `csv_file`: files with a task in each line. `datasets_folder`: a folder that `datasets` has saved.
* `inspect_task`: a `Task` or a `Dataset` of Inspect. `harbor_folder`: task folders in Harbor's format.
  `promptfoo_file`: promptfoo's configuration.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

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


def read_tasks(path: str | os.PathLike[str], *, split: str | None = None) -> TaskList:
    """Return the tasks of a file or folder; its suffix or its content decides about the format.

    Args:
        path: a file `.jsonl`, `.json`, `.csv`, `.yaml` (promptfoo) or `.py` (Inspect; `FILE.py:NAME` names a task or
            dataset in it), a folder that `datasets` has saved, or a folder in Harbor's format or of such folders.
        split: name of the split, if the folder of `datasets` has several.

    Raises:
        BadTasks: the file has errors; the text names each place.
        ImportError: the package of the format is not installed.
        OSError: the file cannot be read.
    """
    file, _, name = os.fspath(path).partition(".py:")
    place = Path(f"{file}.py" if name else file)
    options: dict[str, str] = {"name": name} if name else {}
    if place.is_dir():
        saved = any((place / each).exists() for each in ("dataset_info.json", "dataset_dict.json"))
        module = "datasets_folder" if saved else "harbor_folder"
        options |= {"split": split} if saved and split else {}
    elif place.suffix in _BY_SUFFIX:
        module = _BY_SUFFIX[place.suffix]
    else:
        known = ", ".join(dict.fromkeys(_BY_SUFFIX))
        raise BadTasks(f"{place}: the suffix names no format of tasks; there are {known}, and folders")
    if split is not None and "split" not in options:
        raise BadTasks(f"{place}: only a folder of datasets has splits: omit the split")
    found: TaskList = import_module(f"{__name__}.{module}").read(place, **options)
    return found
