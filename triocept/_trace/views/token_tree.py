"""The tree of tokens: the turn whose prompt and completion a prompt begins with, token by token.

Rules:

1. A turn holds its prompt and its completion. It extends the turn that holds the longest beginning of its prompt.
   Messages are not compared, so the result does not depend on the order of the turns.
2. Of turns that hold the same tokens, the turn that the messages continue is chosen, else the first; and the choice is
   marked as ambiguous.
3. A turn is found by its length and its last few ids before it is compared in full: the cost grows with the tokens, not
   with the pairs of turns.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..tokens import Tokens
from ..turn import Turn

_TAIL = 32
"""Bytes of eight ids."""


@dataclass(eq=False, frozen=True, slots=True)
class Node:
    """A turn in the tree."""

    turn: Turn
    tokens: Tokens
    """Tokens of the turn; neither prompt nor completion is empty."""
    parent: Node | None
    """The node that this node extends."""
    ambiguous: bool
    """True if several nodes hold the parent's tokens, and the messages do not select one."""

    @property
    def end(self) -> int:
        """Number of bytes that the node holds."""
        return len(self.tokens.prompt) + len(self.tokens.completion)

    @property
    def new(self) -> bytes:
        """The bytes that the node holds behind those of its parent."""
        return self.tokens.prompt[self.parent.end if self.parent else 0 :] + self.tokens.completion

    def begins(self, prompt: bytes) -> bool:
        """Return True if `prompt` begins with all bytes of the node."""
        own = self.tokens
        return prompt.startswith(own.prompt) and prompt.startswith(own.completion, len(own.prompt))


class _Index:
    """Nodes by their length and last ids."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._nodes: dict[int, dict[bytes, list[Node]]] = {}

    def add(self, node: Node) -> None:
        if node.end not in self._nodes:
            insort(self._ends, node.end)
        tail = (node.tokens.prompt[-_TAIL:] + node.tokens.completion)[-_TAIL:]
        self._nodes.setdefault(node.end, {}).setdefault(tail, []).append(node)

    def longest(self, prompt: bytes) -> list[Node]:
        """Return the nodes that hold the longest beginning of `prompt`."""
        for end in reversed(self._ends[: bisect_right(self._ends, len(prompt))]):
            alike = self._nodes[end].get(prompt[max(0, end - _TAIL) : end], ())
            if found := [node for node in alike if node.begins(prompt)]:
                return found
        return []


def token_tree(turns: Iterable[Turn], parents: Mapping[str, str | None]) -> dict[str, Node]:
    """Return the nodes of all turns that have the ids of prompt and completion, by turn.

    Args:
        turns: in any order.
        parents: for each turn, the turn that it continues by the messages.
    """
    index, nodes = _Index(), {}
    for turn in sorted(turns, key=_by_length):
        if (tokens := turn.tokens) is not None and tokens.prompt and tokens.completion:
            longest = index.longest(tokens.prompt)
            told = next((node for node in longest if node.turn.id == parents.get(turn.id)), None)
            parent = told or next(iter(longest), None)
            node = nodes[turn.id] = Node(turn, tokens, parent, told is None and len(longest) > 1)
            index.add(node)
    return nodes


def _by_length(turn: Turn) -> tuple[int, float, str]:
    held = len(turn.tokens.prompt) + len(turn.tokens.completion) if turn.tokens is not None else 0
    return held, turn.started_at, turn.id
