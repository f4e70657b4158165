"""The nouns in which all dialects meet: frozen values, no trio, no I/O.

* `content`: the parts of a message (text, reasoning, media, tool calls and their results, …).
* `request`: what an agent asks: messages, tools, sampling.
* `response`: what it is answered, whole.
* `events`: the increments of a response; from the one to the other: `assemble(events)` and `events_of(response)`; and
  what of them waits: half a letter, and tool calls of an answer that may still fail.
* `given`: what a program gives, checked where it comes in; `given_request`: what it asks.
* `price`: what tokens cost, as the program says.
* `tokens`: an honest guess of token counts, where nobody counted.
* `vectors`: an embedding of a text, made of its words. `verdict`: what a moderation says of one.
* `text_file`: the text of a text file that is sent inline.
* `form`: when two messages are the same, with a rule for each use.
* `memory`: what stands where it stood in the last call: it is not read again, and it is kept once.

Rules:

1. What a dialect reads but has no field for stays in `extra`, under the wire's own names, and is written again
   only into the same dialect.
2. An unknown number is None, never 0.
3. Nothing here knows the name of a wire field.
4. Nouns hold no cycles, so the garbage collector need not look at them (`gc=False`): ten thousand recorded turns
   would make each of its rounds longer.
"""
