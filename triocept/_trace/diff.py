"""Find the differences between the calls of two turns.

Rules:

1. Messages are equal as in the graph (see `message_key`).
2. Between two equal messages, the first call may have an old message, and the second call a new message. These two
   count as one edited message if their roles are equal and their texts are similar. Texts are similar if their common
   beginning and end make up at least half of the shorter text. Otherwise the old message was dropped, and the new
   message was added.
3. A comparison takes time only for the differences: messages at the beginning and at the end that are the same objects
   are skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

import msgspec

from .._canonical.content import Json, Message
from .._canonical.form import message_key
from .._canonical.request import Request, Tool
from .texts import text_of

if TYPE_CHECKING:
    from .turn import Turn


class Edit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change to a message: one piece of the message's text was replaced.

    The text consists of the texts of the message's parts, joined by line breaks.
    """

    at: Literal["start", "end", "middle", "elsewhere"]
    """Place of the replacement in the old text. If text was only appended, the place is `end`. `elsewhere` means that
    the texts are equal, but another field differs (a result's error flag, a name)."""
    place: int
    """Number of equal characters before the replacement."""
    removed: str = ""
    added: str = ""

    @property
    def growth(self) -> int:
        """Number of characters by which the message became longer; negative if it became shorter."""
        return len(self.added) - len(self.removed)


class MessageDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A message of the first call, of the second call, or of both calls, and how the message differs between them."""

    kind: Literal["same", "added", "dropped", "edited"]
    """Kind of the difference. Messages in which only cache marks or ids of tool calls differ count as the same, as in
    the graph of turns."""
    before: int | None = None
    """Index of the message in the first call; None if the first call does not contain the message."""
    after: int | None = None
    """Index of the message in the second call; None if the second call does not contain the message."""
    old: Message | None = None
    new: Message | None = None
    edit: Edit | None = None
    """The change to the message if `kind` is `edited`; otherwise None."""


class ToolsDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Differences between the tools that two calls offer. Each difference is a tuple of names of tools."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    """Tools that both calls offer, but with different descriptions, parameters or other fields."""
    reordered: bool = False
    """True if the tools that both calls offer are in a different order. In another order, the same tools make the
    prompt differ, so the provider cannot use its cached prompt.
    """
    count: int = 0
    """Number of tools in the second call."""

    def __bool__(self) -> bool:
        """Return True if anything differs."""
        return bool(self.added or self.dropped or self.edited or self.reordered)


class TurnDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Differences between the calls of two turns. The answers of the calls are not compared."""

    before: str
    """Id of the first turn."""
    after: str
    """Id of the second turn."""
    messages: tuple[MessageDiff, ...]
    """All messages of both calls, in order. Messages without a difference are included."""
    tools: ToolsDiff
    settings: dict[str, tuple[Json, Json]]
    """Fields other than messages and tools whose values differ, as (value in the first call, value in the second call).
    The key is the field's path in the request (`model`, `sampling.temperature`, `extra.metadata`). A missing value is
    None."""

    def __repr__(self) -> str:
        counts = Counter(each.kind for each in self.messages)
        messages = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        return f"<TurnDiff {self.before} to {self.after}: messages {messages or 'none'}; settings {[*self.settings]}>"

    @property
    def changes(self) -> tuple[MessageDiff, ...]:
        """The messages that were added, dropped or edited."""
        return tuple(each for each in self.messages if each.kind != "same")


_NESTED = ("sampling", "reasoning", "extra")
_encode = msgspec.json.Encoder(order="deterministic").encode


def diff_of(before: Turn, after: Turn) -> TurnDiff:
    """Return the differences between the calls of `before` and `after`."""
    olds, news = _flat(before.request), _flat(after.request)
    pairs = {path: (olds.get(path), news.get(path)) for path in (olds | news)}
    old_tools = {tool_name(tool): tool for tool in before.request.tools}
    new_tools = {tool_name(tool): tool for tool in after.request.tools}
    both = [name for name in old_tools if name in new_tools]
    return TurnDiff(
        before=before.id,
        after=after.id,
        messages=tuple(_messages(before.request.messages, after.request.messages)),
        tools=ToolsDiff(
            added=tuple(name for name in new_tools if name not in old_tools),
            dropped=tuple(name for name in old_tools if name not in new_tools),
            edited=tuple(name for name in both if _encode(old_tools[name]) != _encode(new_tools[name])),
            reordered=both != [name for name in new_tools if name in old_tools],
            count=len(after.request.tools),
        ),
        settings={path: pair for path, pair in pairs.items() if _encode(pair[0]) != _encode(pair[1])},
    )


def _messages(old: Sequence[Message], new: Sequence[Message]) -> Iterator[MessageDiff]:
    head = _common(old, new, 0)
    tail = _common(old[::-1], new[::-1], head)
    yield from _same(range(head), 0, old, new)
    ends = len(old) - tail, len(new) - tail
    keys = [*map(message_key, old[head : ends[0]])], [*map(message_key, new[head : ends[1]])]
    matcher = SequenceMatcher(None, *keys)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            yield from _same(range(head + i, head + i_end), j - i, old, new)
        else:
            yield from _changed(range(head + i, head + i_end), range(head + j, head + j_end), old, new)
    yield from _same(range(ends[0], len(old)), ends[1] - ends[0], old, new)


def _common(one: Sequence[Message], other: Sequence[Message], taken: int) -> int:
    """Return the number of equal messages at the beginning of two lists, each without its last `taken` messages."""
    count, most = 0, min(len(one), len(other)) - taken
    while count < most and (
        one[count] is other[count] or message_key(one[count]) == message_key(other[count])
    ):
        count += 1
    return count


def _same(places: range, shift: int, old: Sequence[Message], new: Sequence[Message]) -> Iterator[MessageDiff]:
    for at in places:
        yield MessageDiff(kind="same", before=at, after=at + shift, old=old[at], new=new[at + shift])


def _changed(
    olds: range, news: range, old: Sequence[Message], new: Sequence[Message]
) -> Iterator[MessageDiff]:
    """Yield the edited, dropped and added messages in two ranges that have no equal messages.

    Args:
        olds: the indexes of the first range, in `old`.
        news: the indexes of the second range, in `new`.
        old: the messages of the first call.
        new: the messages of the second call.
    """
    i, j = olds.start, news.start
    while i < olds.stop or j < news.stop:
        edit = edit_of(old[i], new[j]) if i < olds.stop and j < news.stop else None
        if edit is not None:
            yield MessageDiff(kind="edited", before=i, after=j, old=old[i], new=new[j], edit=edit)
            i, j = i + 1, j + 1
            continue
        left = (olds.stop - i) - (news.stop - j)
        if left >= 0:
            yield MessageDiff(kind="dropped", before=i, old=old[i])
            i += 1
        if left <= 0:
            yield MessageDiff(kind="added", after=j, new=new[j])
            j += 1


def edit_of(old: Message, new: Message) -> Edit | None:
    """Return the edit that turns `old` into `new`; None if their roles differ, or their texts are not similar."""
    if old.role != new.role:
        return None
    one, other = text_of(old), text_of(new)
    head = common_head(one, other)
    tail = common_head(one[head:][::-1], other[head:][::-1])
    if one == other:
        return Edit(at="elsewhere", place=len(one))
    if 2 * (head + tail) < min(len(one), len(other)) or not head + tail:
        return None
    at: Literal["start", "end", "middle"] = "end" if not tail else "middle" if head else "start"
    return Edit(at=at, place=head, removed=one[head : len(one) - tail], added=other[head : len(other) - tail])


def common_head(one: str, other: str) -> int:
    """Return the number of equal characters at the beginning of two texts."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def tool_name(tool: Tool) -> str:
    return tool.name or str((tool.extra or {}).get("type", tool.kind))


def _flat(request: Request) -> dict[str, Json]:
    """Return a dict from paths in a request, such as `sampling.temperature`, to their values.

    Messages and tools are left out, because they are compared separately. Ids that differ in each call are left out,
    too.
    """
    rest = msgspec.structs.replace(
        request, messages=(), tools=(), previous_response=None, continued_from=None
    )
    found: dict[str, Json] = {}
    for name, value in msgspec.to_builtins(rest).items():
        if name in _NESTED and isinstance(value, dict):
            found.update({f"{name}.{inner}": each for inner, each in value.items()})
        else:
            found[name] = value
    return found
