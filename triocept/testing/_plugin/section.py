"""Make the section of a test report that lists the calls of the test's models, with the application's messages.

Texts are quoted, so that control codes in a text of an application or a model do not reach the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from traceback import format_exception

from ..._canonical.content import Message
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._trace.turn import Turn
from .._rollout import SyncRollout
from .models import ModelFactory
from .verdict import is_in

_LAST = 4
"""Maximum messages shown for each call. Only the last messages are shown, because earlier messages were mostly shown
with an earlier call."""
_LONGEST = 300
"""Maximum characters shown of each text; the trace contains the whole text."""


def section_of(models: ModelFactory, shown: BaseException | None) -> str:
    """Return a text with the calls of each model, oldest first, and the problems; empty if no model was opened.

    Omit the problems that are already part of `shown`, the exception that the report contains.
    """
    several = len(models.models) > 1
    lines: list[str] = []
    for number, model in enumerate(models.models):
        lines += _model(model, f"model {number}: " if several else "")
    if (cassette := models.cassette) is not None:
        recorded = len(cassette.recorded)
        unwritten = f"; recorded now: {recorded} (not written, because the test failed)" if recorded else ""
        lines.append(
            f"cassette {cassette.path}: {_counted(len(cassette.calls) - recorded, 'call')}{unwritten}"
        )
    text = "\n".join([str(shown), *map(str, getattr(shown, "__notes__", ()))])
    for problem in models.problems if lines else ():
        if shown is not None and is_in(shown, problem):
            continue
        if problem.__traceback__ is not None or type(problem) is not AssertionError:
            lines.append("".join(format_exception(problem)).rstrip())
        elif shown is None or str(problem) not in text:  # a complaint that the report does not contain
            lines.append(str(problem))
    return "\n".join(lines)


def _model(model: SyncRollout, name: str) -> Iterator[str]:
    try:
        calls, trace = model.calls, model.trace
    except (RuntimeError, TimeoutError) as exc:  # its loop is blocked, or ended
        yield f"{name}the calls cannot be shown: {exc}"
        return
    yield f"{name}{_counted(len(calls), 'call')}"
    for number, turn in enumerate(trace):
        yield from _call(number, turn.request)
        yield f"     → {_outcome(turn)}"
    for number, request in enumerate(calls[len(trace) :], len(trace)):
        yield from _call(number, request)
        yield "     → no answer"
    for service in trace.services:
        yield f"  {service.kind}  {service.name}: {_cut(str(service.arguments), quoted=False)}"
        error = f": {service.error.type}: {_cut(service.error.message)}" if service.error is not None else ""
        yield f"     → {service.outcome}{error}"


def _call(number: int, request: Request) -> Iterator[str]:
    streamed = ", streamed" if request.stream else ""
    tools = f", tools: {', '.join(tool.name or tool.kind for tool in request.tools)}" if request.tools else ""
    yield f"  {number}  {request.dialect}, {request.model}{streamed}{tools}"
    for message in request.messages[-_LAST:]:
        yield f"     {message.role}: {_said(message)}"


def _said(message: Message) -> str:
    parts = [_cut(message.text)] if message.text else []
    parts += [f"{call.name}({_cut(call.arguments, quoted=False)})" for call in message.tool_calls]
    parts += [f"result {_cut(result.text)}" for result in message.tool_results]
    return " + ".join(parts) or "(no readable content)"


def _outcome(turn: Turn) -> str:
    if turn.raw is not None and turn.error is not None and turn.error.type == "RawResponse":
        begun = f"{_answer(turn.response)}, as " if turn.response is not None else ""
        # As its client received it: the status may be 200 for a broken answer.
        status = f" (HTTP status {turn.raw.status})" if turn.raw.status is not None else ""
        return f"{begun}{turn.raw}{status}"
    if turn.error is not None:
        status = f" {turn.error.status}" if turn.error.status is not None else ""
        return f"{turn.outcome}{status}: {turn.error.type}: {_cut(turn.error.message)}"
    if turn.response is None:
        return turn.outcome
    return f"{_answer(turn.response)}  ({turn.response.stopped})"


def _answer(response: Response) -> str:
    return _said(Message("assistant", response.content))


def _cut(text: str, *, quoted: bool = True) -> str:
    shown = repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
    return shown if quoted else shown[1:-1]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
