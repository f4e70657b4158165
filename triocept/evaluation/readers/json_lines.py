"""Tasks in a file with one JSON object in each line, or with one JSON list of such objects."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .reading import TaskList

_BOM = b"\xef\xbb\xbf"


def read(path: Path) -> TaskList:
    found = TaskList(path.stem)
    data = path.read_bytes().removeprefix(_BOM)
    if path.suffix == ".json":
        try:
            documents = msgspec.json.decode(data, type=list[object])
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            found.errors.append(
                f"{path}: {exc}; a .json file holds one list of tasks, a .jsonl file a task per line"
            )
            documents = []
        for number, document in enumerate(documents, 1):
            found.add(document, f"{path}, task {number}", folder=path.parent, number=number)
        return found.checked(str(path))
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            document = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            problem = "the JSON object is not closed" if "truncated" in str(exc) else str(exc)
            found.errors.append(f'{path}:{number}: {problem}; a line has the form {{"id": …, "prompt": …}}')
        else:
            found.add(document, f"{path}:{number}", folder=path.parent, number=number)
    return found.checked(str(path))
