"""From the socket to the exchange and back: hypercorn, Quart-Trio, and what they need to be trusted.

* `listen`: the one socket, bound once and held.
* `serve`: start, run, end.
* `connection`: hypercorn's TCPServer, one fault domain each.
* `websocket_connection`: a websocket's handshake, messages and end.
* `websocket`: Responses, spoken over one.
* `slow_reader`: sending to a client that may have stopped reading.
* `front`: the ASGI application: model calls to `intake`, everything else to Quart.
* `intake`: ONE function from a request to its answer; knows neither ASGI nor Quart.
* `answer`: from an outcome to status, headers, JSON or SSE.
* `routes`: which path is whose.
* `app`: Quart-Trio: every route that is not a model call.
"""
