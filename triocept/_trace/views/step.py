"""Return the model calls of a trace with the data that a trainer needs: tokens, delivery and gaps.

Delivery:

1. If the agent continues from an answer, the answer was delivered, even if the agent had disconnected.
2. Any other answer counts as delivered if a connection of the agent waited for the answer (`Turn.attended`). This is
   all that is known about the last answer of a run, because a turn is recorded before its last byte is sent.
3. An undelivered answer is superseded by the next answer to an equal call. If both answers were delivered, the agent
   sent the call twice to get two samples. (The second call was not a retry, because a retry gets the first answer
   again.)

Gaps:

1. Missing data is reported as a gap, which has a name, and a trainer must not train on this turn. No value is corrected
   or invented.
2. Gaps that were found when the tokens arrived (`Tokens.gaps`) keep their names.
3. If a value is unknown (a temperature, a version of the weights), the tokens may still be used. So its name is in
   `unknown`, not in `gaps`.

The tree of tokens:

1. The tokens of a turn are the tokens of its prompt and its completion. The parent of a turn is the turn whose tokens
   are the longest beginning of the turn's prompt. Messages are not compared, so the result does not depend on the order
   of the turns.
2. If several turns have these tokens, the parent is the turn that the turn's messages continue. If the messages
   continue none of these turns, the parent is the first of them, and `ambiguous` is set.
3. A lookup by length and by the last few ids finds possible parents; only these are compared in full. So the time grows
   with the number of tokens, not with the number of pairs of turns.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ..._canonical.form import message_key
from ..._util.checks import described
from ..tokens import Tokens
from ..trace import Trace
from ..turn import Turn

ACCEPTABLE = (
    "client_disconnected_before_end",
    "not_answered",
    "rewritten_response",
    "superseded",
    "upstream_truncated",
)
"""Names of the gaps that a trainer may accept (`accept=`). The tokens of a call with such a gap are correct."""


def _gaps(turn: Turn, *, delivered: bool, superseded: bool) -> Iterator[str]:
    if turn.tokens is None:
        yield "no_tokens"
    else:
        yield from turn.tokens.gaps
    if turn.outcome in ("failed", "refused"):
        yield "not_answered"
    elif superseded:
        yield "superseded"
    elif not delivered:
        yield "client_disconnected_before_end"
    if turn.rewritten:
        yield "rewritten_response"


_TAIL = 32
"""Number of bytes of eight ids. A parent is looked up by its last eight ids."""


@dataclass(eq=False, frozen=True, slots=True)
class Node:
    """A turn in the tree of tokens."""

    turn: Turn
    tokens: Tokens
    """Tokens of the turn. Neither the prompt nor the completion is empty."""
    parent: Node | None
    """The node whose tokens are the beginning of this node's prompt; None if there is no such node."""
    ambiguous: bool
    """True if several nodes have the parent's tokens, and the turn's messages continue none of their turns."""

    @property
    def end(self) -> int:
        """Number of bytes of the node's prompt and completion."""
        return len(self.tokens.prompt) + len(self.tokens.completion)

    @property
    def new(self) -> bytes:
        """The bytes of the node's prompt and completion that come after the bytes of the parent."""
        return self.tokens.prompt[self.parent.end if self.parent else 0 :] + self.tokens.completion

    def begins(self, prompt: bytes) -> bool:
        own = self.tokens
        return prompt.startswith(own.prompt) and prompt.startswith(own.completion, len(own.prompt))


class _Index:
    """Index of nodes. It finds nodes by the number of their bytes and by their last ids."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._nodes: dict[int, dict[bytes, list[Node]]] = {}

    def add(self, node: Node) -> None:
        if node.end not in self._nodes:
            insort(self._ends, node.end)
        tail = (node.tokens.prompt[-_TAIL:] + node.tokens.completion)[-_TAIL:]
        self._nodes.setdefault(node.end, {}).setdefault(tail, []).append(node)

    def longest(self, prompt: bytes) -> list[Node]:
        """Return the node with the most tokens among the nodes whose tokens are the beginning of `prompt`.

        If several nodes have these tokens, return all of them. If no node fits, return an empty list.
        """
        for end in reversed(self._ends[: bisect_right(self._ends, len(prompt))]):
            alike = self._nodes[end].get(prompt[max(0, end - _TAIL) : end], ())
            if found := [node for node in alike if node.begins(prompt)]:
                return found
        return []


def token_tree(turns: Iterable[Turn], parents: Mapping[str, str | None]) -> dict[str, Node]:
    """Return a dict from the ids of turns to their nodes. A turn without ids of prompt or completion has no node.

    Args:
        turns: the turns, in any order.
        parents: for each turn, by id, the id of the turn that its messages continue.
    """
    index, nodes = _Index(), {}
    held = [(turn, turn.tokens) for turn in turns if turn.tokens is not None]
    held.sort(
        key=lambda each: (len(each[1].prompt) + len(each[1].completion), each[0].started_at, each[0].id)
    )
    for turn, tokens in held:
        if tokens.prompt and tokens.completion:
            longest = index.longest(tokens.prompt)
            continued_one = next((node for node in longest if node.turn.id == parents.get(turn.id)), None)
            parent = continued_one or next(iter(longest), None)
            node = nodes[turn.id] = Node(turn, tokens, parent, continued_one is None and len(longest) > 1)
            index.add(node)
    return nodes


_NONE = Tokens()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A model call: its prompt's tokens, its sampled tokens, and the gaps that prevent training on them."""

    turn: Turn
    """The turn of the call, with its request, answer and outcome."""
    parent: str | None
    """Id of the turn whose prompt and completion, token by token, are the beginning of this prompt; None if there is no
    such turn.
    """
    gaps: tuple[str, ...]
    """Gaps that prevent training on the call, except the accepted gaps. This tuple is empty if the call can be trained
    on.

    This tuple contains the gaps of `Tokens.gaps`, and: `no_tokens`: tokens were not requested; `not_answered`: the call
    was not answered; `client_disconnected_before_end`: the answer was not delivered; `superseded`: the answer was not
    delivered, and an equal later call was answered; `rewritten_response`: the agent got other content than the sampled
    content."""
    unknown: tuple[str, ...]
    """Unknown values: `policy_version_unknown`, `temperature_unknown`, `stop_unknown` (whether the completion ends with
    the stop token); `ambiguous_parent`: the prompt begins with the tokens of several turns."""
    delivered: bool
    """True if the answer was delivered: the agent has continued from it, or was connected until its end."""
    superseded_by: str | None
    """Id of the turn with the next answer to an equal call, if this answer was not delivered. None if this answer was
    delivered, or if no equal call got a later answer."""

    @property
    def tokens(self) -> Tokens:
        """The recorded tokens; empty if no tokens were recorded."""
        return self.turn.tokens or _NONE

    @property
    def prompt_ids(self) -> array[int]:
        """The token ids of the prompt."""
        return self.tokens.prompt_ids

    @property
    def completion_ids(self) -> array[int]:
        """The token ids of the completion."""
        return self.tokens.completion_ids

    @property
    def logprobs(self) -> array[float]:
        """The log probability of each token of the completion."""
        return self.tokens.logprobs

    @property
    def mask(self) -> bytes:
        """One byte for each token of the completion: 1 to train on it, otherwise 0. All bytes of a step are equal."""
        return bytes([self.trained]) * (len(self.tokens.completion) // 4)

    @property
    def trained(self) -> bool:
        """True if the call is to be trained on: it has no gaps other than accepted gaps."""
        return not self.gaps

    @property
    def rewritten(self) -> bool:
        """True if the program answered with other content than the sampled content."""
        return self.turn.rewritten

    @property
    def temperature(self) -> float | None:
        """Temperature that was requested from the server, or that the server reported. None: the server's default."""
        return self.tokens.temperature

    @property
    def policy_version(self) -> str | None:
        """Version of the weights that sampled the call; None if unknown."""
        return self.tokens.policy_version

    @property
    def stop_included(self) -> bool | None:
        """True if the completion ends with the end-of-turn token; None if unknown."""
        return self.tokens.stop_included


def steps(trace: Trace, *, accept: Collection[str] = ()) -> tuple[Step, ...]:
    """Return the model calls of a rollout, in the order of its turns, with their tokens and gaps.

    Calls of child rollouts are not included: use `steps(child)` for each of `trace.children`.

    Args:
        trace: live, sealed, or read from a file.
        accept: gaps that do not prevent training: `client_disconnected_before_end`, `not_answered`,
            `rewritten_response`, `superseded`, `upstream_truncated`.

    Raises:
        TypeError: `trace` is not a single trace.
        ValueError: `accept` contains a name that is not in this list.
    """
    check_trace("steps", trace)
    return tuple(step for step, _ in rooted_steps(trace, accept))


def check_trace(function: str, trace: object) -> None:
    """Raise TypeError if `trace` is not a single trace. For a list of traces, the error shows the loop to write."""
    if isinstance(trace, Trace):
        return
    kind = type(trace).__name__
    if hasattr(trace, "traces"):
        hint = f"a {kind}: write `for trace in {kind.lower()}.traces: {function}(trace)`"
    elif isinstance(trace, Sequence) and not isinstance(trace, str):
        hint = f"a {kind}: write `for trace in traces: {function}(trace)`"
    else:
        hint = described(trace)
    raise TypeError(f"{function} takes one Trace, not {hint}")


def rooted_steps(trace: Trace, accept: Collection[str]) -> list[tuple[Step, Node | None]]:
    """Return each step with its node in the tree of tokens. A step without tokens has None in place of a node."""
    if isinstance(accept, str) or not isinstance(accept, Collection):
        raise TypeError(f"accept must be a list of names from Step.gaps, not {described(accept)}")
    for name in accept:
        if name not in ACCEPTABLE:
            raise ValueError(f"accept may contain only {', '.join(ACCEPTABLE)}, not {name!r}")
    nodes, continued = token_tree(trace, trace.parents), set(trace.parents.values())
    found: list[tuple[Step, Node | None]] = []
    for at, turn in enumerate(turns := trace.turns):
        delivered = turn.id in continued or (turn.outcome == "answered" and turn.attended)
        superseded_by = None if delivered else _answered_after(turn, turns[at + 1 :])
        gaps = dict.fromkeys(_gaps(turn, delivered=delivered, superseded=superseded_by is not None))
        node = nodes.get(turn.id)
        unknown: list[str] = []
        if (tokens := turn.tokens) is not None:
            values = (tokens.policy_version, tokens.temperature, tokens.stop_included)
            names = ("policy_version_unknown", "temperature_unknown", "stop_unknown")
            unknown += [name for name, value in zip(names, values, strict=True) if value is None]
        if node is not None and node.ambiguous:
            unknown.append("ambiguous_parent")
        step = Step(
            turn=turn,
            parent=node.parent.turn.id if node is not None and node.parent is not None else None,
            gaps=tuple([gap for gap in gaps if gap not in accept]),
            unknown=tuple(unknown),
            delivered=delivered,
            superseded_by=superseded_by,
        )
        found.append((step, node))
    return found


def _answered_after(turn: Turn, later: Sequence[Turn]) -> str | None:
    """Return the id of the first answered turn in `later` whose call has equal messages and tools, or None."""
    asked, tools = turn.request.messages, turn.request.tools
    for each in later:
        messages = each.request.messages
        if each.outcome != "answered" or len(messages) != len(asked) or each.request.tools != tools:
            continue
        if all(a is b or message_key(a) == message_key(b) for a, b in zip(messages, asked, strict=True)):
            return each.id
    return None
