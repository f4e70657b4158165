"""Make the lines of one rollout for one trace file: collect a block of lines, write it, and count the written lines.

Rules:

1. Each line is encoded for one place in the chain (`seq` and `prev`). The line is counted just before its write; if the
   write fails, the count is reduced again. If an interrupt occurs between the count and the write, the line is missing,
   which is reported as a gap. But two lines never have the same number.
2. Each distinct message, and each distinct list of tools, is encoded and hashed once.
3. Every turn has an intent in the file. If the recorder got no intent for a call (for example, because the call was
   refused before it was passed to a handler), the turn supplies the content of the intent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from .._canonical.request import Request, Tool
from . import chain
from .entries import AgentStart, Intent, Opening, Score
from .linefile import LineFile
from .lines import (
    VERSION,
    AgentLine,
    BlobLine,
    Elsewhere,
    IntentLine,
    Line,
    OpenLine,
    ScoreLine,
    SealLine,
    ServiceLine,
    TurnLine,
    line_bytes,
)
from .numbering import Numbering
from .trace import Trace
from .turn import ServiceCall, Turn

AT_INTENT: dict[str, Any] = dict.fromkeys(
    ("id", "rollout", "run", "branch", "dialect", "request", "agent"), msgspec.UNSET
)
"""The members of a turn that a `turn` line leaves out, because the turn's intent or the rollout's opening contains
them."""
_value_bytes = msgspec.json.Encoder().encode
# Three kinds of lines are most of a file. Formatting them takes half the time of encoding a `BlobLine` or `IntentLine`.
_BLOB = b'{"type":"blob",%b%d,"prev":"%b","kind":"message","number":%d,"digest":"%b",%b}'
_INTENT = (
    b'{"type":"intent",%b%d,"prev":"%b","call":%b,"number":%d,"at":%b,"agent":%b,"request":%b,'
    b'"messages":%b,"tools":%b,"digest":"%b"}'
)
_TURN = b'{"type":"turn",%b%d,"prev":"%b","call":%b,"turn":%b}'
_link = chain.link
_decode_line = msgspec.json.Decoder(Line).decode


class _Written(msgspec.Struct, gc=False):
    """The chain after one line of a rollout, and the number of lines of each kind up to this line."""

    chain: bytes
    seq: int = 0
    messages: int = 0
    tools: int = 0
    intents: int = 0
    turns: int = 0
    services: int = 0

    def add(self, data: bytes) -> None:
        """Add an encoded line to the chain and to the counts."""
        line = _decode_line(data)
        self.chain = chain.link(self.chain, chain.unsealed_line(data) if isinstance(line, SealLine) else data)
        self.seq += 1
        match line:
            case BlobLine(kind="message"):
                self.messages += 1
            case BlobLine():
                self.tools += 1
            case IntentLine():
                self.intents += 1
            case TurnLine():
                self.turns += 1
            case ServiceLine():
                self.services += 1


class RunLines:
    """The lines of one rollout in one file: the written lines, and the lines that the next write adds as one block.

    Args:
        opening: record of the start of the rollout.
        number: value of `LineFile.opening`, which identifies the file of these lines.
        before: the rollout's lines in the previous file; None for the first file.
    """

    def __init__(self, opening: Opening, number: int = 0, before: RunLines | None = None) -> None:
        self.opening = opening
        self.number = number
        self.sealed: bool = before is not None and before.sealed
        self.ranges: list[tuple[int, int]] = []
        """Byte ranges of the rollout's lines in the file, in order; lines of other rollouts may be between these
        ranges."""
        self._written = self._last = _Written(chain.start(opening.rollout, opening.run))
        """`_written`: the chain and counts of the lines in the file. `_last`: the chain and counts after the lines of
        the block, which is not written yet."""
        self._elsewhere: Elsewhere | None = None
        """For each kind of record: the number of the rollout's records in earlier files. None if this is the first
        file."""
        if before is not None:
            last, earlier = before._written, before._elsewhere or Elsewhere(0, 0, 0)
            self._elsewhere = Elsewhere(
                earlier.intents + last.intents, earlier.turns + last.turns, earlier.services + last.services
            )
        self._block: list[bytes] = []
        names = (_value_bytes(opening.rollout), _value_bytes(opening.run))
        self._start = b'"version":%d,"rollout":%b,"run":%b,"seq":' % (VERSION, *names)
        """The bytes of each line after `type`, up to the name `seq`: the first members are the same in all lines."""
        self._numbering = Numbering()
        self._tools: list[tuple[Sequence[Tool], bytes]] = []
        """Lists of tools, each with its digest. The index is the number of the list's blob."""
        self._tools_by_id: dict[int, int] = {}
        self._tools_by_digest: dict[bytes, int] = {}
        self._intents: dict[str, int] = {}
        """Number of each intent whose turn has no line yet, by the call's id."""
        self._seal: dict[str, Any] = before._seal if before is not None else {}
        """Members of the first seal line. Each late score is followed by another seal line with the same members."""

    @property
    def digest(self) -> str:
        """The chain after the lines in the file, as 32 hex digits."""
        return self._written.chain.hex()

    def write_to(self, file: LineFile) -> None:
        """Write the lines of the block to `file`.

        Raises:
            OSError: not all lines could be written. Only the written lines are counted.
        """
        block, before = self._block, self._written
        if not block:
            return
        self._block, self._written = [], self._last
        try:
            file.append(b"\n".join(block) + b"\n")
        except OSError:
            for line in block[: file.whole_lines]:
                before.add(line)
            self._written = self._last = before
            self._forget_unwritten()
            raise
        finally:
            (begin, end), ranges = file.extent, self.ranges
            if ranges and ranges[-1][1] == begin:
                ranges[-1] = (ranges[-1][0], end)
            elif begin < end:
                ranges.append((begin, end))

    def _forget_unwritten(self) -> None:
        """Forget the intents and lists of tools in the last block that were not written to the file."""
        intents, tools = self._written.intents, self._written.tools
        self._intents = {call: number for call, number in self._intents.items() if number < intents}
        del self._tools[tools:]
        self._tools_by_id = {id(given): number for number, (given, _) in enumerate(self._tools)}
        self._tools_by_digest = {digest: number for number, (_, digest) in enumerate(self._tools)}

    def begin(self) -> None:
        """Begin a block of lines. If the file is new, the first line of the block is the `open` line."""
        if self._block:  # left by an exception: an interrupt, or a text that cannot be encoded
            self._forget_unwritten()
        self._block = []
        self._last = replace(self._written)
        if self._written.seq == 0:
            self._add(OpenLine(**self._place() | asdict(self.opening), elsewhere=self._elsewhere))

    # The lines

    def agent(self, start: AgentStart) -> None:
        self._add(AgentLine(**self._place() | asdict(start)))

    def intent(self, intent: Intent) -> None:
        self._intend(intent.id, intent.request, intent.at, intent.agent)

    def turn(self, turn: Turn) -> None:
        """Add the line that records a call's outcome."""
        if self._intents.pop(turn.id, None) is None:
            self._intend(turn.id, turn.request, turn.started_at, turn.agent)
            del self._intents[turn.id]
        last, record = self._last, _value_bytes(replace(turn, **AT_INTENT))
        place = (self._start, last.seq, last.chain.hex().encode())
        self._add_data(_TURN % (*place, _value_bytes(turn.id), record))
        last.turns += 1

    def service(self, call: ServiceCall) -> None:
        self._add(ServiceLine(**self._place(), call=call))
        self._last.services += 1

    def score(self, score: Score) -> None:
        self._add(ScoreLine(**self._place() | asdict(score)))
        if self.sealed:
            self._add_seal(score.at)

    def seal(self, trace: Trace, at: float) -> None:
        self.sealed = True
        self._seal = {
            "intents": len(trace) + len(trace.pending),
            "turns": len(trace),
            "services": len(trace.services),
            "ended": trace.ended,
            "stopped": trace.stopped,
        }
        self._add_seal(at)
        # A score needs none of these tables.
        self._numbering, self._tools, self._intents = Numbering(), [], {}
        self._tools_by_id, self._tools_by_digest = {}, {}

    def _add_seal(self, at: float) -> None:
        self._add(SealLine(**self._place(), **self._seal, at=at))
        self._block[-1] = chain.sealed_line(self._block[-1], self._last.chain)

    def _intend(self, call: str, request: Request, at: float, agent: str | None) -> None:
        conversation, last = self._numbering.of(request.messages), self._last
        if last.messages < len(self._numbering.blobs):
            self._add_messages()
        tools, of_tools = None, b""
        if request.tools:
            tools = self._add_tools(request.tools)
            of_tools = self._tools[tools][1]
        bare = _value_bytes(replace(request, messages=(), tools=()))
        digest = chain.digest_of(conversation.digests[-1] + of_tools + bare)
        number = self._intents[call] = last.intents
        last.intents = number + 1
        place = (self._start, last.seq, last.chain.hex().encode())
        who = (_value_bytes(call), number, _value_bytes(at), _value_bytes(agent))
        what = (bare, _value_bytes(conversation.ranges), _value_bytes(tools), digest.hex().encode())
        self._add_data(_INTENT % (*place, *who, *what))

    def _add_messages(self) -> None:
        """Add the blobs of messages that are not in the file yet."""
        blobs, last = self._numbering.blobs, self._last
        for number in range(last.messages, len(blobs)):
            said = blobs[number]
            if said.number == number:
                # If there is no value, it was encoded for a line that could not be written.
                content = b'"value":%b' % (said.value or _value_bytes(said.message))
                said.value = None
            else:
                content = b'"same":%d' % said.number
            digest = said.digest.hex().encode()
            self._add_data(
                _BLOB % (self._start, last.seq, last.chain.hex().encode(), number, digest, content)
            )
            last.messages = number + 1

    def _add_tools(self, tools: Sequence[Tool]) -> int:
        """Return the number of the blob that contains the tools `tools`. If the file has no such blob yet, add one."""
        number = self._tools_by_id.get(id(tools))
        if number is not None:
            return number
        value = _value_bytes(tools)
        digest = chain.digest_of(value)
        number = self._tools_by_digest.get(digest)
        if number is None:
            number = len(self._tools)
            self._tools.append((tools, digest))
            self._tools_by_id[id(tools)] = self._tools_by_digest[digest] = number
            place, raw = self._place(), msgspec.Raw(value)
            self._add(BlobLine(**place, kind="tools", number=number, digest=digest.hex(), value=raw))
            self._last.tools += 1
        return number

    def _place(self) -> dict[str, Any]:
        """Return the members at the beginning of every line.

        Lines of intents, turns and messages are made without this method: direct formatting takes half the time.
        """
        opening, last = self.opening, self._last
        return {"rollout": opening.rollout, "run": opening.run, "seq": last.seq, "prev": last.chain.hex()}

    def _add(self, line: Line) -> None:
        self._add_data(line_bytes(line))

    def _add_data(self, data: bytes) -> None:
        last = self._last
        last.chain = _link(last.chain, data)
        last.seq += 1
        self._block.append(data)
