"""The state layer.

This layer contains the state of rollouts, exchanges and agents. The layer uses trio, and contains no HTTP code.

* `outcome`: the four outcomes of an exchange.
* `answer`: an answer in progress. One task produces the answer; each waiting connection reads the answer from the
  beginning.
* `exchange`: the facades (public objects) of a live model call and of a streamed answer. `exchange_state`: the state of
  an exchange. `raw_stream`: answers that are raw bytes, sent piece by piece.
* `rollout`: the facade of one agent run. `rollout_state`: its state. `life`: how a rollout runs and ends.
* `options`: the keywords of a rollout.
* `children`: rollouts that are opened within another rollout. `asking`: model calls that the program sends itself.
* `record_writer`: writes a rollout's trace and calls its recorder. `recorder_group`: a recorder that passes every
  record to several recorders. `event_sender`: calls the program's `on_event`. `increment_sender`: sends the pieces of
  an answer as events.
* `handler`: the type of a handler, and the check that an object is a handler. `draft`: the answer of an inner handler,
  which the outer handler reads before the agent gets an answer.
* `workers`: call a handler for each exchange of a rollout.
* `budget`: the `Limits` of a rollout, and the code that enforces them.
* `registry`: maps keys to rollouts. `addresses`: the URLs of a rollout.
* `calls`: the waiting, running and ended exchanges of a rollout, and the connections that wait for their answers. The
  module also reads the conversation and the retry count from an agent's headers.
* `retries`: compares a call with the running calls, to recognise retries.
* `mistakes`: log lines about mistakes in a script. Such mistakes raise no error.
* `event_loop`: checks that trio runs. `collecting`: collects the traces of all rollouts that are opened within a `with`
  block.
* `clients`: clients of the official SDKs that send their calls to a rollout.
* `services`, `service_calls`, `tools`: the services that a rollout offers its agent besides the model. `embedding`,
  `moderation`, `functions`: call the program's own functions for these services, or compute the answers.
* `gate`: answers the questions of the agent's own hooks with decisions, and detects tools that ran without a decision.
  `hooks`: the JSON formats of these hooks. `hook_checks`: refuses to start an agent whose hooks are disabled.
  `decision`: decisions about tool calls, and policies. `questions`: tool calls that wait until a person decides about
  them on the web page.
* `agent`: a running agent, its process and its calls. `environment`: the variables that make an agent call a rollout.
  `user_home`: the check of the user's own configuration of an agent.

Programs use the facades (`Rollout`, `Exchange`). The modules of this layer use the states (`RolloutState`,
`ExchangeState`), which are private although their names have no underscore.

This layer stores the names of dialects, and never imports the code of a dialect.
"""
