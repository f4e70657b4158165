"""The class `Result`, which contains the outcome of a task and its traces and scores; the classes of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar, final

import msgspec

from .._trace.trace import Trace
from ..errors import GroupStopped
from .packing import chained

Task = TypeVar("Task")
T = TypeVar("T")


@final
class Outcome:
    """Namespace of the classes of outcomes. `result.outcome` is an instance of one of these classes."""

    class Value(msgspec.Struct, Generic[T], frozen=True):
        """The function returned a value."""

        value: T

    class Error(msgspec.Struct, frozen=True):
        """The function raised an exception and is not run again, or the call exceeded the `timeout` of the map."""

        error: BaseException
        """The exception, with its class and attributes. If it cannot be sent to this process, a `RemoteError` replaces
        it."""
        traceback: str = ""
        """The traceback of the exception in the worker, as Python prints it."""

    class Lost(msgspec.Struct, frozen=True):
        """Each worker that ran this task alone died or hung, so often that the fleet's `retries` were exceeded."""

        reason: str
        """Reason why the worker of the last attempt ended."""
        beside: tuple[int, ...] = ()
        """Numbers (`result.number`) of other tasks that ran in the first worker that died while it ran this task. These
        tasks were then run again, separately. Empty if no other task ran in that worker."""

    class Stopped(msgspec.Struct, frozen=True):
        """The sample was stopped before it had ended, because its group (the samples of one task) was stopped.

        A running sample was cancelled. A waiting sample never began; its `result.attempt` is 0.
        """


AnyOutcome: TypeAlias = Outcome.Value[T] | Outcome.Error | Outcome.Lost | Outcome.Stopped


class Result(msgspec.Struct, Generic[Task, T], frozen=True, kw_only=True):
    """A task, or one of its samples, with its outcome and the traces of its rollouts."""

    task: Task
    """The task, as it was passed to the map."""
    number: int
    """Index of the task, from 0; if the map has groups, index of the sample among all samples of all tasks."""
    group: int | None = None
    """Index of the task among all tasks, from 0. None if the map has no groups."""
    sample: int = 0
    """Index of the sample in its group, from 0."""
    attempt: int
    """Number of the attempt that had this outcome, from 1. An earlier attempt ended because its worker died, or with an
    error for which `retry_if` returned True. 0 if the task never began.
    """
    worker: str
    """Name of the worker that ran the last attempt; empty if the task never began."""
    outcome: AnyOutcome[T]
    traces: Sequence[Trace] = ()
    """Traces of the rollouts that the function opened in the last attempt, in the order in which they were opened. A
    trace may be unsealed.

    If the map has a store, each access reads the traces from the store. Traces of earlier attempts are only in the
    files of the recorders of these rollouts. If a worker died during an attempt, the attempt's traces are unsealed.
    """
    scores: dict[str, float] = {}
    """Scores by name, recorded by `rollout.score` in the rollouts of `traces`. If a score was recorded several times,
    its last value counts."""
    key: str | None = None
    """Key of the task in the store; None if the map has no store."""

    @property
    def value(self) -> T:
        """The value that the function returned for this task.

        Raises:
            BaseException: the exception that the function raised. The exception's `__cause__` shows the traceback in
                the worker.
            WorkerLost: the outcome is `Outcome.Lost`.
            GroupStopped: the outcome is `Outcome.Stopped`.
        """
        match self.outcome:
            case Outcome.Value(value=value):
                return value
            case Outcome.Error(error=error, traceback=traceback):
                raise chained(error, traceback)
            case Outcome.Lost(reason=reason):
                from .engine import WorkerLost  # imported here, because `engine` is in a higher layer

                raise WorkerLost(self.worker, reason)
            case Outcome.Stopped():
                raise GroupStopped(f"group {self.group} was stopped before sample {self.sample} had ended")

    def __repr__(self) -> str:
        outcome = type(self.outcome).__name__
        by = f" by {self.worker}" if self.worker else ""
        return f"<Result {self.number}: {outcome}{by}, attempt {self.attempt}, {len(self.traces)} traces>"
