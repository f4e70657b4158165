"""Log mistakes in scripts and handlers. These mistakes raise no error."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from .._canonical.agent_calls import ITEMS
from .._canonical.content import ToolCall
from .._canonical.request import Request, offered_names
from .._trace.turn import Turn
from .._util.figures import counted
from .._util.secrets import without_keys

if TYPE_CHECKING:
    from .rollout_state import RolloutState

MOST = 10
"""Maximum number of names or replies that one log line lists."""
log = logging.getLogger("triocept.rollout")
_repr = Repr()
_repr.maxstring = 100


def warn_of_unknown_tools(rollout: RolloutState, turn: Turn, calls: Sequence[ToolCall]) -> None:
    """Log the tools in `calls` that the request of the turn does not offer. Each tool is logged once in a rollout.

    The log line is needed because most agents ignore a call of an unknown tool, and report no error.
    """
    if rollout.on_unknown_tools is None:
        return
    offered = offered_names(turn.request)
    unknown = {call.name for call in calls} - set(offered) - rollout.unknown_tools
    if unknown:
        rollout.unknown_tools |= unknown
        rollout.on_unknown_tools(
            f"rollout {rollout.id}: turn {turn.number} calls {_listed(sorted(unknown))}, which the agent's request "
            f"does not offer; the request offers {_listed(offered) if offered else 'no tools'}"
        )


class UnofferedTools:
    """Names of tools in a policy or a handler of the program that no request of the agent has offered so far.

    One log line reports these names, because they are perhaps mistyped.

    Args:
        place: the origin of the names, for the log line; for example `the policy of the gate`.
        names: names and patterns. Patterns are ignored.
    """

    def __init__(self, place: str, names: Iterable[str]) -> None:
        self._place = place
        self._left = {name for name in names if not is_pattern(name)} - ITEMS

    def check(self, request: Request, *, warns: bool) -> None:
        """Remove the names that the request offers.

        If `warns` is True, log the remaining names once, and remove them, too.
        """
        if not self._left or not request.tools:
            return
        offered = offered_names(request)
        self._left -= {*offered, *[(tool.extra or {}).get("type") for tool in request.tools]}
        if self._left and warns:
            near = get_close_matches(min(self._left), offered, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            text = "%s names tools that the agent's requests do not offer: %s%s"
            log.warning(text, self._place, _listed(sorted(self._left)), hint)
            self._left.clear()


def is_pattern(name: str) -> bool:
    return not set("*?[").isdisjoint(name)


def warn_of_unused_replies(rollout: RolloutState) -> None:
    """Log the unused replies of the rollout's script.

    If another open rollout has the same script, log nothing.
    """
    script: Any = rollout.handler
    while (inner := getattr(script, "_handler_within", None)) is not None:
        script = inner
    unused = getattr(script, "unused", None)
    if not isinstance(unused, tuple) or any(other.handler is rollout.handler for other in rollout.registry):
        return
    left = [reply for reply in unused if isinstance(reply, str)]  # a cassette has unused calls
    if left:
        shown = without_keys("; ".join(left[:MOST])) + (" …" if len(left) > MOST else "")
        what = not_used(script, len(left), " of its script")
        log.warning("rollout %s has ended, and %s: %s", rollout.id, what, shown)


def not_used(script: object, left: int, of: str = "") -> str:
    """Return a text with the number of a script's unused replies: `1 of 2 replies was not used`.

    Args:
        script: the handler. If `script` is not a `ScriptedModel`, its number of replies is unknown, and `left` is used
            in place of this number.
        left: number of the unused replies.
        of: the end of the text, which names the owner of the replies: ` of its script`, with the space.
    """
    total = getattr(script, "_total", left)
    return f"{left} of {counted(total, 'reply', 'replies')}{of} {'was' if left == 1 else 'were'} not used"


def _listed(names: list[str]) -> str:
    shown = [_repr.repr(without_keys(name)) for name in names[:MOST]]
    return ", ".join(shown) + (f", and {len(names) - MOST} more" if len(names) > MOST else "")
