"""Tunnels, by which agents in other places reach the endpoint.

* `base`: the contract, `Tunnel`, and the rules for a URL.
* `program`: a program that prints its URL or port: its start, its output, its end.
* `command`: a program of the user's (cloudflared, ngrok, bore).
* `ssh`: OpenSSH, whose server picks the port.
* `prime`: the package `prime-tunnel`; `asyncio_thread`: the loop that it needs, in a worker thread.
* `health`: the check that the URL leads to this endpoint, and the supervisor that keeps a tunnel open.

These modules are independent of the server: a tunnel receives a live port, and nothing else.
"""
