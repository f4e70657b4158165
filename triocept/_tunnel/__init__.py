"""Tunnels, through which agents on other machines reach the endpoint.

* `base`: the interface `Tunnel`, and the rules for URLs.
* `program`: a program that prints its URL or port: its start, output and end.
* `command`: a tunnel that runs a program of the user's (cloudflared, ngrok, bore).
* `ssh`: a tunnel with OpenSSH, whose server chooses the port.
* `prime`: a tunnel with the package `prime-tunnel`. `asyncio_thread`: the asyncio loop that the package needs.
* `health`: the check that the URL leads to this endpoint, and the supervisor that keeps a tunnel open.

These modules are independent of the server: a tunnel gets only a host, a port, a scheme and its previous URL.
"""
