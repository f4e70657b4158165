"""Where a thread is that does not answer: the words for somebody who waits for it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

import msgspec
import trio

__all__ = ["Place", "place_of", "user_place"]

_OURS = (str(Path(__file__).parents[1]), str(Path(trio.__file__).parent))


class Place(msgspec.Struct, frozen=True):
    """Where a thread was."""

    function: str
    file: str
    line: int


def place_of(thread: threading.Thread) -> str:
    """The function in which a thread is, with file and line: the innermost that is the user's, else the innermost."""
    frame = sys._current_frames().get(thread.ident or -1)
    if frame is None:
        return "a thread that has ended"
    place = _place(_first_of_user(frame) or frame)
    return f"{place.function} ({place.file}:{place.line})"


def user_place(thread: threading.Thread) -> Place | None:
    """The function of the user's in which a thread is; None: it is in none."""
    found = _first_of_user(sys._current_frames().get(thread.ident or -1))
    return _place(found) if found is not None else None


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def _first_of_user(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is neither ours nor a library's."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name == "<string>":  # made in a library (a dataclass's method), or all that the program is
            name = str(frame.f_globals.get("__file__", name))
        if not name.startswith(_OURS) and not _is_library(name):
            return frame
        frame = frame.f_back
    return None


def _is_library(filename: str) -> bool:
    return (
        "site-packages" in filename
        or filename.startswith("<frozen")
        or Path(filename).is_relative_to(Path(threading.__file__).parent)
    )
