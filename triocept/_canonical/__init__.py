"""The canonical types that all dialects share: frozen values, without trio and without I/O.

* `content`: the parts of a message (text, reasoning, media, tool calls and their results, …).
* `request`: a model call that an agent sends: messages, tools, sampling.
* `response`: the whole response to a request.
* `events`: the increments of a response. `assemble(events)` and `events_of(response)` convert between increments and
  response. Two buffers delay events: one keeps the first half of a surrogate pair until the second half arrives, and
  the other keeps the tool calls of an answer until the answer is complete.
* `agent_calls`: finds the calls that the agent runs, including the kinds of calls that only the Responses dialect has.
* `given`: checks of the answers that a program passes; `given_request`: checks of the requests that a program passes.
* `price`: the cost of tokens, at prices that the program passes.
* `tokens`: an estimate of token counts, for responses without usage.
* `vectors`: the embedding of a text, computed from its words. `verdict`: the result of the moderation of a text.
* `text_file`: reads the text of a text file that is sent inline.
* `form`: the rules by which two messages count as equal, one rule for each use.
* `frozen`: makes read-only copies of the JSON in a request. The requests of several calls share these copies.
* `memory`: reuses the parts of a request that did not change since the last call, so that these parts are neither
  parsed nor stored again. `resent`: decodes only the new part of a body that repeats an earlier body.

Rules:

1. If a field of a dialect has no canonical counterpart, the field stays in `extra` under its name in the dialect. Only
   the same dialect writes the field again.
2. An unknown number is None, never 0.
3. No module here contains the name of a wire field, except `agent_calls`.
4. Canonical values contain no reference cycles, so the garbage collector need not traverse these values (`gc=False`).
   Otherwise, ten thousand recorded turns would slow down each collection.
"""
