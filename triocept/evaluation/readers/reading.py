"""The list of tasks that a reader returns. Each document that describes a task is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import Any, final

import msgspec

from ..._util.checks import described, meant
from ..._util.unicode import mended
from .._types import Task
from .._worker import is_path

MOST_ERRORS = 10
"""Maximum number of errors that the text of `BadTasks` lists."""


class BadTasks(ValueError):
    """The tasks cannot be used. For each mistake, the error's text has a line with its place and its task."""


@final
@dataclass
class TaskList:
    """The tasks that were read from one source, such as a file."""

    name: str
    """Name that the evaluation gets if the caller passes no name."""
    tasks: list[Task] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    """Place of each task in its source, for example `tasks.jsonl:7`, by the task's id."""
    errors: list[str] = field(default_factory=list)
    samples: int | None = None
    """Number of samples of each task, if the source specifies it (Inspect's epochs); otherwise None."""

    def add(self, document: object, place: str, *, folder: Path | None = None, number: int) -> None:
        """Add the task that `document` describes. If the document is invalid, add an error.

        Args:
            document: an object with the fields of a `Task` (`input` is accepted as another name of `prompt`). If the
                document could not be read, the exception.
            place: the place of the document in its source.
            folder: directory to which the paths of files in the document are relative.
            number: number that becomes the task's id if the document has no id.
        """
        try:
            if isinstance(document, Exception):
                raise ValueError(document)  # noqa: TRY004
            task = task_of(document, number, folder)
            if (first := self.places.setdefault(task.id, place)) != place:
                raise ValueError(f"{first} has the same id, {task.id!r}: ids must differ")
        except ValueError as exc:
            self.errors.append(f"{place}: {exc}")
        else:
            self.tasks.append(task)

    def checked(self, source: str) -> TaskList:
        """Return this list. Raise BadTasks if the list has errors or is empty."""
        if self.errors:
            raise BadTasks(first_of(self.errors))
        if not self.tasks:
            raise BadTasks(f"{source}: it contains no task")
        return self


def task_of(document: object, number: int, folder: Path | None = None) -> Task:
    """Return the task that `document` describes. Raise ValueError, with the reason, if it describes no task."""
    if isinstance(document, Task):
        document = msgspec.structs.asdict(document)
    if not isinstance(document, Mapping):
        hint = f'; write {{"prompt": {short(document)}}}' if isinstance(document, str) else ""
        raise ValueError(f"a task must be an object with a prompt, not {described(document)}{hint}")  # noqa: TRY004
    fields = {str(name): value for name, value in mended(dict(document)).items() if value is not None}
    name = fields.get("id", number)
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise ValueError(f"id must be a text or a whole number, not {described(name)}")
    name = str(name)
    whose = f"task {name!r}: " if "id" in fields else ""
    if "input" in fields:
        if "prompt" in fields:
            raise ValueError(f"{whose}input and prompt are the same field: give only one of them")
        fields["prompt"] = fields.pop("input")
    if fields.get("prompt") is None:
        others = {**fields, **(metadata if isinstance(metadata := fields.get("metadata"), Mapping) else {})}
        names = ", ".join(each for each in map(str, others) if each not in Task.__struct_fields__)
        raise ValueError(
            f"{whose}it has no prompt (prompt or input){f'; its other fields are {names}' if names else ''}"
        )
    fields["prompt"] = _text(fields["prompt"], whose)
    fields["id"] = name
    if isinstance(target := fields.get("target"), int | float):
        fields["target"] = str(target)
    unknown = [field for field in fields if field not in Task.__struct_fields__]
    if unknown:
        hint = meant(
            unknown[0], Task.__struct_fields__, "put your own data into metadata; the fields of a task are"
        )
        raise ValueError(f"{whose}unknown field {unknown[0]!r}{hint}")
    try:
        task = msgspec.convert(fields, Task)
    except msgspec.ValidationError as exc:
        raise ValueError(f"{whose}{in_words(exc, fields)}") from None
    for limit in ("scorer_timeout", "time_limit", "turn_limit"):
        if (value := getattr(task, limit)) is not None and not 0 < value < float("inf"):
            raise ValueError(f"{whose}{limit} must be more than 0, not {value:g}")
    for files in (task.files, task.check_files):
        for path in files:
            if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ValueError(f"{whose}the path {path!r} of a file must be within the working directory")
    if folder is None:
        return task
    moved = {
        kind: {path: _resolved(source, folder) for path, source in getattr(task, kind).items()}
        for kind in ("files", "check_files")
    }
    return msgspec.structs.replace(task, **moved)


def document_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fields` as the document of a task. A value whose name is not a field of `Task` becomes metadata."""
    others = {name: value for name, value in fields.items() if name not in ("input", *Task.__struct_fields__)}
    metadata = {**others, **(fields.get("metadata") or {})}
    return {**{name: value for name, value in fields.items() if name not in others}, "metadata": metadata}


def _text(prompt: object, whose: str) -> str:
    """Return the prompt as one text. If it is a list of user messages, join them.

    Raise ValueError if the prompt is neither a text nor a list of user messages.
    """
    if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
        raise ValueError(f"{whose}it has no prompt (prompt or input)")
    if isinstance(prompt, str):
        return prompt
    texts: list[str] = []
    for at, message in enumerate(prompt if isinstance(prompt, list | tuple) else ()):
        message = message if isinstance(message, Mapping) else {}
        role, content = message.get("role"), message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if role != "user":
            raise ValueError(
                f"{whose}message {at} of its prompt has the role {role!r}: an agent gets one text, so only messages of "
                "the user are possible"
            )
        for part in parts:
            if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise ValueError(  # noqa: TRY004
                    f"{whose}message {at} of its prompt contains a part of type {kind!r}: an agent gets one text; put "
                    "other content into files"
                )
            texts.append(part["text"])
    if not any(text.strip() for text in texts):
        raise ValueError(f"{whose}the prompt must be a text, not {described(prompt)}")
    return "\n\n".join(texts)


def _resolved(source: str, folder: Path) -> str:
    """If `source` is a path in `folder`, return its absolute path; otherwise return `source` unchanged."""
    if source.startswith("data:") or "\n" in source or not is_path(str(folder / source)):
        return source
    return str((folder / source).absolute())


_TYPES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "object": "a JSON object",
    "array": "a list of texts",
}


def in_words(error: msgspec.ValidationError, document: Any) -> str:
    """Return the text of an error of msgspec as an ordinary sentence that contains the wrong value."""
    found = re.fullmatch(r"Expected `(.+)`, got `\w+`(?: - at `\$\.(\w+)(.*)`)?", str(error))
    if found is None:
        return str(error)
    expected = " or ".join(_TYPES[each] for each in found[1].split(" | ") if each in _TYPES)
    if found[3]:
        return f"{found[2]}{found[3]} must be {expected}"
    value = document[found[2]] if found[2] else document
    return f"{found[2] or 'a task'} must be {expected}, not {msgspec.json.encode(value, enc_hook=repr).decode():.60}"


def first_of(errors: Sequence[str]) -> str:
    """Return a text with the first errors, one in each line, and the number of the errors that are left out."""
    more = len(errors) - MOST_ERRORS
    return "\n".join([*errors[:MOST_ERRORS], *([f"and {more} more"] if more > 0 else [])])


def listed(tasks: Iterable[object], name: str) -> TaskList:
    """Return `tasks`, which a program has passed, as a `TaskList`. Raise BadTasks if a task is invalid."""
    found = TaskList(name)
    for number, task in enumerate(tasks, 1):
        found.add(task, f"task {number}", number=number)
    return found.checked(name)
