"""A model call, as a trainer needs it."""

from __future__ import annotations

from array import array
from collections.abc import Collection

import msgspec

from ..tokens import Tokens
from ..trace import Trace
from ..turn import Turn
from .delivery import Delivery, deliveries
from .gaps import check_accepted, gaps_of, unknown_of
from .token_tree import Node, token_tree

_NONE = Tokens()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A model call: the tokens that it read and sampled, and the gaps that prevent training on them."""

    turn: Turn
    """The call itself: its request, its answer, its outcome."""
    parent: str | None
    """Id of the turn whose prompt and completion this prompt begins with, token by token; None: no such turn."""
    gaps: tuple[str, ...]
    """Gaps for which the call is not trained on, without accepted gaps; empty: it is trained on.

    The gaps of `Tokens.gaps`; `no_tokens`: tokens were not requested; `not_answered`; `client_disconnected_before_end`:
    the answer was not delivered; `superseded`: it was not delivered, and a repeated call was answered;
    `rewritten_response`: the agent got another answer.
    """
    unknown: tuple[str, ...]
    """Unknown values: `policy_version_unknown`, `temperature_unknown`, `stop_unknown` (whether the completion ends with
    the stop token); `ambiguous_parent`: several turns hold the tokens that the prompt begins with."""
    delivered: bool
    """True if the answer was delivered: the agent continued from it, or waited for it to its end."""
    superseded_by: str | None
    """Id of the turn with the next answer to the same question, if this answer was not delivered."""

    @property
    def tokens(self) -> Tokens:
        """The captured tokens; empty if no tokens were captured."""
        return self.turn.tokens or _NONE

    @property
    def prompt_ids(self) -> array[int]:
        """The ids of the prompt."""
        return self.tokens.prompt_ids

    @property
    def completion_ids(self) -> array[int]:
        """The ids of the completion."""
        return self.tokens.completion_ids

    @property
    def logprobs(self) -> array[float]:
        """The log probability of each token of the completion."""
        return self.tokens.logprobs

    @property
    def mask(self) -> bytes:
        """For each token of the completion, 1 if it is trained on; all of them or none."""
        return bytes([self.trained]) * (len(self.tokens.completion) // 4)

    @property
    def trained(self) -> bool:
        """True if the call is trained on: it has no gap."""
        return not self.gaps

    @property
    def rewritten(self) -> bool:
        """True if the program answered with other content than was sampled."""
        return self.turn.rewritten

    @property
    def temperature(self) -> float | None:
        """Temperature requested from the server, or reported by it; None: unknown, the server used its own."""
        return self.tokens.temperature

    @property
    def policy_version(self) -> str | None:
        """Version of the weights that sampled the call; None: unknown."""
        return self.tokens.policy_version

    @property
    def stop_included(self) -> bool | None:
        """True if the completion ends with the end-of-turn token; None: unknown."""
        return self.tokens.stop_included


def steps(trace: Trace, *, accept: Collection[str] = ()) -> tuple[Step, ...]:
    """Return each model call of a rollout, in the order of its turns, with the tokens that it read and sampled.

    Calls of child rollouts are not included: use `steps(child)` for each of `trace.children`.

    Args:
        trace: live, sealed, or read from a file.
        accept: gaps that do not prevent training: `client_disconnected_before_end`, `not_answered`,
            `rewritten_response`, `superseded`, `upstream_truncated`.

    Raises:
        ValueError: `accept` contains another name.
    """
    return tuple(step for step, _ in rooted_steps(trace, accept))


def rooted_steps(trace: Trace, accept: Collection[str]) -> list[tuple[Step, Node | None]]:
    """Return the steps, each with its node in the tree of tokens, if it has one."""
    check_accepted(accept)
    told, nodes = deliveries(trace), token_tree(trace, trace.parents)
    return [
        (_step(turn, nodes.get(turn.id), told[turn.id], accept), nodes.get(turn.id)) for turn in trace.turns
    ]


def _step(turn: Turn, node: Node | None, told: Delivery, accept: Collection[str]) -> Step:
    gaps = gaps_of(turn, delivered=told.delivered, superseded=told.superseded_by is not None)
    ambiguous = ("ambiguous_parent",) if node is not None and node.ambiguous else ()
    return Step(
        turn=turn,
        parent=node.parent.turn.id if node is not None and node.parent is not None else None,
        gaps=tuple([gap for gap in gaps if gap not in accept]),
        unknown=(*unknown_of(turn), *ambiguous),
        delivered=told.delivered,
        superseded_by=told.superseded_by,
    )
