"""A scripted model: a handler whose replies are written in advance, as a list or as rules.

* `model`: the scripted model, which is a handler. `source`: the sources of its replies, and the error text if no source
  has a reply for a request.
* `replies`: the kinds of replies, and how each answers an exchange. `stream`: a reply that is streamed in chosen
  pieces. `template`: a text with placeholders for words of the request. `words`: reads texts from a request.
* `asked_json`: an answer with the JSON that the request demands. `instance`: a value that fits a schema; `scalars`:
  numbers and texts within its bounds.
* `file`: a script in a file. `forms`: the types of its content. `reading`, `form_reading`: its reader.
* `fixtures`: fixtures of aimock, chosen as aimock does. `fixture_forms`: the types of a fixture file's content.
  `fixture_reading`: its reader.
* `rules`: `when(…).reply(…)`. `conditions`: the conditions of a rule. `shadow`: rules that no request can reach.
"""

from .model import Item, ScriptedModel
from .replies import NotAReply, Reply
from .rules import Rule
from .shadow import ShadowedRule

__all__ = ["Item", "NotAReply", "Reply", "Rule", "ScriptedModel", "ShadowedRule"]
