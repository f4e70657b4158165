"""What is kept of a rollout: its turns, the message graph over them, and the file.

* `turn`: the frozen record of one settled exchange.
* `service`: the frozen record of one call of a host service. `branch`: where a child rollout begins.
* `trace`: the turns of one rollout, and the questions one asks of them. `turns`: the list of them.
* `graph`: which turn continues which, derived from the messages. `recent`: what a conversation has in
  common with those told last.
* `conversation`: whose call it is: the main conversation's, a sub-agent's, a side call.
* `conversations`: the same for all turns, by the messages where the agent says nothing.
* `relation`: how a turn stands to those before it, by name; `relations`: found for all turns. `compaction`: whose
  summary a conversation goes on from. `launches`: which tool call started a sub-agent.
* `derived`: all that follows from the turns, found when somebody asks. `search`: turns, found by what was said there.
* `difference`: what is different in one call from another; `diff`: found. `texts`: what a person reads of a message.
* `cost`: what turns have used, and what that cost.
* `tokens`: what the engine read and sampled. `increments`: in which pieces an answer came, and when. `wire`: a call as
  it went over the wire. `raw`: raw bytes that were sent in the place of an answer.
* `views`: what a trainer needs of a trace: steps, flat branches, drift.
* `directory`: a file for each rollout, and who has it. `directory_recorder` writes them.
* `redaction`: what is taken out before anything is recorded.
* `recorder`: what may be given the turns beside the trace; `jsonl` is the one that writes the file.
* `entries`: what is recorded beside turns: how a rollout began, its agents, the calls it took, its scores, and gaps.
* `lines`: the file's form. `chain`: what holds the lines of a rollout together. `linefile`: whole lines, appended by
  several programs. `jsonl` writes it: `runlines` the lines of one rollout, `numbering` its messages as numbers.
* `found_lines`: the lines in a file, whole or damaged. `reader` makes traces of them, `proof` sees whether those of a
  rollout are all there, `check` those of a file. `ranges`: what the two make of the messages of a call.

Knows the canonical nouns only: no dialect, no trio, no HTTP.
"""
