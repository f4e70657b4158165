"""A recorded call, in the form for programs."""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as short

import msgspec

from ..._canonical.request import Request
from ..._canonical.response import Response
from .document import Recorded
from .restored import restored_form


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in a cassette."""

    number: int
    """Number in the file; 0: it was recorded in this run, and gets a number when it is written."""
    file: str
    line: int | None
    """Place in the file; None: it was recorded in this run."""
    request: Request
    """The request, dialect-neutral, as it is compared: ids are numbers, images are hashes."""
    response: Response | None
    """The answer; if it broke, the part that was sent; None: nothing was sent."""
    error: str | None
    """Reason why the call was not answered, or not completely; None: it was answered."""

    def __str__(self) -> str:
        last = self.request.last
        said = f": {last.role} {short(last.text)}" if last is not None and last.text else ""
        place = f"{self.file}:{self.line}" if self.line is not None else "recorded in this run"
        return f"call {self.number} ({place}){said}"


def seen(call: Recorded, path: Path) -> RecordedCall:
    """Return a recorded call in the form for programs."""
    failure = call.answer.failure
    error = f"{failure.status}: {failure.message}" if failure is not None else None
    return RecordedCall(
        number=call.number,
        file=str(path),
        line=call.line,
        request=restored_form(call.form),
        response=call.answer.response,
        error="the application hung up" if call.answer.hung_up else error,
    )
