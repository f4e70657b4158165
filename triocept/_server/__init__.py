"""From the socket to the exchange and back: hypercorn, Quart-Trio, and what they need to be trusted.

* `listen`: the one socket, bound once and held. `serve`: a server with all that belongs to it: start, run, end.
* `admission`: who is let in, for how long without a key, in turns, and what may wait.
* `base_connection`: what every protocol needs of the connection that it is spoken on: its bytes, and what it
  has still to send, to a client that may have stopped reading.
* `connection`: hypercorn's TCPServer, one fault domain each; speaks what its client speaks.
* `http11`: model calls and requests without a key over HTTP/1.1, without hypercorn: HTTP/1.1's own way.
* `raw`: raw bytes as an answer, past whoever speaks HTTP/1.1.
* `http1`: hypercorn's own HTTP/1.1, for all else.
* `websocket_connection`: a websocket's handshake, messages and end.
* `websocket`: Responses, spoken over one.
* `front`: the ASGI application: model calls to `intake`, everything else to Quart.
* `lifespan`: the application's start and end.
* `intake`: ONE function from a request to its answer; knows neither ASGI nor Quart. Before it: which paths are model
  calls, in which headers a key may stand, and whose it is.
* `transport`: what a connection is to a model call, whatever it speaks. `tapped`: one whose call is kept.
* `delivery`: from an outcome to status, headers, JSON or SSE; what fills a silence until then. `failure`: what an agent
  is told of one, with which status.
* `notices`: log lines that clients can cause.
* `encoding`, `documents`: bodies that are compressed, and the JSON in bodies, and what very large ones say.
* `replies`: public routes, refusals without a key and errors, in front of Quart.
* `app`: Quart-Trio: every other route that is not a model call. `model_views`: what is asked beside it.
  `service_views`, `mcp`: the host services. `not_served`: what providers have beside models, and an endpoint has not.
"""
