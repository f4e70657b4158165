"""A scripted model: what it says is written down beforehand, reply by reply or as rules.

* `model`: the scripted model, a handler. `source`: where it takes its replies from, and what it says
  when it has none.
* `replies`: what a script is made of, and how each kind of it is given. `stream`: an answer in chosen pieces.
  `template`: a text with words of the request in it.
  `words`: those.
* `asked_json`: an answer that is the JSON that its request asks for. `instance`: a value that fits a schema; `merging`,
  `scalars`: what that needs.
* `file`: a script in a file. `forms`: what may stand in it.
  `reading`, `form_reading`: what that is.
* `fixtures`: those of aimock, chosen as there. `fixture_match`: what they demand. `fixture_forms`: what may
  stand in them. `fixture_reading`, `fixture_answers`: what that is.
* `rules`: `when(…).reply(…)`. `conditions`: which requests a rule is for. `shadow`: rules that no request can reach.
"""

from .model import Item, ScriptedModel
from .replies import NotAReply, Reply
from .rules import Rule
from .shadow import ShadowedRule

__all__ = ["Item", "NotAReply", "Reply", "Rule", "ScriptedModel", "ShadowedRule"]
