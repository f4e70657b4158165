"""Handlers that come with triocept: each answers an exchange, and they compose.

* `route`: several handlers as one, by model or until one succeeds.
* `limits`: a handler that answers within a budget.
* `script`: a scripted model; replies and rules are written in advance.
* `faults`: failures on the wire, as replies. `chaos`: a handler that replaces some answers with faults.
"""

from .._recording.play import Timing
from .._recording.replay.handler import Match, Replay, TurnName
from .chaos import chaos
from .faults import Fault
from .limits import limits
from .route import Choice, fallback, route
from .script import Item, Reply, Rule, ScriptedModel, ShadowedRule
from .script.asked_json import AskedJSON
from .script.conditions import Conditions
from .script.file import read_embeddings, read_script
from .script.fixtures import Fixtures, ScriptWarning
from .script.rules import When, otherwise, when
from .script.stream import Stream, paced
from .script.template import Template

__all__ = [
    "AskedJSON",
    "Choice",
    "Conditions",
    "Fault",
    "Fixtures",
    "Item",
    "Match",
    "Replay",
    "Reply",
    "Rule",
    "ScriptWarning",
    "ScriptedModel",
    "ShadowedRule",
    "Stream",
    "Template",
    "Timing",
    "TurnName",
    "When",
    "chaos",
    "fallback",
    "limits",
    "otherwise",
    "paced",
    "read_embeddings",
    "read_script",
    "route",
    "when",
]
