"""A scripted model: a handler whose replies are written in advance, as a list or as rules.

* `model`: the scripted model, which is a handler. `source`: the sources of its replies, and the error text for a
  request to which no source has a reply.
* `replies`: the kinds of replies, and the function that answers an exchange with a reply. `stream`: a reply that is
  streamed in chosen pieces. `template`: a text with placeholders for words of the request. `words`: reads texts from a
  request.
* `asked_json`: an answer with the JSON that the request demands. `instance`: generates a value that fits a JSON Schema.
  `scalars`: generates numbers and texts within the bounds of a JSON Schema.
* `file`: reads a script from a file. `forms`: the types of the mappings in such a file. `reading`, `form_reading`:
  convert the parsed file to replies and rules.
* `fixtures`: fixtures of aimock, chosen by aimock's rules. `fixture_forms`: the types of a fixture file's content.
  `fixture_reading`: the reader of fixture files.
* `rules`: `when(…).reply(…)`. `conditions`: the conditions of a rule. `shadow`: finds rules that no request can reach.
"""

from .model import Item, ScriptedModel
from .replies import NotAReply, Reply
from .rules import Rule
from .shadow import ShadowedRule

__all__ = ["Item", "NotAReply", "Reply", "Rule", "ScriptedModel", "ShadowedRule"]
