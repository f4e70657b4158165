"""The heart: rollouts, their exchanges, their agents. trio, and no HTTP.

* `outcome`: the four ways in which an exchange can end.
* `answer`: an answer on its way: one producer, many subscriptions, each from the start; and what waits for that.
* `exchange`: one caught model call, live, and an answer given piece by piece, as a program holds them.
  `exchange_state`: its state. `raw_stream`: raw bytes, piece by piece.
* `rollout`: one agent run, as a program holds it. `rollout_state`: what becomes of it. `life`: how it runs and ends.
* `options`: what it may be given.
* `children`: rollouts in rollouts. `asking`: the model calls of the program's own tools.
* `record_writer`: what a rollout writes down: its trace, and its recorder. `recorder_group`: several recorders as one.
* `handler`: what a handler is, and what is none.
* `workers`: a handler at work on a rollout's exchanges.
* `budget`: what a rollout may spend: `Limits`.
* `registry`: which key belongs to which rollout. `addresses`: where a rollout can be reached.
* `calls`: exchanges that nobody has taken yet, those that run, and those that have ended; the connections that wait;
  what an agent says of a call: whose it is, and whether it is a retry.
* `retries`: whether a call says the same as another, and which of those that run.
* `event_loop`: that it is trio's. `collecting`: who gets the rollouts that a piece of a program opens.
* `clients`: the official SDKs' clients, pointed at a rollout.
* `services`, `service_calls`, `tools`: what a rollout offers its agent beside the model. `embedding`, `moderation`,
  `functions`: what the program's own functions are asked, or what is answered without.
* `agent`: an agent at work, its process and its calls. `environment`: what tells it where its model is.

A program holds faces, everybody in here cores: their names begin with no underscore, and nobody else sees them.

Holds a dialect's name, never its code.
"""
