"""How agents in other places reach the endpoint.

* `base`: the contract, `Tunnel`, and what a URL must be.
* `program`: any program that prints where it can be reached: its start, its words, its end.
* `command`: a program of the user's (cloudflared, ngrok, bore).
* `ssh`: OpenSSH, whose other end picks the port.
* `prime`: the package `prime-tunnel`; `asyncio_thread`: the loop that it needs, in a worker thread.
* `health`: whether the URL really leads to us; what keeps a tunnel open.

Nothing here knows the server: a tunnel is told a live port, and that is all.
"""
