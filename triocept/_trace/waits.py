"""Compute how long a model call waited for decisions about the tool calls in its answer."""

from __future__ import annotations

from .._canonical.agent_calls import calls_in
from .turn import Turn


def waited(turn: Turn) -> float:
    """Return the seconds for which a turn waited for decisions of policies or people.

    The decisions about the calls of one answer are made concurrently, so only the longest of them is counted. Decisions
    about calls of earlier turns (`open_rollout(gate=…)`) were made before the turn, and are not counted.
    """
    if not turn.decisions:
        return 0.0
    left, seconds = [*turn.decisions], 0.0
    for response in (*(draft.response for draft in turn.drafts), turn.response):
        longest = 0.0
        for call in calls_in(response.content) if response is not None else ():
            decided = next((each for each in left if each.call == call.id), None)
            if decided is not None:  # a model may use an id again in its next answer
                left.remove(decided)
                longest = max(longest, decided.seconds)
        seconds += longest
    return min(seconds, turn.duration)
