"""A scripted model: what it says is written down beforehand, reply by reply or as rules.

* `model`: the scripted model, a handler. `source`: where it takes its replies from. `miss`: what it says when it has
  none.
* `replies`: what a script is made of, and how each kind of it is given. `stream`: an answer in chosen pieces.
  `template`: a text with words of the request in it.
  `words`: those.
* `file`: a script in a file.
* `rules`: `when(…).reply(…)`. `conditions`: which requests a rule is for. `shadow`: rules that no request can reach.
"""

from .conditions import Conditions
from .file import read_script
from .model import ScriptedModel
from .replies import NotAReply, Reply
from .rules import Rule, When, otherwise, when
from .shadow import ShadowedRule
from .stream import Stream, paced
from .template import Template

__all__ = [
    "Conditions",
    "NotAReply",
    "Reply",
    "Rule",
    "ScriptedModel",
    "ShadowedRule",
    "Stream",
    "Template",
    "When",
    "otherwise",
    "paced",
    "read_script",
    "when",
]
