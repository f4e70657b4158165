"""How functions, tasks, results and errors get into a worker and back.

Rules:

1. What cannot be packed is said where it is given, with what it is.
2. An error comes back in its own class with its attributes; one that cannot comes as a `RemoteError` that says its
   class and text.
3. A trace is pickled whole: its messages and tools stay shared.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections import ChainMap
from collections.abc import Callable
from functools import cache
from io import BytesIO
from itertools import count
from types import CodeType
from typing import Any, ClassVar, NoReturn, Protocol

import msgspec

from .._trace.trace import Trace
from .._util.failures import text_of
from ..errors import RemoteError
from .store.recording import Kept, RecordTo


class Job(msgspec.Struct, frozen=True):
    """One call of a function."""

    function: bytes
    """Packed once for all tasks of a map."""
    task: Any
    attempt: int
    sample: int | None = None
    """What the function is told of it; None: it is not told."""
    timeout: float | None = None
    """Maximum seconds of the call; None: there is no limit."""
    record: RecordTo | None = None
    """Where its rollouts go; None: the map has no store."""


class Spent(msgspec.Struct, frozen=True):
    """What the rollouts of a job came to."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What became of a job."""

    value: Any = None
    failure: Failure | None = None
    traces: tuple[Trace, ...] = ()
    """Of its rollouts, where the map has no store."""
    scores: dict[str, float] = {}
    kept: Kept | None = None
    """What is in the store, where it has one."""
    spent: Spent = Spent()


class Failure(msgspec.Struct, frozen=True):
    """An exception of the function."""

    error: BaseException
    traceback: str


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker, as the cause of that exception in this process."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Packing(Protocol):
    """Values to bytes and back."""

    def pack(self, value: object, what: str, *, keep: bool = False) -> bytes:
        """Bytes that `unpack` makes `value` of.

        Args:
            value: anything.
            what: what it is, for the error.
            keep: whether it will be unpacked more than once.

        Raises:
            TypeError: it cannot cross.
        """

    def unpack(self, data: bytes) -> Any:
        """The value again."""


class Pickled:
    """Across processes: cloudpickle, which takes functions and classes of `__main__` along."""

    def pack(self, value: object, what: str, *, keep: bool = False) -> bytes:
        file = BytesIO()
        try:
            _pickler()(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        except (Exception, SystemExit) as exc:  # whatever a `__reduce__` raises
            raise TypeError(f"{what} cannot be sent to another process: {text_of(exc)}") from exc
        return file.getvalue()

    def unpack(self, data: bytes) -> Any:
        return pickle.loads(data)


@cache
def _pickler() -> Callable[..., pickle.Pickler]:
    """cloudpickle's, but code keeps the name of its file, which cloudpickle leaves out from 3.1.3 on: a traceback of a
    worker shows the lines of a function of `__main__`."""
    import cloudpickle  # type: ignore[import-untyped]  # here: with the first fleet that needs it

    def with_file(code: CodeType) -> tuple[Any, ...]:
        make, parts, *rest = cloudpickle.Pickler.dispatch_table[CodeType](code)
        return make, tuple([code.co_filename if part == "<dynamic-code>" else part for part in parts]), *rest

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({CodeType: with_file}, cloudpickle.Pickler.dispatch_table)

    return Pickler


class ByReference:
    """Within a process: the value itself."""

    def __init__(self) -> None:
        self._values: dict[bytes, object] = {}
        self._kept: set[bytes] = set()
        self._numbers = count()

    def pack(self, value: object, what: str, *, keep: bool = False) -> bytes:
        key = b"%d" % next(self._numbers)
        self._values[key] = value
        if keep:
            self._kept.add(key)
        return key

    def unpack(self, data: bytes) -> Any:
        return self._values[data] if data in self._kept else self._values.pop(data)


def failure_of(error: BaseException, packing: Packing) -> Failure:
    """An exception, as it can cross."""
    text = "".join(traceback.format_exception(error))
    return Failure(_crossing(error, packing), text)


def _crossing(error: BaseException, packing: Packing) -> BaseException:
    if not isinstance(packing, Pickled):
        return error
    try:
        again = packing.unpack(packing.pack(error, "the error"))
    except (Exception, SystemExit):  # it cannot be pickled, or not be made again of what was pickled
        again = None
    if type(again) is type(error):
        return error
    kind = type(error)
    return RemoteError(text_of(error), type=f"{kind.__module__}.{kind.__qualname__}")


def chained(error: BaseException, traceback: str) -> BaseException:
    """Give an exception that was raised in another process its traceback there, as its cause; return it."""
    if error.__traceback__ is None and traceback:
        error.__cause__ = WorkerTraceback(traceback)
    return error


def raise_failure(failure: Failure) -> NoReturn:
    """Raise the exception that a worker raised when it opened the context of its calls."""
    failure.error.add_note("raised where a worker opened what its calls get")
    raise chained(failure.error, failure.traceback)


def import_path() -> list[str]:
    """Where this program imports from, whatever the working directory of who is told."""
    return [os.path.abspath(entry) for entry in sys.path]
