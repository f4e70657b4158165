"""Tunnels through which agents on other machines reach the endpoint.

* `base`: the interface `Tunnel`, and the rules for URLs.
* `program`: starts a program that prints its URL or port, reads the program's output, and ends the program.
* `command`: a tunnel that runs a program of the user, such as cloudflared, ngrok or bore.
* `ssh`: a tunnel with OpenSSH, whose server chooses the port.
* `prime`: a tunnel with the package `prime-tunnel`. `asyncio_thread`: the asyncio loop that the package needs.
* `health`: the check that the URL leads to this endpoint, and the supervisor that keeps a tunnel open.

These modules do not depend on the server: a tunnel gets only the endpoint's host, port and scheme, and the previous
URL.
"""
