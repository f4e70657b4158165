"""Join consecutive calls to one flat sequence of tokens for training.

Rules:

1. A branch ends with a trained call that no other trained call continues token by token. (A trained call is a call
   without gaps.) The branch contains this call and all its ancestors in the tree of tokens (see `step`), beginning with
   the first call's prompt. The prompt of each further call begins with all earlier tokens of the sequence.
2. If several branches share a sampled token, only the first of these branches trains on the token.
3. A call with gaps is only context: the branch contains the tokens of the call, but a trainer must not train on them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator

import msgspec

from ..tokens import unpacked_floats, unpacked_ids
from ..trace import Trace
from .step import Node, Step, check_trace, rooted_steps

_BYTES = 4
"""Number of bytes of an id, and of a log probability."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The completion of one call in a branch."""

    step: Step
    start: int
    """Index, in the branch, of the completion's first token."""
    stop: int
    """Index, in the branch, of the first token after the completion."""
    trained: bool
    """True if the completion is to be trained on in this branch: its call has no gaps, and no earlier branch contains
    it."""


class TokenBranch(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive calls as one sequence of tokens, with a mask of the tokens to train on."""

    spans: tuple[Span, ...]
    """The sampled completions, in order; the agent and the template produced the tokens between them."""
    ids: bytes
    """Token ids as little-endian int32; `token_ids` decodes them."""
    mask: bytes
    """One byte for each token: 1 if the token was sampled and is to be trained on in this branch, otherwise 0."""
    probabilities: bytes
    """Log probability of each sampled token, and 0.0 for any other token, as little-endian float32; `logprobs` decodes
    them."""

    def __repr__(self) -> str:
        """Return a short text, because a branch may have a hundred thousand tokens."""
        return (
            f"<TokenBranch of {len(self.mask)} tokens, {sum(self.mask)} trained on, {len(self.spans)} calls>"
        )

    @property
    def token_ids(self) -> array[int]:
        """The token ids, as an `array` of 32-bit integers."""
        return unpacked_ids(self.ids)

    @property
    def logprobs(self) -> array[float]:
        """The log probabilities of the tokens, as an `array` of 32-bit floats; 0.0 for tokens that were not sampled."""
        return unpacked_floats(self.probabilities)

    @property
    def temperatures(self) -> array[float]:
        """Temperature at which each token was sampled, as an `array` of 32-bit floats.

        The value is 1.0 for a token that was not sampled, and NaN if the temperature is unknown. Before you divide by
        the values, replace NaN by the server's real temperature.
        """
        values = array("f", [1.0]) * len(self.mask)
        for span in self.spans:
            asked = span.step.temperature
            each = array("f", [math.nan if asked is None else asked])
            values[span.start : span.stop] = each * (span.stop - span.start)
        return values

    @property
    def steps(self) -> tuple[Step, ...]:
        """The calls in the branch, in order."""
        return tuple([span.step for span in self.spans])


def branches(trace: Trace, *, accept: Collection[str] = ()) -> tuple[TokenBranch, ...]:
    """Return the sampled tokens of a rollout as flat sequences, in which each token is to be trained on at most once.

    If the next prompt begins with the ids of a call's prompt and completion, both calls are in one sequence. Otherwise
    another sequence begins, for example for a sub-agent, a compacted history, or ids that differ (see `drift`). A call
    with gaps is in a sequence only if a call without gaps continues it; `steps` returns all calls.

    Args:
        trace: live, sealed, or read from a file. The branches of child rollouts are not included.
        accept: as for `steps`.

    Raises:
        TypeError, ValueError: as for `steps`.
    """
    check_trace("branches", trace)
    rooted = rooted_steps(trace, accept)
    by_node = {node: step for step, node in rooted if node is not None}
    trained = [node for node, step in by_node.items() if step.trained]
    inner = {above for node in trained for above in _above(node)}
    leaves = [node for node in trained if node not in inner]
    leaves.sort(key=lambda node: (node.turn.started_at, node.turn.id))
    taken: set[Node] = set()
    return tuple([_branch(leaf, by_node, taken) for leaf in leaves])


def _above(node: Node) -> Iterator[Node]:
    at = node.parent
    while at is not None:
        yield at
        at = at.parent


def _branch(leaf: Node, by_node: dict[Node, Step], taken: set[Node]) -> TokenBranch:
    row = [*reversed(list(_above(leaf))), leaf]
    count = leaf.end // _BYTES
    mask, probabilities = bytearray(count), bytearray(count * _BYTES)
    spans = []
    for node in row:
        step = by_node[node]
        tokens = step.tokens
        size = len(tokens.completion)
        start, stop = (node.end - size) // _BYTES, node.end // _BYTES
        trained = step.trained and node not in taken
        if trained:
            taken.add(node)
            mask[start:stop] = b"\1" * (stop - start)
        if len(tokens.probabilities) == size and not step.gaps:
            probabilities[start * _BYTES : stop * _BYTES] = tokens.probabilities
        spans.append(Span(step=step, start=start, stop=stop, trained=trained))
    return TokenBranch(
        spans=tuple(spans),
        ids=b"".join([node.new for node in row]),
        mask=bytes(mask),
        probabilities=bytes(probabilities),
    )
