"""Where the tasks of a walk are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

__all__ = ["outlived_streams", "stacks"]


def stacks() -> str:
    """Where every task is, those that wait in one place as one."""
    places: Counter[str] = Counter()
    for task in _tasks():
        frames = [
            f"{Path(frame.f_code.co_filename).name}:{number} {frame.f_code.co_name}"
            for frame, number in task.iter_await_frames()
            if "/trio/" not in frame.f_code.co_filename
        ]
        if frames:
            places[" > ".join(frames[-7:])] += 1
    return "\n".join(f"  {count} at {place}" for place, count in places.most_common())


def outlived_streams() -> list[str]:
    """The requests of HTTP/2 that are still being answered though their streams are gone."""
    found = []
    for task in _tasks():
        if task.name.endswith(".HTTP2._serve"):
            stream: Any = task.coro.cr_frame.f_locals["stream"]  # type: ignore[attr-defined]
            if stream.gone:
                found.append(f"{stream._head.method} {stream._head.target!r}")
    return found


def _tasks() -> Iterator[trio.lowlevel.Task]:
    todo = [trio.lowlevel.current_root_task()]
    while todo:
        task = todo.pop()
        if task is not None:
            yield task
            for nursery in task.child_nurseries:
                todo.extend(nursery.child_tasks)
