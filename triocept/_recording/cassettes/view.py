"""A recorded call, as a program sees it."""

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
    """Its name in the file; 0: it was recorded in this run, and gets one when that is written."""
    file: str
    line: int | None
    """Where it stands there; None: it was recorded in this run."""
    request: Request
    """What was asked, in no dialect's words, as it is compared: ids are numbers, images their hashes."""
    response: Response | None
    """What was answered; of an answer that broke, what came of it; None: nothing."""
    error: str | None
    """Why it was not answered, or not to its end; None: it was."""

    def __str__(self) -> str:
        last = self.request.last
        said = f": {last.role} {short(last.text)}" if last is not None and last.text else ""
        place = f"{self.file}:{self.line}" if self.line is not None else "recorded in this run"
        return f"call {self.number} ({place}){said}"


def seen(call: Recorded, path: Path) -> RecordedCall:
    """A recorded call, as a program sees it."""
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
