"""Keep the state of the live view: the runs of one endpoint, and the log of frames that its viewers get.

Rules:

1. The view gets each event in the task that caused the event. In this task, the view raises no exception, and never
   waits.
2. Frames (the events of the stream) are made only while there is a viewer. All frames of a tick are encoded once, as
   one chunk of bytes, which all viewers share.
3. The log of chunks has at most `_MOST_LOG` bytes. If a viewer has missed chunks that are no longer in the log, it gets
   a snapshot. So a slow viewer takes no memory, and delays neither agents nor other viewers.
4. Of the runs that have ended, the newest `_MOST_ENDED` are kept, with at most `_MOST_KEPT` characters of messages in
   total. Of older runs, only the rows are kept, and only the newest `_MOST_ROWS` of these rows.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import final

import msgspec
import trio

from .._canonical.content import Json, ToolCall
from .._rollout.decision import Decision, is_object, what_is_wrong
from .._rollout.questions import Question, Questions
from .._trace.rollout_events import (
    CallArrived,
    DecisionAsked,
    DecisionMade,
    IncrementSent,
    RolloutEnded,
    RolloutEvent,
    ServiceCalled,
    TurnLost,
    TurnSettled,
)
from .._trace.trace import Trace
from .._trace.turn import Decided
from .._util.secrets import MARK, without_keys
from .runs import BRIEF, Row, Run, decided_json, service_row
from .source import Source, event_of

log = logging.getLogger("triocept.view")

_TICK = 0.05
"""Seconds for which frames are collected before they are sent together. A person does not notice so short a delay. To
send frames more often would take several times more processor time."""
_BEAT = 15.0
"""Maximum seconds for which a stream sends no byte. When exceeded: a comment line is sent."""
_MOST_LOG = 4 * 1024 * 1024
_MOST_PENDING = 5_000
_MOST_ENDED = 200
_MOST_KEPT = 256 * 1024 * 1024
_MOST_ROWS = 2_000
_MOST_TEXT = 20_000
"""Maximum characters, of each part of an answer, that a snapshot contains."""
_MOST_DECIDED = 1_000
_TOO_LATE = "this tool call no longer waits for a decision"


class Undecidable(Exception):
    """Error: a decision of the page was refused.

    The tool call was already decided or withdrawn, or the page may not decide about it. `decision` is the decision
    about the tool call; None if there is no decision.
    """

    def __init__(self, message: str, decision: Row | None) -> None:
        super().__init__(message)
        self.decision = decision


class _Waiting(msgspec.Struct):
    """A tool call that waits for a decision, and the question that the page shows if it may decide about the call."""

    row: Row
    asked: tuple[str, int]
    """Key of the question in `ASKED`: the run of the rollout, and the number of the question."""
    question: Question | None = None
    given: Row | None = None
    """The decision that a person has made on the page, but that the policy has not returned yet; otherwise None."""


class _Text(msgspec.Struct):
    """The received beginning of one part of an answer that is still in progress."""

    kind: str
    call: str = ""
    tool: str = ""
    pieces: list[str] = []


@final
class LiveView(Source):
    """The view of one endpoint."""

    can_decide = True
    live = True

    def __init__(self, title: str = "") -> None:
        super().__init__(title)
        self.questions = Questions(self._on_question, self._on_question_closed)
        self.closing = trio.Event()
        """Set when the endpoint is ending, so that streams end."""
        self.viewers = 0
        self._waiting: dict[str, _Waiting] = {}
        self._asked = 0
        self._decided: dict[str, Row] = {}
        """The latest decisions about tool calls, by the id of the question that each decision has closed."""
        self._texts: dict[str, dict[int, _Text]] = {}
        """Parts of the answers in progress, by the id of the call, and then by the index of the part."""
        self._pending: list[tuple[str, Row | msgspec.Raw]] = []
        """Name and data of each frame that is not in the log yet. The data is already encoded, except for `more`
        frames."""
        self._pending_size = 0
        """Approximate size in bytes of the frames in `_pending`."""
        self._joins: dict[str, Row] = {}
        """For each call: the `more` frame in `_pending` to which the next piece of the call's answer may be joined."""
        self._changed: dict[str, None] = {}
        """Ids of the runs whose rows have changed since the last flush."""
        self._log: deque[tuple[int, int, bytes]] = deque()
        """The chunks, oldest first. Each chunk is a tuple of three values: the number of the last event before the
        chunk, the number of the last event in the chunk, and the bytes of the chunk.
        """
        self._log_size = 0
        self._news = trio.Event()
        self._has_failed = False

    def opened(self, trace: Trace) -> None:
        run = self.add(trace)
        run.is_live = True
        self._change(run)

    def take(self, event: RolloutEvent) -> None:
        """Update the view with an event. An error in the view is logged once, and affects no exchange."""
        try:
            run = self.runs.get(event.run)
            if run is not None:
                self._take(run, event)
        except Exception as exc:  # the view must not fail a call of the agent
            if not self._has_failed:
                self._has_failed = True
                log.warning(
                    "the live view cannot show an event of the type %s, so the page may now be incomplete",
                    type(event).__name__,
                    exc_info=exc,
                )

    def show_tasks(self, evaluation: Row) -> None:
        """Show the tasks of `evaluation` in place of the tasks that were shown before."""
        if evaluation != self.evaluation:
            self.evaluation = evaluation
            self._send("evaluation", evaluation)

    def _take(self, run: Run, event: RolloutEvent) -> None:
        match event:
            case IncrementSent():
                self._increment(run, event)
                return
            case CallArrived():
                call = run.call(event)
                self._send("call", call)
            case TurnSettled(turn=turn):
                self._end_call(run, turn.id)
                run.update()
                if self.viewers:
                    self._send("turn", run.turn_row(turn))
            case TurnLost(exchange=exchange):
                self._end_call(run, exchange)
                self._send("lost", {"run": run.id, "call": exchange})
            case DecisionAsked():
                self._asks(run, event)
            case DecisionMade(decision=decision):
                self._has_decided((event.run, event.asked), decision)
            case ServiceCalled(call=call):
                self._send("service", service_row(run.id, call))
            case RolloutEnded():
                run.is_live = False
                for id_, each in [*self._waiting.items()]:
                    if each.row["run"] == run.id:
                        self._withdraw(id_)
                self._forget_old()
            case _:
                pass
        self._change(run)

    def _increment(self, run: Run, event: IncrementSent) -> None:
        call = run.calls.get(event.exchange)
        if call is None:
            return
        if call["first"] is None:
            call["first"] = max(0.0, event.at - call["at"])
        parts = self._texts.setdefault(event.exchange, {})
        part = parts.get(event.part)
        if part is None:
            part = parts[event.part] = _Text(event.kind)
        part.call, part.tool = part.call or event.call, part.tool or event.tool
        if event.text:
            part.pieces.append(event.text)
        call["sent"] += len(event.text) or 1
        if not self.viewers:
            return
        last = self._joins.get(event.exchange)
        if last is not None and last["part"] == event.part and not event.call:
            last["text"] += event.text
            self._count_pending(len(event.text))
            return
        frame = {
            "run": run.id,
            "call": event.exchange,
            "part": event.part,
            "kind": event.kind,
            "text": event.text,
            "tool_call": event.call,
            "tool": event.tool,
            "first": call["first"],
        }
        self._pending.append(("more", frame))
        self._joins[event.exchange] = frame
        self._news.set()
        self._count_pending(len(event.text))

    def _end_call(self, run: Run, call: str) -> None:
        run.calls.pop(call, None)
        self._texts.pop(call, None)
        self._joins.pop(call, None)
        for id_ in [id_ for id_, each in self._waiting.items() if each.row["call"] == call]:
            self._withdraw(id_)

    def whole_call(self, call: Row) -> Row:
        """Return `call`, a call in flight, with the text of its answer so far added."""
        parts: list[Json] = []
        for number, part in sorted(self._texts.get(call["id"], {}).items()):
            text = "".join(part.pieces)
            part.pieces = [text]
            skipped = max(0, len(text) - _MOST_TEXT)
            row = {
                "part": number,
                "kind": part.kind,
                "text": text[skipped:],
                "call": part.call,
                "tool": part.tool,
            }
            parts.append(row | {"skipped": skipped})
        return call | {"parts": parts}

    # Decisions

    def waiting(self) -> list[Row]:
        return [each.row for each in self._waiting.values()]

    def decide(self, id_: str, kind: str, text: str, by: str) -> None:
        """Decide about a tool call.

        Args:
            id_: id of the question.
            kind: kind of the decision.
            text: the changed arguments if `kind` is `modify`; the tool's result if `answer`; otherwise the reason.
            by: name of the person who decides; may be empty.

        Raises:
            Undecidable: the tool call no longer waits for a decision, or the page may not decide about this call.
            ValueError: the decision is invalid.
        """
        found = self._waiting.get(id_)
        if found is None or found.given is not None:
            raise Undecidable(_TOO_LATE, self._decided.get(id_) if found is None else found.given)
        if found.question is None:
            raise Undecidable("another policy decides about this tool call, not this page", None)
        # shown without keys: a key must not be replaced by the mark
        if kind == "modify" and MARK in text and found.row["arguments"] != found.question.call.arguments:
            raise ValueError(
                f"the text still contains {MARK}: replace it by the real text, or approve without a change"
            )
        name = f"page: {by.strip()[:BRIEF]}".removesuffix(": ")
        decision = _decision(kind, text, name, found.question.call)
        if not found.question.decide(decision):
            raise Undecidable(_TOO_LATE, None)
        found.given = decided_json(
            Decided(
                call=found.row["tool_call"],
                tool=found.row["tool"],
                kind=decision.kind,
                arguments=None if decision.arguments is None else without_keys(decision.arguments),
                reason=without_keys(decision.reason),
                by=without_keys(decision.by),
                seconds=max(0.0, time.time() - found.row["at"]),
            )
        )

    def _asks(self, run: Run, event: DecisionAsked) -> None:
        self._asked += 1
        id_ = f"q_{self._asked}"
        row: Row = {
            "id": id_,
            "run": run.id,
            "call": event.exchange,
            "tool_call": event.call,
            "tool": event.tool,
            "arguments": event.arguments,
            "at": event.at,
            "here": False,
        }
        self._waiting[id_] = _Waiting(row, (event.run, event.number))
        run.waiting += 1
        self._send("asked", row)

    def _on_question(self, question: Question) -> None:
        for each in self._waiting.values():
            if each.question is None and each.asked == question.asked:
                each.question, each.given = question, None
                each.row["here"] = True
                self._send("asked", each.row)
                return

    def _on_question_closed(self, question: Question) -> None:
        """Remove a closed question from the page.

        As long as the call is in flight, another policy may still decide about the tool call.
        """
        for id_, each in self._waiting.items():
            if each.question is question:
                each.question = None
                each.row["here"] = False
                run = self.runs.get(each.row["run"])
                if question.decided or (run is not None and each.row["call"] in run.calls):
                    self._send("asked", each.row)
                else:
                    self._withdraw(id_)
                return

    def _has_decided(self, asked: tuple[str, int], decision: Decided) -> None:
        for id_, each in self._waiting.items():
            if each.asked == asked:
                row = self._decided[id_] = decided_json(decision)
                run = self.runs[each.row["run"]]
                if (call := run.calls.get(each.row["call"])) is not None:
                    call["decisions"] += [row]
                if len(self._decided) > _MOST_DECIDED:
                    del self._decided[next(iter(self._decided))]
                self._withdraw(id_)
                return

    def _withdraw(self, id_: str) -> None:
        """Remove a question, because its tool call was decided or no longer waits for a decision."""
        row = self._waiting.pop(id_).row
        if (run := self.runs.get(row["run"])) is not None:
            run.waiting -= 1
        decision = self._decided.get(id_)
        self._send("decided", {"id": id_, "run": row["run"], "call": row["call"], "decision": decision})

    # Frames

    def _change(self, run: Run) -> None:
        if self.viewers:
            self._changed[run.id] = None
            self._news.set()

    def _send(self, name: str, frame: Row) -> None:
        if self.viewers:
            self._joins.pop(frame.get("call", ""), None)
            data = msgspec.json.encode(frame)
            self._pending.append((name, msgspec.Raw(data)))
            self._news.set()
            self._count_pending(len(data))

    def _count_pending(self, size: int) -> None:
        """Count a pending frame of `size` bytes. If too many frames are pending, flush them.

        Without a viewer, no other code flushes the frames.
        """
        self._pending_size += size
        if self._pending_size > _MOST_LOG or len(self._pending) > _MOST_PENDING:
            self._flush()

    def _flush(self) -> None:
        """Encode all pending frames as one chunk, and append it to the log."""
        frames = self._pending
        frames += [("row", self.runs[id_].row()) for id_ in self._changed if id_ in self.runs]
        self._pending, self._joins, self._pending_size = [], {}, 0
        self._changed.clear()
        if self._news.is_set():
            self._news = trio.Event()
        if not frames:
            return
        before = self.seq
        pieces = []
        for name, frame in frames:
            self.seq += 1
            pieces.append(event_of(self.seq, name, frame))
        data = b"".join(pieces)
        self._log.append((before, self.seq, data))
        self._log_size += len(data)
        while self._log_size > _MOST_LOG:
            self._log_size -= len(self._log.popleft()[2])

    def _after(self, position: int) -> list[bytes] | None:
        """Return the chunks after the event number `position`.

        Return None if the log no longer contains all of them.
        """
        if position == self.seq:
            return []
        found = [data for before, _, data in self._log if before >= position]
        starts = [before for before, _, _ in self._log]
        return found if position in starts else None

    async def stream(self, last: int | None) -> AsyncIterator[bytes]:
        """Yield the bytes of a viewer's stream until the endpoint ends.

        `last` is the number of the last event that the viewer has received; None if it has received no event.
        """
        self.viewers += 1
        try:
            position = last
            self._flush()
            if position is None or self._after(position) is None:
                position = None
            while True:
                chunks = None if position is None else self._after(position)
                if chunks is None:
                    self._flush()
                    chunks = [event_of(self.seq, "snapshot", self.snapshot())]
                position = self.seq
                if chunks:
                    yield b"".join(chunks)
                if position != self.seq:
                    continue
                if self.closing.is_set():
                    self._flush()
                    if position != self.seq:
                        continue
                    yield event_of(self.seq + 1, "bye", {})
                    return
                news, beat = self._news, True
                with trio.move_on_after(_BEAT):
                    await news.wait()
                    beat = False
                if beat:
                    yield b": \n\n"
                elif not self.closing.is_set():
                    with trio.move_on_after(_TICK):
                        await self.closing.wait()
                if self._news is news:
                    self._flush()
        finally:
            self.viewers -= 1
            if not self.viewers:  # without a viewer no frames are made, so no viewer can go on from the log
                self._pending, self._joins, self._pending_size = [], {}, 0
                self._changed.clear()
                self._log.clear()
                self._log_size = 0
                self.seq += 1

    def close(self) -> None:
        """End the streams of all viewers, after each stream has sent all events that have already happened."""
        self.closing.set()
        self._news.set()

    def _forget_old(self) -> None:
        ended = [run for run in self.runs.values() if not run.is_live]
        size = sum(run.messages.size for run in ended)
        while ended and (len(ended) > _MOST_ENDED or size > _MOST_KEPT):
            run = ended.pop(0)
            size -= run.messages.size
            del self.runs[run.id]
            self.gone[run.id] = run.row() | {"kept": False}
            self._send("row", self.gone[run.id])
        while len(self.gone) > _MOST_ROWS:
            del self.gone[next(iter(self.gone))]


def _decision(kind: str, text: str, by: str, call: ToolCall) -> Decision:
    match kind:
        case "approve":
            return Decision.approve(by=by)
        case "modify":
            is_changed = text != call.arguments or not is_object(text)
            if call.kind == "json" and is_changed and (wrong := what_is_wrong(text)):
                raise ValueError(wrong)
            return Decision.modify(text, by=by)
        case "reject":
            return Decision.reject(text or "a person rejected it", by=by)
        case "answer":
            return Decision.answer(text, by=by)
        case "terminate":
            return Decision.terminate(text or "a person ended the run", by=by)
    raise ValueError(f"kind must be approve, modify, reject, answer or terminate, not {kind!r}")
