"""One model call, as a trainer sees it."""

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
    """One model call: the tokens that it read and sampled, and what speaks against training on them."""

    turn: Turn
    """The call itself: its request, its answer, its outcome."""
    parent: str | None
    """The id of the turn whose prompt and completion its prompt begins with, token by token; None: of no turn."""
    gaps: tuple[str, ...]
    """Why it is not trained on: those of `Tokens.gaps`; `no_tokens`, nobody asked for them; `not_answered`;
    `client_disconnected_before_end`, the agent did not get the answer; `superseded`, nor that, and it asked again and
    got one; `rewritten_response`, it got another one. Without those that were accepted; empty: it is trained on."""
    unknown: tuple[str, ...]
    """What nobody said: `policy_version_unknown`, `temperature_unknown`, `stop_unknown` (whether the completion ends
    with the stop token); `ambiguous_parent`, where several turns hold the very tokens that its prompt begins with."""
    delivered: bool
    """Whether the agent got the answer: it went on from it, or it waited for it to its end."""
    superseded_by: str | None
    """The id of the turn with the next answer to the same question, if this answer was not delivered."""

    @property
    def tokens(self) -> Tokens:
        """What was captured; without a token where nothing was."""
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
        """Whether it is trained on: it has no gap."""
        return not self.gaps

    @property
    def rewritten(self) -> bool:
        """Whether the program answered with something else than was sampled."""
        return self.turn.rewritten

    @property
    def temperature(self) -> float | None:
        """The one that the server was asked for, or says that it took; None: nobody said, it was the server's own."""
        return self.tokens.temperature

    @property
    def policy_version(self) -> str | None:
        """Which weights sampled it; None: nobody said."""
        return self.tokens.policy_version

    @property
    def stop_included(self) -> bool | None:
        """Whether the completion ends with the token that ends a turn; None: nobody said."""
        return self.tokens.stop_included


def steps(trace: Trace, *, accept: Collection[str] = ()) -> tuple[Step, ...]:
    """Each model call of a rollout, in the order of its turns, with the tokens that it read and sampled.

    Those of its children are not among them: `steps(child)` for each of `trace.children`.

    Args:
        trace: live, sealed, or read from a file.
        accept: gaps that are no reason not to train: `client_disconnected_before_end`, `not_answered`,
            `rewritten_response`, `superseded`, `upstream_truncated`.

    Raises:
        ValueError: a name in `accept` is none of these.
    """
    return tuple(step for step, _ in rooted_steps(trace, accept))


def rooted_steps(trace: Trace, accept: Collection[str]) -> list[tuple[Step, Node | None]]:
    """The steps, each with its node in the tree of tokens, if it has one."""
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
