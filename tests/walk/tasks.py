"""Where the tasks of a walk are."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import trio


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


def _tasks() -> Iterator[trio.lowlevel.Task]:
    todo = [trio.lowlevel.current_root_task()]
    while todo:
        task = todo.pop()
        if task is not None:
            yield task
            for nursery in task.child_nurseries:
                todo.extend(nursery.child_tasks)
