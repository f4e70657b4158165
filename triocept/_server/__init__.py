"""The endpoint's HTTP server, built on hypercorn and Quart-Trio.

* `listen`: the listening socket, which is bound once and kept open. `serve`: starts, runs and ends a whole server.
* `admission`: limits the number of connections, the time that they may stay open without a key, and the memory that
  they take. `admission` also decides which connection is read next.
* `base_connection`: the base class of a connection, independent of the protocol. The class stores received bytes, and
  the bytes still to be sent, because the client may have stopped reading.
* `connection`: a connection based on hypercorn's TCPServer. A connection serves the protocol that its client uses. If
  one connection fails, the other connections are not affected.
* `http11`: HTTP/1.1 without hypercorn, for model calls and requests without a key.
* `raw`: sends raw bytes as an answer, without the HTTP implementation.
* `http1`: hypercorn's own HTTP/1.1, for all other requests.
* `websocket_connection`: a websocket's handshake, messages and end.
* `websocket`: the Responses protocol over a websocket.
* `front`: the ASGI application. It passes model calls to `intake`, and all other requests to Quart.
* `lifespan`: the application's start and end.
* `intake`: the only function that answers model calls. It does not depend on ASGI or Quart. The module also parses the
  paths of model calls.
* `keys`: finds the key in the headers of a request, finds the rollout of this key, and redacts the headers.
* `transport`: the interface through which a connection receives and answers a model call. `tapped`: a transport that
  also records the bytes.
* `delivery`: writes an outcome as status, headers, JSON or SSE. While there is nothing to write, it writes keep-alives.
  `failure`: the status and the message that an agent receives for a failure.
* `notices`: limits the log lines that clients can cause.
* `encoding`: decodes compressed bodies. `documents`: decodes the JSON in bodies, and reads very large requests.
* `replies`: answers public routes, refuses requests without a key, and renders errors, all without Quart.
* `app`: the Quart-Trio application. It serves every other route that is not a model call. `model_views`: further routes
  of the dialects, such as the list of models. `service_views`, `mcp`: the routes of a rollout's services, such as its
  tools.
"""
