"""Agents in memory, for tests with trio's mock clock.

The code of the real server handles the calls of these agents, without a socket.

* `rollout`: a rollout without an endpoint. `agent`: an agent that calls a rollout. `wire`: writes the agent's requests,
  and parses the answers that it gets. `http`: lets official SDK clients call a rollout.
* `call`: one model call, from the agent's side. `stream`: the connection between agent and server.
* `exchange`: a single exchange, for the test of a handler.
"""
