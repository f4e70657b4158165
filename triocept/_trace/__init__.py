"""Records of a rollout: its turns, the message graph over them, and the trace file.

* `turn`: the frozen record of one settled exchange, and of one call of a host service.
* `trace`: the turns of one rollout, and queries over them.
* `graph`: which turn continues which, derived from the messages.
* `conversation`: the kind of a call: of the main conversation, of a sub-agent, or a side call.
* `conversations`: the conversation of each turn, found by the messages where the agent names no conversation.
* `relations`: the named relation of a turn to earlier turns, and the tool call that started a sub-agent. `restarts`:
  a conversation that continues from a summary, or that another agent continues.
* `derived`: everything derived from the turns, and turns found by their text; computed on demand.
* `diff`: the differences between two calls. `texts`: the readable text of a message.
* `cost`: the tokens that turns used, and their price.
* `tokens`: the tokens that the engine read and sampled. `increments`: the pieces of an answer, and their times. `wire`:
  a call as sent over the wire. `raw`: raw bytes sent in place of an answer.
* `views`: views of a trace for trainers: steps, flat branches, drift.
* `directory`: one file for each rollout, its recorder, and its holder.
* `redaction`: removal of secrets before anything is recorded.
* `recorder`: receivers of turns beside the trace; `jsonl` writes the file.
* `entries`: records beside turns: the start of a rollout, its agents, the calls it took, its scores, and gaps.
* `lines`: the format of the file, and its lines, whole or damaged. `chain`: the hash chain over the lines of a rollout.
  `linefile`: whole lines, appended by several programs. `jsonl` writes the file: `runlines` the lines of one rollout,
  `numbering` its messages as numbers.
* `reader` builds traces from the lines. `proof` checks that the lines of a rollout are complete, `check` the lines of a
  file.

Imports the canonical types only: no dialect, no trio, no HTTP.
"""
