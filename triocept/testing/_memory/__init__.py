"""Agents in memory, for tests with trio's mock clock. The server's code handles their calls, without a socket.

* `rollout`: a rollout without an endpoint. `agent`: an agent that calls the rollout. `wire`: writes the agent's
  requests and reads its answers. `http`: official clients that call the rollout.
* `call`: one call from the agent's side. `stream`: the connection between agent and server.
* `exchange`: a single exchange, for the test of a handler.
"""
