"""The lines of one rollout in one file: what is to be written next, and what is in the file.

Rules:

1. A line is made for the place that it will have: its `seq`, its `prev`. It counts from the moment before it is
   written, and no more where it could not be: an interrupt between the two leaves a line that is missing, and is told
   by its gap; it never leaves two with one number.
2. Each distinct message, and each distinct list of tools, is encoded and hashed once.
3. A turn has its intent in the file, also one that was refused before it was handed over, or came without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .._canonical.request import Request, Tool
from . import chain
from .entries import AgentStart, Intent, Opening, Score
from .linefile import LineFile
from .lines import (
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
from .service import ServiceCall
from .trace import Trace
from .turn import Turn

__all__ = ["AT_INTENT", "RunLines"]


AT_INTENT: dict[str, Any] = dict.fromkeys(
    ("id", "rollout", "run", "branch", "dialect", "request", "agent"), msgspec.UNSET
)
"""The members of a turn that stand at its intent, or at the opening."""
_value_bytes = msgspec.json.Encoder().encode


class _Written(msgspec.Struct, gc=False):
    """How far the rollout has come, in the file or with the block that is to be written."""

    chain: bytes
    seq: int = 0
    messages: int = 0
    tools: int = 0
    intents: int = 0
    turns: int = 0
    services: int = 0

    def add(self, chain: bytes, counted: str | None) -> None:
        """One more line, the chain behind it, and what it is one more of."""
        self.chain = chain
        self.seq += 1
        if counted is not None:
            setattr(self, counted, getattr(self, counted) + 1)


class RunLines:
    """The lines of one rollout in one file.

    Args:
        opening: how it began.
        number: that of the opening of the file which these lines are for.
        before: its lines in another file, which has been left.
    """

    def __init__(self, opening: Opening, number: int = 0, before: RunLines | None = None) -> None:
        self.opening = opening
        self.number = number
        self.sealed: bool = before is not None and before.sealed
        self.extent: tuple[int, int] | None = None
        """From where to where in the file its lines are, among those of others; None: it has none."""
        self._written = self._last = _Written(chain.start(opening.rollout, opening.run))
        """In the file, and with the block."""
        self._elsewhere = before._in_all_files() if before is not None else None
        self._block: list[bytes] = []
        self._adds: list[tuple[bytes, str | None]] = []
        """By line of the block: what it adds to what is written."""
        self._numbering = Numbering()
        self._digests: list[bytes] = []
        """Of the messages, by number."""
        self._tools: list[tuple[Sequence[Tool], bytes]] = []
        """Lists of tools, and their digests, by number."""
        self._tools_by_id: dict[int, int] = {}
        self._tools_by_digest: dict[str, int] = {}
        self._intents: dict[str, int] = {}
        """The numbers of the intents that have no turn yet, by call."""
        self._seal: dict[str, Any] = before._seal if before is not None else {}
        """What the seal says."""

    @property
    def digest(self) -> str:
        """The chain, up to what is in the file."""
        return self._written.chain.hex()

    def write_to(self, file: LineFile) -> None:
        """Write the lines that were begun.

        Raises:
            OSError: not all of them are in the file. Those that are count, and no others.
        """
        if not self._block:
            return
        block, adds, before = self._block, self._adds, self._written
        self._block, self._adds, self._written = [], [], self._last
        try:
            file.append(b"\n".join([*block, b""]))
        except OSError:
            for line in adds[: file.whole_lines]:
                before.add(*line)
            self._written = self._last = before
            self._forget_unwritten()
            raise
        finally:
            begin, end = file.extent
            self.extent = (begin if self.extent is None else self.extent[0], end)

    def _forget_unwritten(self) -> None:
        """Not all of a block is in the file: what is not there is as if it had never been said."""
        self._numbering.forget_conversations()
        intents, tools = self._written.intents, self._written.tools
        self._intents = {call: number for call, number in self._intents.items() if number < intents}
        del self._tools[tools:]
        self._tools_by_id = {id(given): number for number, (given, _) in enumerate(self._tools)}
        self._tools_by_digest = {digest.hex(): number for number, (_, digest) in enumerate(self._tools)}

    def begin(self) -> None:
        """Begin a block of lines. A new file gets the opening first."""
        if self._block:  # what raised in the middle of it: an interrupt, or a text that cannot be encoded
            self._forget_unwritten()
        self._block, self._adds = [], []
        self._last = msgspec.structs.replace(self._written)
        if self._written.seq == 0:
            self._open()

    # The lines

    def agent(self, start: AgentStart) -> None:
        """An agent is about to be started."""
        self._add(
            AgentLine,
            None,
            argv=start.argv,
            cwd=start.cwd,
            home=start.home,
            config=start.config,
            started_at=start.started_at,
        )

    def intent(self, intent: Intent) -> None:
        """A call is about to be handed over."""
        self._intend(intent.id, intent.request, intent.at, intent.agent)

    def turn(self, turn: Turn) -> None:
        """What became of a call."""
        if self._intents.pop(turn.id, None) is None:
            self._intend(turn.id, turn.request, turn.started_at, turn.agent)
            del self._intents[turn.id]
        record = msgspec.structs.replace(turn, **AT_INTENT)
        self._add(TurnLine, "turns", call=turn.id, turn=record)

    def service(self, call: ServiceCall) -> None:
        """A service call has ended."""
        self._add(ServiceLine, "services", call=call)

    def score(self, score: Score) -> None:
        """What somebody makes of the rollout; behind its seal, with another one."""
        self._add(ScoreLine, None, name=score.name, value=score.value, at=score.at)
        if self.sealed:
            self._add_seal(score.at)

    def seal(self, trace: Trace, at: float) -> None:
        """The end of `trace`."""
        self.sealed = True
        self._seal = {
            "intents": len(trace) + len(trace.pending),
            "turns": len(trace),
            "services": len(trace.services),
            "ended": trace.ended,
            "stopped": trace.stopped,
        }
        self._add_seal(at)
        # A score needs none of them.
        self._numbering, self._digests, self._tools, self._intents = Numbering(), [], [], {}
        self._tools_by_id, self._tools_by_digest = {}, {}

    def _open(self) -> None:
        opening = self.opening
        self._add(
            OpenLine,
            None,
            at=opening.at,
            versions=opening.versions,
            metadata=opening.metadata,
            branch=opening.branch,
            elsewhere=self._elsewhere,
        )

    def _in_all_files(self) -> Elsewhere:
        """What is in this one, and in those before it."""
        here, before = self._written, self._elsewhere or Elsewhere(0, 0, 0)
        return Elsewhere(
            before.intents + here.intents, before.turns + here.turns, before.services + here.services
        )

    def _add_seal(self, at: float) -> None:
        self._add(SealLine, None, **self._seal, at=at)
        self._block[-1] = chain.sealed_line(self._block[-1], self._last.chain)

    def _intend(self, call: str, request: Request, at: float, agent: str | None) -> None:
        conversation = self._numbering.of(request.messages, self._message_digest)
        tools = self._add_tools(request.tools) if request.tools else None
        bare = _value_bytes(msgspec.structs.replace(request, messages=(), tools=()))
        of_tools = b"" if tools is None else self._tools[tools][1]
        self._intents[call] = self._last.intents
        self._add(
            IntentLine,
            "intents",
            call=call,
            number=self._last.intents,
            at=at,
            agent=agent,
            request=msgspec.Raw(bare),
            messages=conversation.ranges,
            tools=tools,
            digest=chain.digest_of(b"".join([conversation.digests[-1], of_tools, bare])),
        )

    def _message_digest(self, number: int) -> bytes:
        """That of a message. What the file does not have is written."""
        while self._last.messages <= number:
            self._add_message(self._last.messages)
        return self._digests[number]

    def _add_message(self, number: int) -> None:
        same = self._numbering.same[number]
        more: dict[str, Any]
        if same is None:
            value = _value_bytes(self._numbering.messages[number])
            digest, more = chain.digest_of(value), {"value": msgspec.Raw(value)}
        else:
            digest, more = self._digests[same].hex(), {"same": same}
        self._digests[number:] = [bytes.fromhex(digest)]
        self._add(BlobLine, "messages", kind="message", number=number, digest=digest, **more)

    def _add_tools(self, tools: Sequence[Tool]) -> int:
        """The number of the blob of these tools, which is written if the file does not have it."""
        number = self._tools_by_id.get(id(tools))
        if number is not None:
            return number
        value = _value_bytes(tools)
        digest = chain.digest_of(value)
        number = self._tools_by_digest.get(digest)
        if number is None:
            number = len(self._tools)
            self._tools.append((tools, bytes.fromhex(digest)))
            self._tools_by_id[id(tools)] = self._tools_by_digest[digest] = number
            self._add(BlobLine, "tools", kind="tools", number=number, digest=digest, value=msgspec.Raw(value))
        return number

    def _add(self, line_type: type[Line], counted: str | None, /, **members: Any) -> None:
        """One more line of the block, and what it is one more of."""
        last, opening = self._last, self.opening
        line = line_bytes(
            line_type(
                rollout=opening.rollout, run=opening.run, seq=last.seq, prev=last.chain.hex(), **members
            )
        )
        last.add(behind := chain.link(last.chain, line), counted)
        self._block.append(line)
        self._adds.append((behind, counted))
