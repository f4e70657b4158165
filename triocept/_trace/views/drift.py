"""Whether the ids came back that were sampled, and what it is called if they did not.

A turn is compared with the one that it continues, or tells anew (see `Trace.relations`): how far its prompt begins with
what that one holds, its prompt and then its completion. The messages are compared first: where they differ the agent
has changed its history, and where they are the same the template, or the tokenizer, has made other ids of them.

=================  ==================================================  =============================================
name               test                                                what it is
=================  ==================================================  =============================================
`extends`          the prompt begins with all of it                    one chain
`close_trim`       messages same; all but the last `TRIM` ids of the   the turn's end in other ids, or left out
                   completion
`resampled_text`   messages same; all of the prompt, and less of the   the answer was tokenized anew, its reasoning
                   completion                                          left out, or a call's JSON written anew
`template_drift`   messages same; not even all of the prompt           the template writes history otherwise than
                                                                       what it lets the model go on from
`history_rewrite`  messages edited                                     the agent's doing: compaction, other tools
`new_root`         it continues no turn, and tells none anew           a sub-agent, a side call
=================  ==================================================  =============================================

Rules:

1. One name hides another: where the template has changed the end of a prompt, the answer behind it may be other ids as
   well. So both boundaries are told, of the prompt and of the answer, and the second name.
2. A template that does the same each turn is one alarm, not one for each turn.
3. A turn that cannot be compared is told by its gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from ..trace import Trace
from .ids import answer_kept, common_ids
from .message_change import MessageChange, change_of
from .step import Step, steps

DriftName: TypeAlias = Literal[
    "extends", "close_trim", "resampled_text", "template_drift", "history_rewrite", "new_root"
]

TRIM = 2
"""Ids: that which ends a turn, and a line break before or behind it."""


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the tokens of one turn in the prompt of the next."""

    turn: str
    """The id of the turn whose prompt it is."""
    earlier: str | None
    """The id of the turn that it was compared with; None for `new_root`."""
    name: DriftName
    also: DriftName | None = None
    """What became of the answer (`close_trim`, `resampled_text`), where `name` is of the prompt before it."""
    messages: MessageChange
    """Whether the messages and tools are the same, edited, or have nothing in common."""
    prompt_length: int = 0
    """Tokens in the prompt of `earlier`."""
    prompt_kept: int = 0
    """How many of them the prompt begins with."""
    answer_length: int = 0
    """Tokens in the completion of `earlier`."""
    answer_kept: int = 0
    """How many of them, from the first on, stand in the prompt in a row: behind that of `earlier`, or where there are
    the most, if that came back with other ids."""


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the tokens of one rollout. Made by `drift`."""

    pairs: tuple[Drift, ...]
    """For each turn that has its ids, in order."""
    counts: dict[DriftName, int]
    """How many have each name."""
    alarms: tuple[Drift, ...]
    """Of `template_drift`, the first of each kind (as many ids from the end of the prompt are others): the template, or
    what renders it, has to be looked at."""
    sampled: int
    """Tokens that were sampled, in all turns."""
    drifted: int
    """How many of them did not come back, though the messages are the same."""
    delivered: int
    """How many of them the agent got."""
    uncompared: dict[str, str]
    """By turn: the gap for which it could not be compared: `no_tokens`, `prompt_ids_missing` or
    `prompt_redacted`, `ids_missing` or `redacted` (of the turn before)."""

    @property
    def delivered_fraction(self) -> float | None:
        """Of the tokens that were sampled, the share that the agent got; None: none were."""
        return self.delivered / self.sampled if self.sampled else None


def drift(trace: Trace) -> DriftReport:
    """See whether the ids that were sampled came back in the prompts behind, and name what happened where they did not.

    Args:
        trace: live, sealed, or read from a file. Its children are not in it.
    """
    told = steps(trace)
    earlier = _earlier(trace)
    by_id = {step.turn.id: step for step in told}
    pairs: list[Drift] = []
    uncompared: dict[str, str] = {}
    for step in told:
        before = by_id[found] if (found := earlier[step.turn.id]) is not None else None
        if (gap := _gap(step, before)) is not None:
            uncompared[step.turn.id] = gap
        else:
            pairs.append(_compared(step, before))
    sampled = {step.turn.id: len(step.tokens.completion) // 4 for step in told}
    return DriftReport(
        pairs=tuple(pairs),
        counts=_counted(pairs),
        alarms=_alarms(pairs),
        sampled=sum(sampled.values()),
        drifted=sum(_drifted(pairs).values()),
        delivered=sum(sampled[step.turn.id] for step in told if step.delivered),
        uncompared=uncompared,
    )


def _earlier(trace: Trace) -> dict[str, str | None]:
    """For each turn, the one before it to compare it with; None: it begins something."""
    found: dict[str, str | None] = {}
    for turn, relation in trace.relations.items():
        match relation.kind:
            case "continues" | "compaction" | "rewrite":
                found[turn] = relation.turn
            case "retry" | "repeat":  # it goes on from what that one goes on from
                found[turn] = found.get(relation.turn or "")
            case _:
                found[turn] = None
    return found


def _gap(step: Step, before: Step | None) -> str | None:
    """What is missing to compare them."""
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
    of_answer = _name_of_answer(answer, len(completion) // 4)
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


def _name_of_answer(kept: int, length: int) -> Literal["extends", "close_trim", "resampled_text"]:
    if kept == length:
        return "extends"
    return "close_trim" if kept and length - kept <= TRIM else "resampled_text"


def _counted(pairs: Iterable[Drift]) -> dict[DriftName, int]:
    counts: dict[DriftName, int] = {}
    for pair in pairs:
        counts[pair.name] = counts.get(pair.name, 0) + 1
    return counts


def _alarms(pairs: Iterable[Drift]) -> tuple[Drift, ...]:
    """Templates that do the same each turn leave out, or add, as many ids at the end of each prompt."""
    first: dict[int, Drift] = {}
    for pair in pairs:
        if pair.name == "template_drift":
            first.setdefault(pair.prompt_length - pair.prompt_kept, pair)
    return tuple(first.values())


def _drifted(pairs: Iterable[Drift]) -> dict[str, int]:
    """By turn, how many of its sampled tokens did not come back; as of the turn behind that has the most."""
    lost: dict[str, int] = {}
    for pair in pairs:
        if pair.earlier is not None and pair.messages == "same":
            gone = pair.answer_length - pair.answer_kept
            lost[pair.earlier] = min(lost.get(pair.earlier, gone), gone)
    return lost
