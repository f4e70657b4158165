"""The recorder that writes the file; how the file looks is in `lines`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, final

import msgspec

from .._checks import check_bool
from .linefile import LineFile
from .lines import SealLine, ServiceLine, TurnLine, encoded_line
from .service import ServiceCall
from .table import MessageTable, ranges
from .trace import Trace
from .turn import Turn

__all__ = ["JSONLRecorder"]


@final
class JSONLRecorder:
    """Appends every turn to a file, one line each, before the agent sees the end of its answer.

    The write is to the operating system, not to the disk: it outlives the program's SIGKILL. `fsync=True` makes each
    line outlive a power cut too, and costs what the disk costs. Several recorders, in one program or in several, may
    share a file. One that is removed, renamed, replaced or cut off meanwhile is left, and the path written anew.

    Args:
        path: the file; it is made if it is not there, and appended to if it is. Its directory must exist.
        fsync: whether each line is forced to the disk.

    Closing: it holds no descriptor once no rollout is open that it has turns of, or after `aclose`; and opens its file
    again when it is needed. A copy of it (`pickle`, `copy`) has the path, and opens the file itself.

    Raises:
        OSError: from `aopen`, that is before the body of `serve_endpoint` or `open_rollout` begins: the path cannot be
            written, or is no regular file. From `record`: a line could not be written whole. The text names the path.
    """

    def __init__(self, path: str | os.PathLike[str], *, fsync: bool = False) -> None:
        check_bool("fsync", fsync)
        self.path: Path = Path(path)
        self._file = LineFile(self.path.absolute(), fsync=fsync)
        self._runs: dict[tuple[str, str], _Run] = {}

    def __repr__(self) -> str:
        return f"JSONLRecorder({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A descriptor is a number: in another process it may be any file. A copy opens the path anew.
        return partial(JSONLRecorder, self._file.path, fsync=self._file.fsync), ()

    async def aopen(self) -> None:
        self._file.look()

    async def record(self, turn: Turn) -> None:
        opening = self._file.look()
        run = self._runs.get(key := (turn.rollout, turn.run))
        if run is None or run.opening != opening:  # its messages are written again, into what is another file
            run = self._runs[key] = _Run(opening)
        self._file.append(encoded_line(run.line(turn)))
        run.written = len(run.table.messages)  # not before: a line that failed brought nothing

    async def record_service(self, call: ServiceCall) -> None:
        self._file.look()
        self._file.append(encoded_line(ServiceLine(call=call)))

    async def seal(self, trace: Trace) -> None:
        self._runs.pop((trace.rollout, trace.run), None)
        seal = SealLine(
            rollout=trace.rollout,
            run=trace.run,
            turns=len(trace),
            services=len(trace.services),
            branch=trace.branch,
            stopped=trace.stopped,
        )
        try:
            self._file.look()
            self._file.append(encoded_line(seal))
        finally:
            if not self._runs:
                self._file.close()

    async def aclose(self) -> None:
        self._file.close()


class _Run:
    """What of one rollout is in the file, since it was opened for the time of this number."""

    def __init__(self, opening: int) -> None:
        self.opening = opening
        self.table = MessageTable()
        self.written = 0
        """How many of its messages."""

    def line(self, turn: Turn) -> TurnLine:
        """The turn, with the messages that are not in the file yet."""
        numbers = self.table.add(turn.request.messages)
        bare = msgspec.structs.replace(turn, request=msgspec.structs.replace(turn.request, messages=()))
        new = self.table.messages[self.written :]
        return TurnLine(turn=bare, conversation=ranges(numbers), first=self.written, new=new)
