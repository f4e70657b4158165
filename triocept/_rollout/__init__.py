"""The state layer: rollouts, their exchanges, their agents. It runs on trio, and contains no HTTP code.

* `outcome`: the four outcomes of an exchange.
* `answer`: an answer in progress: one producer, and many subscriptions that each start at the beginning.
* `exchange`: the facades of a live model call and of a streamed answer. `exchange_state`: the state of an exchange.
  `raw_stream`: raw bytes, piece by piece.
* `rollout`: the facade of one agent run. `rollout_state`: its state. `life`: how a rollout runs and ends.
* `options`: the keywords of a rollout.
* `children`: rollouts within rollouts. `asking`: model calls of the program itself, such as those of its tools.
* `record_writer`: writes a rollout's trace and calls its recorder. `recorder_group`: several recorders as one.
  `event_sender`: calls the program's `on_event`. `increment_sender`: the pieces of an answer as events.
* `handler`: the type of a handler, and a check of handlers. `draft`: a handler's answer that another handler reads.
* `workers`: run a handler on a rollout's exchanges.
* `budget`: what a rollout may spend: `Limits`.
* `registry`: maps keys to rollouts. `addresses`: the URLs of a rollout.
* `calls`: exchanges that wait, run or have ended; the waiting connections; an agent's headers for conversations and
  retries.
* `retries`: compares a call with the running calls.
* `mistakes`: log lines about mistakes in a script that raise no error.
* `event_loop`: checks that trio runs. `collecting`: collects the rollouts that a piece of a program opens.
* `clients`: clients of the official SDKs that send their calls to a rollout.
* `services`, `service_calls`, `tools`: the services that a rollout offers its agent besides the model. `embedding`,
  `moderation`, `functions`: call the program's own functions for them, or use the built-in answers.
* `gate`: decisions at the agent's own hooks, and the check of its results. `hooks`: the forms of these hooks.
  `decision`: decisions about tool calls, and policies. `questions`: tool calls that wait until a person decides about
  them on the web page.
* `agent`: a running agent, its process and its calls. `environment`: the variables that point an agent at a rollout.
  `user_home`: the check of the user's own configuration of an agent.

Programs hold facades (`Rollout`, `Exchange`); the modules here hold states (`RolloutState`, `ExchangeState`). The
names of the states have no underscore, but the states are not public.

This layer stores the names of dialects, and never imports their code.
"""
