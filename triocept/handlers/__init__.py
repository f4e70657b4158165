"""The handlers that come with triocept. Most of these handlers wrap another handler.

* `route`: chooses one of several handlers by the requested model, or tries handlers in order until one succeeds.
* `limits`: a handler that answers until a budget, such as a cost, is used up.
* `script`: a scripted model; replies and rules are written in advance.
* `approve`: lets a policy decide about the model's tool calls before the agent gets them; `policies`: policies that are
  read from a file, or that ask a person at the terminal or on the web page. `rewrite`: changes the requests that a
  handler gets, or its answers.
* `best_of`: lets a handler answer several times, and sends the best answer. `stop_when`: stops the rollout after an
  answer that meets a condition. `withhold`: removes tools, media or network access from requests.
* `faults`: replies that are failures of a provider or of the network. `chaos`: replaces some answers with faults.
"""

from typing import TYPE_CHECKING

from .._moved import hints_of
from .._recording.play import Timing
from .._recording.replay.handler import Match, Replay, TurnName
from .._rollout.decision import Decision, Policy, PolicyFunction
from .._rollout.gate import AfterTool, Gate, OnBypass
from .approve import approve
from .best_of import best_of
from .chaos import chaos
from .faults import Fault
from .limits import limits
from .policies import ask_page, ask_terminal, first_of, read_policy
from .rewrite import rewrite
from .route import Choice, fallback, route
from .script import Item, NotAReply, Reply, Rule, ScriptedModel, ShadowedRule
from .script.asked_json import AskedJSON
from .script.conditions import Conditions
from .script.file import read_embeddings, read_script
from .script.fixtures import Fixtures, ScriptWarning
from .script.rules import When, otherwise, when
from .script.stream import Stream, paced
from .script.template import Template
from .stop_when import stop_when
from .withhold import withhold

if not TYPE_CHECKING:
    __getattr__ = hints_of(__name__)

__all__ = [
    "AfterTool",
    "AskedJSON",
    "Choice",
    "Conditions",
    "Decision",
    "Fault",
    "Fixtures",
    "Gate",
    "Item",
    "Match",
    "NotAReply",
    "OnBypass",
    "Policy",
    "PolicyFunction",
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
    "approve",
    "ask_page",
    "ask_terminal",
    "best_of",
    "chaos",
    "fallback",
    "first_of",
    "limits",
    "otherwise",
    "paced",
    "read_embeddings",
    "read_policy",
    "read_script",
    "rewrite",
    "route",
    "stop_when",
    "when",
    "withhold",
]
