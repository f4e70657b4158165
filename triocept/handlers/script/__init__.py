"""A scripted model: a handler whose replies are written in advance, as a list or as rules.

* `model`: the scripted model, a handler. `source`: the sources of its replies, and the error text if no source has a
  reply.
* `replies`: the kinds of replies, and how each answers an exchange. `stream`: an answer in chosen pieces.
  `template`: a text with words of the request in it. `words`: reads texts from a request.
* `asked_json`: an answer with the JSON that the request demands. `instance`: a value that fits a schema; `scalars`:
  numbers and texts within its bounds.
* `file`: a script in a file. `forms`: the types of its content. `reading`, `form_reading`: how it is read.
* `fixtures`: fixtures of aimock, chosen as aimock does. `fixture_forms`: the types of a fixture file's content.
  `fixture_reading`: how it is read.
* `rules`: `when(…).reply(…)`. `conditions`: the conditions of a rule. `shadow`: rules that no request can reach.
"""

from .model import Item, ScriptedModel
from .replies import NotAReply, Reply
from .rules import Rule
from .shadow import ShadowedRule

__all__ = ["Item", "NotAReply", "Reply", "Rule", "ScriptedModel", "ShadowedRule"]
