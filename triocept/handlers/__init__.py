"""Handlers that come with triocept: small things that answer an exchange, and compose.

* `route`: several handlers as one, by model or until one succeeds.
* `limits`: a handler that answers within a budget.
* `script`: a scripted model: the replies are written down beforehand.
* `replay`: what was recorded answers again. `replay_run`: in one live rollout. `replay_gate`: in the recorded order.
  `replay_answer`: verbatim. `replay_miss`: what it says where the record has nothing.
* `faults`: what goes wrong on the wire, as replies.
"""

from .faults import Fault
from .limits import limits
from .replay import Match, Replay, Timing, TurnName
from .route import Choice, fallback, route
from .script import Reply, ScriptedModel, read_script

__all__ = [
    "Choice",
    "Fault",
    "Match",
    "Replay",
    "Reply",
    "ScriptedModel",
    "Timing",
    "TurnName",
    "fallback",
    "limits",
    "read_script",
    "route",
]
