"""A random walk as a test of its own: what a fleet of agents does all day, in any order, and a full account after it.

A walk is a history of steps, which is made as data first and then played: endpoints, rollouts, calls, hang-ups, faults,
ends. So a seed is a history, and any part of a history is one, too. Everything is real (sockets, recorders, a provider)
and in one process, and time is counted in turns of the event loop, whose order is that of the seed.

* `history`: the steps. `generate`: the history of a seed.
* `world`: plays a history. `rollouts`: those of it that open and end things.
* `agents`: what a call does; `http1`, `websocket`, `wire`: in which bytes.
* `answering`: what a handler does. `provider`: the real model behind it. `services`: what a rollout serves beside.
* `recorders`: where turns go. `account`: what happened, as it was seen. `ledger`: what must hold of it.
* `shrink`: the shortest history that still fails. `__main__`: `python -m tests.walk --seed N`.
* `quiet`: a walk of its own, without sockets, for retries and replays, of which the answers are known exactly.
"""
