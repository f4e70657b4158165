"""An agent's changes to the messages of a turn, which explain differences of the tokens.

Rules:

1. `same`: a turn begins with the other's messages, to the letter, then its answer (by `message_key`: agents repeat it
   without the reasoning, and rewrite arguments), and has the same tools.
2. `edited`: a part is equal. The agent has changed its history, its tools, or a line of the system prompt (Claude Code
   has a line that is new in each call).
3. `none`: only system prompts are equal, which many conversations share.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal, TypeAlias

import msgspec

from ..._canonical.content import Message, Opaque, Part, ToolResult
from ..._canonical.form import join_messages, message_key
from ..turn import Turn

MessageChange: TypeAlias = Literal["same", "edited", "none"]
_SYSTEM = ("system", "developer")


def change_of(turn: Turn, earlier: Turn) -> MessageChange:
    """Return the change from the messages and the answer of `earlier` to the messages of `turn`."""
    messages, before = turn.request.messages, earlier.request.messages
    common = _same_to_the_letter(messages, before)
    if common == len(before) and _has_answer(turn, earlier) and turn.request.tools == earlier.request.tools:
        return "same"
    return "edited" if any(message.role not in _SYSTEM for message in messages[:common]) else "none"


def _same_to_the_letter(messages: Sequence[Message], before: Sequence[Message]) -> int:
    """Return the number of equal messages at the head."""
    pairs = zip(messages, before, strict=False)
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] is pair[1] or _bare(pair[0]) == _bare(pair[1]), pairs)
    )


def _bare(message: Message) -> Message:
    """Return a message without the fields that the model does not read, such as cache marks."""
    return msgspec.structs.replace(message, content=tuple(map(_bare_part, message.content)), extra=None)


def _bare_part(part: Part) -> Part:
    if isinstance(part, ToolResult):
        part = msgspec.structs.replace(part, content=tuple(map(_bare_part, part.content)))
    return part if isinstance(part, Opaque) else msgspec.structs.replace(part, extra=None)


def _has_answer(turn: Turn, earlier: Turn) -> bool:
    """Return True if the model's messages behind the messages of `earlier` are its answer."""
    if earlier.response is None:
        return False
    behind = turn.request.messages[len(earlier.request.messages) :]
    told = list(takewhile(lambda message: message.role == "assistant", behind))
    answer = Message("assistant", tuple(earlier.response.content))
    return bool(told) and message_key(join_messages(told)) == message_key(answer)
