"""Records of rollouts: turns, the graph that links each turn to the turn it continues, and the trace file.

* `turn`: the frozen record of one settled exchange, and of one call to a host service.
* `trace`: the turns of one rollout, and queries over these turns, computed on demand. `search`: finds turns by text and
  other criteria.
* `conversation`: the conversation that a call belongs to: its name, and its kind (main, sub-agent, side call).

Three modules derive the structure of a trace from its messages. Each of these modules uses the results of the previous
one:

* `graph`: finds the turn that each turn continues, which is the turn whose messages and answer it sends again.
* `conversations`: the conversation of each turn. Most calls belong to the conversation of the turn that they continue.
  Other calls restart a conversation, from a summary or under another agent's system prompt. The module lists every rule
  by which a call joins a conversation.
* `relations`: the relation of each turn to earlier turns (`continues`, `retry`, `compaction`, `sub_agent`, …), and the
  tool call that started a sub-agent.

The other modules:

* `diff`: the differences between two calls. `texts`: the readable text of a message.
* `cost`: the tokens that turns used, and their price. `waits`: the time for which calls waited for decisions about tool
  calls.
* `tokens`: the tokens that the engine read and sampled. `increments`: the pieces of an answer, and their times. `wire`:
  the HTTP traffic of a call. `raw`: raw bytes that were sent in place of an answer.
* `views`: views of a trace for trainers: steps, flat branches, drift.
* `directory`: the recorder that writes one file for each rollout, and the lock of the process that reads a file.
* `redaction`: removal of secrets from records, before they are stored.
* `recorder`: the interfaces of recorders, which receive each turn that is added to a trace.
* `entries`: records other than turns: starts of rollouts and agents, calls passed to handlers, scores, and gaps
  (missing or changed parts of a file).
* `rollout_events`: the events that `serve_endpoint(on_event=…)` reports while rollouts run.
* `lines`: the format of the file, and the reader of its lines, whole or damaged. `chain`: the hash chain over the lines
  of a rollout. `linefile`: a file to which several programs append whole lines. `jsonl` writes the file: `runlines`
  makes the lines of one rollout, and `numbering` numbers its messages.
* `reader` builds traces from the lines. `proof` verifies that the lines of a rollout are complete; `check` verifies all
  lines of a file.

The package imports only the canonical types: no dialect, no trio, no HTTP.
"""
