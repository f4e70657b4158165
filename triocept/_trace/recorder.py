"""Interfaces of recorders. A recorder receives every turn that is added to a trace."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

from .._util.checks import described, is_not_async
from .entries import Entry
from .trace import Trace
from .turn import ServiceCall, Turn


class Recorder(Protocol):
    """An object that receives every turn before the agent receives the end of the turn's answer.

    triocept awaits the methods in a shielded cancel scope, so that a turn is never recorded only in part. Therefore, a
    recorder that waits must limit the time of its wait. If `record` raises an exception, the exchange fails: the agent
    gets a 500, and the exception reaches the code that answers the exchange. A further exception from `record` or
    `seal` is reported only if it differs from the first exception.
    """

    async def record(self, turn: Turn) -> None:
        """Record `turn`."""

    async def seal(self, trace: Trace) -> None:
        """Record that the rollout of `trace` has ended. After this call, only scores of the rollout are recorded."""

    async def aclose(self) -> None:
        """Release files and connections after the endpoint has stopped.

        A program may use the recorder again after this call. Then `record` must open the files and connections again.
        """


@runtime_checkable
class ServiceRecorder(Protocol):
    """A recorder with the method `record_service` also receives each call to a host service."""

    async def record_service(self, call: ServiceCall) -> None:
        """Record `call` before the caller gets the result.

        triocept awaits this method in a shielded cancel scope, like `Recorder.record`.
        """


@runtime_checkable
class EntryRecorder(Protocol):
    """A recorder with the method `record_entry` also receives the starts of rollouts and agents, intents and scores.

    An intent records that a call is about to be passed to its handler.
    """

    async def record_entry(self, entry: Entry) -> None:
        """Record `entry`. triocept awaits this method in a shielded cancel scope, like `Recorder.record`.

        The first entry is an `Opening`, when the rollout opens. If `record_entry` raises for an `Opening`, the rollout
        does not open. An `Intent` is recorded before its call is passed to a handler. If `record_entry` raises for an
        `Intent`, the agent gets a 500. A `Score` may come after `seal`.
        """


@runtime_checkable
class OpenedRecorder(Protocol):
    """A recorder with the method `aopen` is opened before an agent runs, so that its errors come early."""

    async def aopen(self) -> None:
        """Open the recorder. The body of the endpoint or rollout begins only after this method returns.

        Exceptions propagate to the code that opens the endpoint or the rollout.

        The method is called for each endpoint and each rollout, so the recorder may already be open. A cancellation may
        interrupt the call.
        """


def check_recorder(recorder: object) -> None:
    """Raise TypeError if `recorder` lacks a method of a recorder, or if one of these methods is not async."""
    wanted = "recorder must be a Recorder, such as JSONLRecorder(path)"
    if isinstance(recorder, (str, os.PathLike)):
        hint = f"to write that file, pass JSONLRecorder({os.fspath(recorder)!r})"
        raise TypeError(f"{wanted}, not {described(recorder)}; {hint}")
    if isinstance(recorder, type):
        raise TypeError(f"{wanted}; {recorder.__name__} is a class: pass an instance of it")
    kind = type(recorder).__name__
    for name in ("record", "seal", "aclose"):
        method = getattr(recorder, name, None)
        if not callable(method):
            raise TypeError(f"{wanted}; {kind} has no method `{name}`")
        if is_not_async(method):
            raise TypeError(f"{wanted}; the method `{name}` of {kind} is not async")
