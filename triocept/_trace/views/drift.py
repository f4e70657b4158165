"""Compare the sampled token ids with the ids in the next prompt, and name each difference.

A turn is compared with the earlier turn that it continues or rewrites (see `Trace.relations`). The comparison counts
the ids of the earlier turn's prompt and completion with which the turn's prompt begins. The messages are compared, too.
If the messages differ, the agent has changed its history. If the messages are equal, the template or the tokenizer has
produced other ids.

=================  ==================================================  =============================================
name               test                                                meaning
=================  ==================================================  =============================================
`extends`          the prompt begins with all ids of the earlier       both turns are one chain
                   turn's prompt and completion
`close_trim`       messages same; all but the last `TRIM` ids of the   the turn's end in other ids, or left out
                   completion
`resampled_text`   messages same; all of the prompt, and less of the   the answer was tokenized anew, its reasoning
                   completion                                          left out, or a call's JSON written anew
`template_drift`   messages same; not even all of the prompt           the template renders history otherwise than
                                                                       the prompt that the model continued
`history_rewrite`  messages edited                                     the agent's change: compaction, other tools
`new_root`         the turn continues and rewrites no earlier turn     a sub-agent, a side call
=================  ==================================================  =============================================

Rules:

1. A pair of turns may have two differences: if the template has changed the end of a prompt, the answer after this
   prompt may have other ids, too. So a `Drift` has separate counts for the kept ids of the prompt and of the answer,
   and a second name (`also`).
2. If a template causes the same drift in each turn, the report has one alarm, not one alarm for each turn.
3. A turn that cannot be compared is listed with the gap (the missing data) that prevents the comparison.

Changes that the agent has made to the messages explain differences of the tokens. There are three cases:

1. `same`: the turn has the same tools, and begins with exactly the earlier turn's messages, followed by its answer. The
   answer is compared by `message_key`, because agents repeat it without the reasoning, and rewrite arguments.
2. `edited`: only some messages are equal, or the tools differ. The agent has changed its history, its tools, or a line
   of the system prompt (Claude Code has a line that is new in each call).
3. `none`: no messages are equal, except perhaps system prompts, which many conversations share.
"""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import Literal, TypeAlias

import msgspec

from ..._canonical.content import Message, Opaque, Part, ToolResult
from ..._canonical.form import join_messages, message_key
from ..trace import Trace
from ..turn import Turn
from .step import Step, check_trace, steps

_BYTES = 4
"""Bytes of a token id."""


def common_ids(ids: bytes, others: bytes) -> int:
    """Return the number of equal ids at the beginning of both lists of ids."""
    low, high = 0, min(len(ids), len(others)) // _BYTES
    while low < high:  # binary search: slices are compared faster than single items
        middle = (low + high + 1) // 2
        if ids[low * _BYTES : middle * _BYTES] == others[low * _BYTES : middle * _BYTES]:
            low = middle
        else:
            high = middle - 1
    return low


def answer_kept(prompt: bytes, kept: int, completion: bytes) -> int:
    """Return how many ids at the beginning of `completion` the next prompt contains as one uninterrupted sequence.

    Args:
        prompt: the prompt of the next turn.
        kept: number of ids at the beginning of `prompt` that equal the previous prompt. The completion is searched
            after these ids, because its position is unknown if the prompt changed.
        completion: the completion of the previous turn.
    """
    first, most = completion[:_BYTES], 0
    at = prompt.find(first, kept * _BYTES)
    while first and at >= 0:
        if at % _BYTES == 0:
            most = max(most, common_ids(prompt[at : at + len(completion)], completion))
        at = prompt.find(first, at + 1)
    return most


MessageChange: TypeAlias = Literal["same", "edited", "none"]
_SYSTEM = ("system", "developer")


def change_of(turn: Turn, earlier: Turn) -> MessageChange:
    """Return the change (see `MessageChange`) from the messages and answer of `earlier` to the messages of `turn`."""
    messages, before = turn.request.messages, earlier.request.messages
    pairs = zip(messages, before, strict=False)
    same = takewhile(lambda pair: pair[0] is pair[1] or _bare(pair[0]) == _bare(pair[1]), pairs)
    common = sum(1 for _ in same)
    if common == len(before) and turn.request.tools == earlier.request.tools and earlier.response is not None:
        # The model's messages that follow the messages of `earlier` are the answer of `earlier`.
        behind = messages[len(before) :]
        answers = list(takewhile(lambda message: message.role == "assistant", behind))
        answer = Message("assistant", tuple(earlier.response.content))
        if answers and message_key(join_messages(answers)) == message_key(answer):
            return "same"
    return "edited" if any(message.role not in _SYSTEM for message in messages[:common]) else "none"


def _bare(message: Message) -> Message:
    """Return a message without the fields that the model does not read, such as cache marks."""
    return msgspec.structs.replace(message, content=tuple(map(_bare_part, message.content)), extra=None)


def _bare_part(part: Part) -> Part:
    if isinstance(part, ToolResult):
        part = msgspec.structs.replace(part, content=tuple(map(_bare_part, part.content)))
    return part if isinstance(part, Opaque) else msgspec.structs.replace(part, extra=None)


DriftName: TypeAlias = Literal[
    "extends", "close_trim", "resampled_text", "template_drift", "history_rewrite", "new_root"
]

TRIM = 2
"""Maximum number of ids at the end of a turn that are not part of its text: an end token and a line break."""


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of the tokens of an earlier turn with the prompt of a later turn that continues or rewrites it."""

    turn: str
    """Id of the later turn, whose prompt is compared."""
    earlier: str | None
    """Id of the earlier turn, whose tokens are compared; None for `new_root`."""
    name: DriftName
    also: DriftName | None = None
    """Name of the answer's difference (`close_trim`, `resampled_text`) if `name` is `template_drift`. Otherwise None.
    """
    messages: MessageChange
    """Change of the messages and tools: `same`, `edited`, or `none` (they have nothing in common)."""
    prompt_length: int = 0
    """Number of tokens in the prompt of `earlier`."""
    prompt_kept: int = 0
    """Number of equal tokens at the beginning of the prompts of `earlier` and `turn`."""
    answer_length: int = 0
    """Number of tokens in the completion of `earlier`."""
    answer_kept: int = 0
    """Number of tokens from the beginning of `earlier`'s completion that the prompt of `turn` contains in sequence.
    These tokens are counted after the prompt of `earlier`. If the prompt of `turn` contains other ids in place of that
    prompt, the count begins at the position that gives the largest count."""


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `drift`: the token ids that each turn sampled, compared with the ids in the next prompt."""

    pairs: tuple[Drift, ...]
    """A comparison for each turn that can be compared, in order."""
    counts: dict[DriftName, int]
    """Number of comparisons (items of `pairs`) with each name."""
    alarms: tuple[Drift, ...]
    """The first `template_drift` for each number of changed ids at the end of a prompt, because a template causes the
    same drift in each turn. Each alarm is a reason to examine the template, or the code that renders it."""
    sampled: int
    """Number of sampled tokens, in all turns."""
    drifted: int
    """Number of sampled tokens that no later prompt contains, although the messages are equal."""
    delivered: int
    """Number of sampled tokens that were delivered to the agent."""
    uncompared: dict[str, str]
    """For each turn that cannot be compared, by its id: the name of the gap (missing data) that prevents the
    comparison. The gap is in the turn itself (`no_tokens`, `prompt_ids_missing`, `prompt_redacted`), or in the earlier
    turn (`ids_missing`, `redacted`)."""

    @property
    def delivered_fraction(self) -> float | None:
        """Share of the sampled tokens that were delivered to the agent; None if no tokens were sampled."""
        return self.delivered / self.sampled if self.sampled else None


def drift(trace: Trace) -> DriftReport:
    """Compare the sampled ids with the prompts of the next turns, and return a name for each difference.

    Args:
        trace: live, sealed, or read from a file. Traces of child rollouts are not included.

    Raises:
        TypeError: `trace` is not a single trace.
    """
    check_trace("drift", trace)
    all_steps = steps(trace)
    earlier = _earlier(trace)
    by_id = {step.turn.id: step for step in all_steps}
    pairs: list[Drift] = []
    uncompared: dict[str, str] = {}
    for step in all_steps:
        before = by_id[found] if (found := earlier[step.turn.id]) is not None else None
        if (gap := _gap(step, before)) is not None:
            uncompared[step.turn.id] = gap
        else:
            pairs.append(_compared(step, before))
    lost: dict[str, int] = {}
    """For each turn, by its id: how many of its sampled tokens are not in the next prompt. If several turns follow the
    turn, the minimum of these numbers."""
    for pair in pairs:
        if pair.earlier is not None and pair.messages == "same":
            gone = pair.answer_length - pair.answer_kept
            lost[pair.earlier] = min(lost.get(pair.earlier, gone), gone)
    # Keep only the first drift of each kind: a template changes the same number of ids at the end of each prompt.
    alarms: dict[int, Drift] = {}
    for pair in pairs:
        if pair.name == "template_drift":
            alarms.setdefault(pair.prompt_length - pair.prompt_kept, pair)
    sampled = {step.turn.id: len(step.tokens.completion) // 4 for step in all_steps}
    return DriftReport(
        pairs=tuple(pairs),
        counts=dict(Counter(pair.name for pair in pairs)),
        alarms=tuple(alarms.values()),
        sampled=sum(sampled.values()),
        drifted=sum(lost.values()),
        delivered=sum(sampled[step.turn.id] for step in all_steps if step.delivered),
        uncompared=uncompared,
    )


def _earlier(trace: Trace) -> dict[str, str | None]:
    """Return, for each turn by its id, the id of the earlier turn with which it is compared; None for a new root."""
    found: dict[str, str | None] = {}
    for turn, relation in trace.relations.items():
        match relation.kind:
            case "continues" | "compaction" | "rewrite":
                found[turn] = relation.turn
            case "retry" | "repeat":  # both calls continue the same turn
                found[turn] = found.get(relation.turn or "")
            case _:
                found[turn] = None
    return found


def _gap(step: Step, before: Step | None) -> str | None:
    """Return the gap that prevents the comparison of a turn with the earlier turn; None if they can be compared."""
    if step.turn.tokens is None or (before is not None and before.turn.tokens is None):
        return "no_tokens"
    for each in (step, before):
        if each is not None and not each.tokens.prompt:
            return "prompt_redacted" if "prompt_redacted" in each.gaps else "prompt_ids_missing"
    if before is not None and not before.tokens.completion:
        return "redacted" if "redacted" in before.gaps else "ids_missing"
    return None


def _compared(step: Step, before: Step | None) -> Drift:
    if before is None:
        return Drift(turn=step.turn.id, earlier=None, name="new_root", messages="none")
    prompt, completion = before.tokens.prompt, before.tokens.completion
    change = change_of(step.turn, before.turn)
    kept = common_ids(step.tokens.prompt, prompt)
    whole = kept == len(prompt) // 4
    answer = (
        common_ids(step.tokens.prompt[len(prompt) :], completion)
        if whole
        else answer_kept(step.tokens.prompt, kept, completion)
    )
    lost = len(completion) // 4 - answer
    of_answer: DriftName = "extends" if not lost else "resampled_text"
    if lost and answer and lost <= TRIM:
        of_answer = "close_trim"
    if whole and of_answer == "extends":
        name: DriftName = "extends"
    elif change != "same":
        name = "history_rewrite"
    else:
        name = of_answer if whole else "template_drift"
    return Drift(
        turn=step.turn.id,
        earlier=before.turn.id,
        name=name,
        also=of_answer if name == "template_drift" and of_answer != "extends" else None,
        messages=change,
        prompt_length=len(prompt) // 4,
        prompt_kept=kept,
        answer_length=len(completion) // 4,
        answer_kept=answer,
    )
