"""Agents in memory, for tests with trio's mock clock: the server's own way from a request to its answer, but no socket.

* `rollout`: one that no endpoint serves. `agent`: what asks it; `wire`: what it asks, and how it reads the answer.
  `http`: official clients that ask it.
* `call`: one call as it sees it. `transport`: between it and the server.
* `exchange`: one exchange, for a handler to be tried on.
"""
