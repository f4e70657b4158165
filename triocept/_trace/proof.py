"""Verify that the lines of one rollout in a trace file are complete and unchanged.

Rules:

1. If a line's `prev` equals the chain so far, the line is the expected line. If only the line's number (`seq`) fits,
   the line before it was changed. If the line's number is higher than expected, lines are missing before this line. In
   all three cases, the line is accepted.
2. If the line's number is lower than expected, there are two cases. A line that was reported as missing comes too late,
   and is accepted. A line that repeats an earlier line is not accepted.
3. A gap is reported only once, and not again for later lines. After a gap, the chain continues from the `prev` of the
   line at which the gap was found.

An intent names its messages as half-open ranges of numbers, and most intents continue a recent conversation. So the
latest conversations stay in memory, with a value for each of their messages, and a call takes time only for its new
messages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from .._canonical.content import Message
from .._canonical.memory import common_head
from .._canonical.request import Request, Tool
from . import chain
from .entries import Gap
from .lines import (
    BROKEN,
    BlobLine,
    IntentLine,
    Line,
    OpenLine,
    OtherLine,
    Ranges,
    SealLine,
    ServiceLine,
    TurnLine,
)

T = TypeVar("T")

_CONVERSATIONS = 16
"""Maximum conversations in memory. No known agent alternates between more conversations."""
_CHANGED = 4
"""Number of last messages that an agent may rewrite while it continues a conversation."""


@dataclass(eq=False, slots=True)
class RangedConversation(Generic[T]):
    """A conversation: the messages of a call and of the calls that continue it, as ranges of message numbers."""

    ranges: Ranges
    ends: list[int]
    """For each range: the number of the conversation's messages up to the end of this range."""
    values: list[T]
    """The value for each message. `RecentRanges` calls its function `make` to get this value."""
    _whole: tuple[T, ...] = ()

    def head(self, count: int) -> tuple[T, ...]:
        """Return the first `count` values. The returned tuples are slices of one cached tuple, to save memory."""
        if len(self._whole) < count:
            self._whole = tuple(self.values)
        return self._whole[:count]


class RecentRanges(Generic[T]):
    """The latest conversations, with a value for each of their messages.

    Args:
        make: function that returns the value for a message. The function gets the values of the earlier messages, and
            the message's number. The function raises KeyError if no message has this number.
    """

    def __init__(self, make: Callable[[list[T], int], T]) -> None:
        self._make = make
        self._kept: list[RangedConversation[T]] = []
        """Conversations, the latest first."""

    def go_on(self, ranges: Ranges) -> RangedConversation[T]:
        """Return the conversation that consists of the messages with the numbers in `ranges`.

        `make` is called for each new message.

        Raises:
            KeyError: no message has one of these numbers. The values of the messages before the missing number stay in
                memory. So a long range with such a number is not computed again for each call.
        """
        known, same, head = self._best(ranges)
        if head >= len(known.values) - _CHANGED:  # otherwise it leaves a conversation that may continue
            self._kept = [each for each in self._kept if each is not known]
        if head < len(known.values):
            known = RangedConversation(known.ranges[:same], known.ends[:same], known.values[:head])
        else:
            del known.ranges[same:], known.ends[same:]
        self._kept = [known, *self._kept[: _CONVERSATIONS - 1]]
        for start, stop in ranges[same:]:
            before = known.ends[-1] if known.ends else 0
            try:
                for number in range(start + len(known.values) - before, stop):
                    known.values.append(self._make(known.values, number))
            finally:
                known.ends.append(len(known.values))
                known.ranges.append((start, start + len(known.values) - before))
        return known

    def _best(self, ranges: Ranges) -> tuple[RangedConversation[T], int, int]:
        """Return the kept conversation with the longest common beginning with `ranges`, or a new conversation.

        Also return the length of this common beginning as two numbers: its complete ranges, and its messages.
        """
        best, same, most = RangedConversation[T]([], [], []), 0, 0
        for known in self._kept:
            whole = common_head(ranges, known.ranges)
            head = known.ends[whole - 1] if whole else 0
            if whole < min(len(ranges), len(known.ranges)):
                (start, stop), (other, end) = ranges[whole], known.ranges[whole]
                head += max(0, min(stop, end) - start) if start == other else 0
            if head > most:
                best, same, most = known, whole, head
        return best, same, most


_decode_message = msgspec.json.Decoder(Message).decode
_decode_tools = msgspec.json.Decoder(tuple[Tool, ...]).decode
_decode_request = msgspec.json.Decoder(Request).decode

NAMES = {
    "empty": "the file contains no line",
    "unreadable_line": "a line is cut off or damaged",
    "newer_version": "a later version of triocept wrote the line, and the installed version cannot read it",
    "old_format": "the line has the format 1, which only triocept 0.2.0 can read and write",
    "no_open": "the rollout's first line is missing",
    "begun_elsewhere": "the rollout's first lines are missing, because the file was moved or truncated during the run",
    "lines_missing": "between two lines of the file, one or more lines are missing",
    "line_moved": "a line is not at its original position in the file",
    "line_again": "the file contains the same line twice",
    "line_changed": "a line was changed after it was written",
    "seal_changed": "the seal was changed after it was written",
    "value_changed": "a message or a list of tools was changed after it was written, so it does not match its digest",
    "request_changed": "a request was changed after it was written, so it does not match its digest",
    "value_missing": "a call refers to a message or a list of tools that is missing or cannot be read",
    "value_unreadable": "this version of triocept cannot read a message, or a list of tools",
    "request_unreadable": "this version of triocept cannot read the request of a call",
    "record_unreadable": "this version of triocept cannot read a line at all, such as a turn of a newer version",
    "count_wrong": "according to the seal, the rollout has more records than the file contains",
    "no_seal": "the rollout has no seal, because its program was killed, or is still running",
    "no_turn": "triocept passed a call to a handler, but the file contains no turn with the outcome of this call",
    "no_intent": "the file contains a turn, but not its `intent` line, which is written before a handler gets the call",
    "no_rollout": "a result in the store of a fleet names a rollout that is missing in the trace file",
    "file_not_read": "a trace file in a fleet's store is not a regular file, or is a link to a file outside the store",
    "token_gap": "some token ids of a turn are missing (see `Tokens.gaps`)",
}
"""Dict from every possible name of a gap to the meaning of the name."""


class Unfit(Exception):
    """Error: a readable line does not fit the lines before it."""


class Proof:
    """A verifier of the lines of one rollout in one file. It gets one line after another.

    Args:
        rollout, run: id and run of the rollout.
        take_gap: function that is called with each gap.
        path: path of the file, which the gaps name.
    """

    def __init__(self, rollout: str, run: str, path: str, take_gap: Callable[[Gap], None]) -> None:
        self.rollout, self.run = rollout, run
        self._path, self._take_gap = path, take_gap
        self._chain = chain.start(rollout, run)
        self._seq = 0
        self._last = 0
        """Line number, in the file, of the rollout's latest line. Lines that came too late do not count."""
        self._missed: list[tuple[int, int]] = []
        """Numbers (`seq`) of the lines that were missing when a later line was read, as half-open ranges."""
        self._opened = False
        self.whole = True
        """True as long as no gap was reported."""
        self.digest: str | None = None
        """Digest of the rollout's last seal; None if the rollout has no seal, or if a line of the rollout follows the
        seal."""
        self.value: Message | tuple[Tool, ...] | Request | Unfit | None = None
        """Content of the last `blob` or `intent` line; an `Unfit` object if the content cannot be read. For an intent,
        the content is the request without messages and tools."""
        self._messages: dict[int, bytes] = {}
        """Digest of each message, by the message's number."""
        self._tools: dict[int, bytes] = {}
        self._conversations = RecentRanges(self._link)
        self.turns = 0
        """Number of turns for which both the outcome and the request can be read."""
        self._unreadable: set[str] = set()
        """Ids of calls with an unreadable request. An id is removed when the turn of its call is read."""
        self.waiting: dict[str, int] = {}
        """Line number of each intent whose turn was not read yet, by the call's id."""
        self._counts = {"intents": 0, "turns": 0, "services": 0}

    def take(self, line: Line | OtherLine, data: memoryview, number: int) -> bool:
        """Verify the rollout's next line. Return False if it repeats an earlier line."""
        if isinstance(line, OpenLine) and line.elsewhere is not None and self._seq:
            # The rollout continues in another file, and the two files were joined.
            self._chain, self._seq, self._missed = chain.start(self.rollout, self.run), 0, []
            self.rest()
        late = line.seq < self._seq and line.prev != self._chain.hex()
        if late and not self._was_missed(line, number):
            return False
        if not late:
            self._follow(line, data, number)
        match line:
            case OpenLine():
                self._open(line, number)
            case BlobLine():
                self._blob(line, number)
            case IntentLine():
                self._intent(line, number)
            case TurnLine():
                self._turn(line, number)
            case ServiceLine():
                self._counts["services"] += 1
            case SealLine():
                self._seal(line, number)
            case OtherLine():
                self._other(line, number)
        return True

    def rest(self) -> None:
        """Delete the stored messages and tools, because no further call of the rollout will refer to them."""
        self._messages, self._tools, self._conversations = {}, {}, RecentRanges(self._link)

    def end(self) -> None:
        if self.digest is None:
            self._gap("no_seal", self._last, "the file contains no seal of this rollout")
        for call, number in self.waiting.items():
            text = "the call was running when the program ended, or the call's turn is missing"
            self._gap("no_turn", number, text, call)

    def _gap(self, name: str, number: int | None, message: str, call: str | None = None) -> None:
        self.whole = False
        place: dict[str, Any] = {"path": self._path, "line": number, "rollout": self.rollout, "run": self.run}
        self._take_gap(Gap(name=name, message=message, call=call, **place))

    def _follow(self, line: Line | OtherLine, data: memoryview, number: int) -> None:
        """Verify that `line` continues the chain, and add it to the chain.

        If the line's `prev` is not the chain so far, report a gap, and continue from this `prev`.
        """
        if line.prev != self._chain.hex():
            missing = line.seq - self._seq
            if missing:
                self._missed.append((self._seq, line.seq))
            if missing and self._seq == 0:
                self._gap("no_open", number, "the rollout's earlier lines are missing")
            elif missing:
                what = "a line is" if missing == 1 else f"{missing} lines are"
                self._gap("lines_missing", number, f"{what} missing before this line")
            else:
                self._gap("line_changed", self._last or number, "the line was changed after it was written")
            self._seq, self._chain = line.seq, b""
            with suppress(ValueError):  # damaged digits
                self._chain = bytes.fromhex(line.prev)
        is_seal = isinstance(line, SealLine) or (isinstance(line, OtherLine) and line.kind == "seal")
        body = chain.unsealed_line(bytes(data)) if is_seal else data
        self._chain = chain.link(self._chain, body)
        self._seq, self._last = self._seq + 1, number
        self.digest = None

    def _was_missed(self, line: Line | OtherLine, number: int) -> bool:
        """Return True if `line`, which comes late, was reported as missing before.

        Return False if the line repeats an earlier line. In both cases, report a gap.
        """
        for at, (start, stop) in enumerate(self._missed):
            if start <= line.seq < stop:
                self._missed[at : at + 1] = [(start, line.seq), (line.seq + 1, stop)]
                text = f"line {line.seq} of the rollout comes after its line {self._seq - 1}"
                self._gap("line_moved", number, text)
                return True
        self._gap("line_again", number, f"line {line.seq} of the rollout is in the file twice")
        return False

    def _open(self, line: OpenLine, number: int) -> None:
        seen, self._opened = self._opened, True
        if (before := line.elsewhere) is None:
            return
        counts = msgspec.structs.asdict(before)
        if not seen or any(self._counts[what] < count for what, count in counts.items()):
            self._counts = {what: max(count, self._counts[what]) for what, count in counts.items()}
            what = f"{before.intents} calls, {before.turns} turns and {before.services} service calls"
            self._gap("begun_elsewhere", number, f"{what} of the rollout are in another file")

    def _blob(self, line: BlobLine, number: int) -> None:
        values = self._messages if line.kind == "message" else self._tools
        if isinstance(line.value, msgspec.Raw):
            digest = chain.digest_of(bytes(line.value)).hex()
        elif (known := values.get(line.same) if isinstance(line.same, int) else None) is not None:
            digest = known.hex()
        else:
            self._gap("value_missing", number, f"the value of {line.kind} {line.number} is not in the file")
            return
        if digest != line.digest:  # the writer wrote a wrong line, or began a new chain
            self._gap("value_changed", number, f"{line.kind} {line.number} does not match its digest")
        self.value = None
        if isinstance(line.value, msgspec.Raw):
            decode: Callable[..., Any] = _decode_message if line.kind == "message" else _decode_tools
            try:
                self.value = decode(line.value)
            except BROKEN as exc:
                text = f"{line.kind} {line.number} of rollout {self.rollout} cannot be read: {exc}"
                self.value = Unfit(text)
                self._gap("value_unreadable", number, text)
                return
        values[line.number] = bytes.fromhex(digest)

    def _intent(self, line: IntentLine, number: int) -> None:
        self._counts["intents"] += 1
        self.waiting[line.call] = number
        try:
            self.value = _decode_request(line.request)
        except BROKEN as exc:
            self.value = Unfit(f"the request of call {line.call} cannot be read: {exc}")
            self._unreadable.add(line.call)
            self._gap("request_unreadable", number, str(self.value), line.call)
        try:
            messages = self._conversations.go_on(line.messages).values[-1:]
            tools = self._tools[line.tools] if line.tools is not None else b""
        except KeyError:
            self._unreadable.add(line.call)
            self._gap(
                "value_missing", number, "a part of the call's request is missing or unreadable", line.call
            )
            return
        if chain.digest_of(b"".join([*messages, tools, bytes(line.request)])).hex() != line.digest:
            self._gap("request_changed", number, "the call's request does not match its digest", line.call)

    def _link(self, before: list[bytes], number: int) -> bytes:
        """Return the hash over the messages of a conversation, up to the message with the number `number`.

        For each earlier message, `before` contains the hash over the messages up to that message.
        """
        return chain.link(before[-1] if before else b"", self._messages[number])

    def _turn(self, line: TurnLine, number: int) -> None:
        self._counts["turns"] += 1
        if self.waiting.pop(line.call, None) is None:
            self._gap("no_intent", number, "the turn's `intent` line is missing", line.call)
        elif line.call not in self._unreadable:
            self.turns += 1
        self._unreadable.discard(line.call)
        if (tokens := line.turn.tokens) is not None:
            for gap in tokens.gaps:
                self._gap("token_gap", number, gap, line.call)

    def _seal(self, line: SealLine, number: int) -> None:
        self.digest = line.digest if isinstance(line.digest, str) else ""
        if self.digest != self._chain.hex():
            self._gap("seal_changed", number, "the seal's digest does not match the lines before the seal")
        counts = {"intents": line.intents, "turns": line.turns, "services": line.services}
        for what, count in counts.items():
            if count > self._counts[what]:
                self._gap(
                    "count_wrong",
                    number,
                    f"the seal counts {count} {what}, but the file contains {self._counts[what]}",
                )

    def _other(self, line: OtherLine, number: int) -> None:
        call = line.call if isinstance(line.call, str) else None
        self._gap("record_unreadable", number, str(line), call)
        if (what := f"{line.kind}s") in self._counts:
            self._counts[what] += 1
        if line.kind == "seal":
            self.digest = line.digest if isinstance(line.digest, str) else ""
        elif call is not None and line.kind == "intent":
            self.waiting[call] = number
            self._unreadable.add(call)
        elif call is not None and line.kind == "turn":
            self.waiting.pop(call, None)
