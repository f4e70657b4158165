"""What a scripted model says when it has no reply: the request, the closest rules, and why each does not match."""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.request import Request
from .source import Miss

__all__ = ["described_miss", "described_request"]

MOST_RULES = 3
"""So many are shown; the others are further away."""


def described_miss(request: Request, misses: Sequence[Miss], total: int) -> str:
    """Why there is no reply for a request."""
    asked = described_request(request)
    if all(len(miss.why) == 1 and not miss.is_rule for miss in misses):
        return f"the script has no reply left after {total}; the request was {asked}"
    closest = sorted(misses, key=lambda miss: len(miss.why))
    lines = [f"  {miss.source}: {'; '.join(miss.why)}" for miss in closest[:MOST_RULES]]
    if (others := len(closest) - MOST_RULES) > 0:
        lines.append(f"  … and {others} more")
    return "\n".join(
        ["the script has no reply for this request; what comes closest:", *lines, f"The request was {asked}"]
    )


def described_request(request: Request) -> str:
    """A request in a few lines, for a person."""
    lines = [f"{request.dialect}, model {request.model!r}, {len(request.messages)} messages; the last ones:"]
    for message in request.messages[-3:]:
        said = message.text or ", ".join(
            [f"calls {call.name}({call.arguments})" for call in message.tool_calls]
            + [f"result {result.text!r}" for result in message.tool_results]
        )
        lines.append(f"  {message.role}: {' '.join(said[:400].split())}")
    return "\n".join(lines)
