"""Encode functions, tasks, results and errors as bytes, which are sent to workers and back.

Rules:

1. If a value cannot be packed (encoded as bytes), the triocept function that got this value raises an error that
   describes the value.
2. An error that a worker sends keeps its class and its attributes. If the error cannot be pickled, a `RemoteError` with
   the name of its class and its text replaces it.
3. A trace is pickled as one object, so that messages and tools that several turns share are still shared afterwards.
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
from .._util.secrets import without_keys
from ..errors import RemoteError
from .store.recording import Kept, RecordTo


class Job(msgspec.Struct, frozen=True):
    function: bytes
    """The function, as bytes. A map encodes its function only once for all tasks."""
    task: Any
    attempt: int
    sample: int | None = None
    """Index of the sample; None if the function has no parameter `sample`."""
    timeout: float | None = None
    """Maximum seconds of the call; None means no limit."""
    grace: float = 0.0
    """Maximum seconds in which the call must end after `timeout` has passed. When exceeded: its worker is killed."""
    slot: int = 0
    """Number of the call's slot; 0 if the call needs no slot (`Fleet.each`)."""
    record: RecordTo | None = None
    """Store in which the call's rollouts are recorded; None if the map has no store."""


class Spent(msgspec.Struct, frozen=True):
    """Numbers of the rollouts, turns and tokens of one job."""

    rollouts: int = 0
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Answer(msgspec.Struct, frozen=True):
    value: Any = None
    failure: Failure | None = None
    traces: tuple[Trace, ...] = ()
    """Traces of the job's rollouts; empty if the map has a store."""
    scores: dict[str, float] = {}
    kept: Kept | None = None
    """Places of the job's traces in the store; None if the map has no store."""
    spent: Spent = Spent()
    overdue: tuple[int, ...] = ()
    """Slot numbers of all calls of the worker that are still running although their timeouts have passed. Empty if this
    answer reports the end of a call.
    """


class Failure(msgspec.Struct, frozen=True):
    """An exception that the function raised, with the text of its traceback in the worker."""

    error: BaseException
    traceback: str


class WorkerTraceback(Exception):
    """Cause (`__cause__`) of an exception that a worker sent. Its text is the traceback in the worker."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Packing(Protocol):
    """Encoding of values as bytes."""

    def pack(self, value: object, what: str, *, keep: bool = False) -> bytes:
        """Return bytes that `unpack` decodes to `value`.

        Args:
            value: any object.
            what: description of `value`, for the text of the TypeError.
            keep: True if the bytes will be unpacked more than once.

        Raises:
            TypeError: `value` cannot be encoded.
        """

    def unpack(self, data: bytes) -> Any:
        """Return the value that `pack` has encoded."""


class Pickled:
    """Encoding by cloudpickle, for workers in other processes.

    Functions and classes of `__main__` are sent by value.
    """

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
    """Return a pickler class that keeps the file name of pickled code; cloudpickle's own class drops it since 3.1.3.

    The file name is needed so that the traceback of an exception in a worker can show source lines of functions of
    `__main__`.
    """
    import cloudpickle  # type: ignore[import-untyped]  # here: with the first fleet that needs it

    def with_file(code: CodeType) -> tuple[Any, ...]:
        make, parts, *rest = cloudpickle.Pickler.dispatch_table[CodeType](code)
        return make, tuple([code.co_filename if part == "<dynamic-code>" else part for part in parts]), *rest

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({CodeType: with_file}, cloudpickle.Pickler.dispatch_table)

    return Pickler


def unpack_answer(data: bytes, packing: Packing, *, has_store: bool) -> Answer:
    """Return the answer that `data` encodes.

    If this process cannot decode `data`, return an answer with a TypeError.
    """
    try:
        answer: Answer = packing.unpack(data)
    except (Exception, SystemExit) as exc:  # any code may run while parts of the answer are unpickled
        what = f"{type(exc).__name__}: {text_of(exc)}"
        text = f"the result of the function cannot be unpickled in the program that called the map: {what}"
        failure = Failure(TypeError(text), "".join(traceback.format_exception(exc)))
        return Answer(failure=failure, kept=Kept() if has_store else None)
    return answer


class ByReference:
    """Encoding for a worker in this process: the bytes contain only a reference to the value, which is not copied."""

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
    """Return a `Failure` with `error`, or with a `RemoteError` if `error` cannot be pickled."""
    text = without_keys("".join(traceback.format_exception(error)))
    if isinstance(packing, Pickled):
        try:
            again = packing.unpack(packing.pack(error, "the error"))
        except (Exception, SystemExit):  # the error cannot be pickled or unpickled
            again = None
        if (kind := type(error)) is not type(again):
            error = RemoteError(without_keys(text_of(error)), type=f"{kind.__module__}.{kind.__qualname__}")
    return Failure(error, text)


def chained(error: BaseException, traceback: str) -> BaseException:
    """Set `error.__cause__` to an error whose text is `traceback`; return `error`.

    `traceback` is the text of the traceback in the process that sent `error`.
    """
    if error.__traceback__ is None and traceback:
        error.__cause__ = WorkerTraceback(traceback)
    return error


def raise_failure(failure: Failure) -> NoReturn:
    """Raise the exception in `failure`, which a worker raised when it opened the context for its calls."""
    failure.error.add_note("this exception was raised when a worker opened the context for its calls")
    raise chained(failure.error, failure.traceback)


def import_path() -> list[str]:
    """Return `sys.path` with absolute paths, for use in processes whose working directory differs."""
    return [os.path.abspath(entry) for entry in sys.path]
