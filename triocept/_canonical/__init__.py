"""The canonical types that all dialects share: frozen values, without trio and without I/O.

* `content`: the parts of a message (text, reasoning, media, tool calls and their results, …).
* `request`: a model call of an agent: messages, tools, sampling.
* `response`: the whole response to a request.
* `events`: the increments of a response; `assemble(events)` and `events_of(response)` convert between the two; buffers
  for halves of a surrogate pair, and for tool calls of an answer that may still fail.
* `given`: checks of the answers that a program gives; `given_request`: checks of its requests.
* `price`: the cost of tokens, by prices that the program gives.
* `tokens`: an estimate of token counts, for responses without usage.
* `vectors`: an embedding of a text, computed from its words. `verdict`: the result of a moderation of a text.
* `text_file`: the text of a text file that is sent inline.
* `form`: the rules by which two messages are equal, one for each use.
* `memory`: reuse of the parts of a request that did not change since the last call: parsed once, stored once.

Rules:

1. A field that a dialect reads, and that has no canonical counterpart, stays in `extra` under its wire name. It is
   written again only into the same dialect.
2. An unknown number is None, never 0.
3. No module here contains the name of a wire field.
4. Canonical values hold no cycles, so the garbage collector skips them (`gc=False`): ten thousand recorded turns would
   slow down each collection.
"""
