"""The path from the socket to the exchange and back, on hypercorn and Quart-Trio.

* `listen`: the listening socket, bound once and held. `serve`: the start, run and end of a server with all its parts.
* `admission`: the limits of connections: how many, for how long without a key, in which order, with how much memory.
* `base_connection`: the protocol-independent base of a connection: its received bytes, and its bytes still to be
  sent to a client that may have stopped reading.
* `connection`: a connection on hypercorn's TCPServer, each a fault domain; it speaks the protocol of its client.
* `http11`: HTTP/1.1 without hypercorn, for model calls and requests without a key.
* `raw`: raw bytes as an answer, written past the protocol implementation.
* `http1`: hypercorn's own HTTP/1.1, for all other requests.
* `websocket_connection`: a websocket's handshake, messages and end.
* `websocket`: the Responses protocol over a websocket.
* `front`: the ASGI application: it sends model calls to `intake`, everything else to Quart.
* `lifespan`: the application's start and end.
* `intake`: ONE function from a request to its answer, independent of ASGI and Quart. Also: the paths of model
  calls, the headers that may hold a key, and the lookup of a key's rollout.
* `transport`: the interface of a connection for a model call, whatever the protocol. `tapped`: a transport that
  records its call.
* `delivery`: the conversion of an outcome to status, headers, JSON or SSE, and the keep-alives before it.
  `failure`: the status and the message that an agent receives for a failure.
* `notices`: log lines that clients can cause.
* `encoding`, `documents`: compressed bodies; the JSON in bodies, and the requests in very large bodies.
* `replies`: public routes, refusals of requests without a key, and errors, in front of Quart.
* `app`: the Quart-Trio application: every other route that is not a model call. `model_views`: the routes that
  agents request beside model calls. `service_views`, `mcp`: the host services.
"""
