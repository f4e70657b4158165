"""The heart: rollouts, their exchanges, their agents. trio, and no HTTP.

* `outcome`: the four ways in which an exchange can end.
* `log`: an answer on its way: one producer, many readers, each from the start.
* `exchange`: one caught model call, live.
* `stream`: an answer given piece by piece.
* `rollout`: one agent run: its key, its trace, its stream of exchanges.
* `handler`: what a handler is, and what is none.
* `service`: a handler at work on a rollout's exchanges.
* `budget`: what a rollout may spend: `Limits`.
* `registry`: which key belongs to which rollout.
* `retries`: whether a call is another one's repetition.
* `event_loop`: that it is trio's.
* `clients`: the official SDKs' clients, pointed at a rollout.
* `agent`, `process`, `watcher`, `environment`, `output`: the agent's process and its group.

Holds a dialect's name, never its code.
"""
