"""Records of a rollout: its turns, the message graph over them, and the trace file.

* `turn`: the frozen record of one settled exchange.
* `service`: the frozen record of one call of a host service. `branch`: the start of a child rollout.
* `trace`: the turns of one rollout, and queries over them. `turns`: the list of turns.
* `graph`: which turn continues which, derived from the messages. `recent`: the message prefix that a conversation
  shares with recently sent ones.
* `conversation`: the kind of a call: of the main conversation, of a sub-agent, or a side call.
* `conversations`: the conversation of each turn, found by the messages where the agent names no conversation.
* `relation`: the named relation of a turn to earlier turns; `relations`: finds it for all turns. `compaction`: the
  summary that a conversation continues from. `handoffs`: a conversation that another agent continues. `launches`: the
  tool call that started a sub-agent.
* `derived`: everything derived from the turns, computed on demand. `search`: turns, found by their text.
* `difference`: the differences between two calls; `diff`: finds them. `texts`: the readable text of a message.
* `cost`: the tokens that turns used, and their price.
* `tokens`: the tokens that the engine read and sampled. `increments`: the pieces of an answer, and their times. `wire`:
  a call as sent over the wire. `raw`: raw bytes sent in place of an answer.
* `views`: views of a trace for trainers: steps, flat branches, drift.
* `directory`: one file for each rollout, and its holder. `directory_recorder` writes the files.
* `redaction`: removal of secrets before anything is recorded.
* `recorder`: receivers of turns beside the trace; `jsonl` writes the file.
* `entries`: records beside turns: the start of a rollout, its agents, the calls it took, its scores, and gaps.
* `lines`: the format of the file. `chain`: the hash chain over the lines of a rollout. `linefile`: whole lines,
  appended by several programs. `jsonl` writes the file: `runlines` the lines of one rollout, `numbering` its messages
  as numbers.
* `found_lines`: the lines in a file, whole or damaged. `reader` builds traces from them. `proof` checks that the lines
  of a rollout are complete, `check` the lines of a file. `ranges`: the messages of a call, decoded for both.

Imports the canonical types only: no dialect, no trio, no HTTP.
"""
