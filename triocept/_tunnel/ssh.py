"""A tunnel through OpenSSH. The ssh server chooses the port, and the tunnel reads the port from the output of `ssh`.

Rules:

1. `ssh` never prompts: if a key needs a passphrase, or the host is unknown, `ssh` fails immediately (`BatchMode`).
2. `ssh` opens its own connection to the server (`ControlPath=none`). Without this option, a running master process of
   ssh would forward the port, even after the end of this program.
3. The loss of the server is noticed when the connection ends, or when keep-alives are not answered.
4. A tunnel that is opened again requests its previous port from the server, so that agents with the old URL can
   continue.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import final
from urllib.parse import urlsplit

from .._util.checks import check_count, check_type
from ..errors import TunnelError
from .base import Scheme, Tunnel, check_host, in_url
from .program import open_program

TIMEOUT = 30.0
"""Seconds until `ssh` must have printed the port."""
CONNECT_TIMEOUT = 10
ALIVE_INTERVAL = 5
ALIVE_COUNT = 3
"""Number of unanswered keep-alives after which ssh ends the connection. So a dead network is noticed after 15 s. (By
default, OpenSSH never notices a dead network.)"""
GRACE = 2.0
ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward")
"""Output of `ssh` for `-R 0:…` (OpenSSH since 5.2, on stderr, LogLevel INFO)."""
FORWARDED = re.compile(r"remote forward success for: listen \S*?:?(\d+), connect")
"""Output of `ssh` for a requested port. The line has the level `debug1`, so `ssh` needs `-v` if a port is requested."""

REFUSED = "remote port forwarding failed"
"""Output of `ssh` if the requested port is in use."""


@final
class SSHTunnel(Tunnel):
    """A tunnel by `ssh -R`: a port of another host leads to the endpoint.

    The tunnel needs OpenSSH's client on this machine, and its server on the other host. If `public_host` is None, the
    port is open only on the other host's loopback interface, for agents that run on that host. The calls of these
    agents, with their keys, cross the network inside the ssh connection.

    Args:
        destination: `user@host`, `host`, or a name of `~/.ssh/config`.
        port: the ssh server's port. None means the port in ssh's configuration; if the configuration has no port, 22.
        identity: the path of a private key. `ssh` then offers no other key. None means the keys of ssh's configuration.
        options: further options of `ssh`, as on its command line: `("-J", "bastion", "-o", "Compression=yes")`. If an
            option is given twice, ssh uses the first value. The tunnel's own options (BatchMode, ExitOnForwardFailure,
            …) come first, so the tunnel's own options cannot be overridden.
        public_host: the name or address under which other machines reach the other host. If given, the port is open on
            all interfaces of that host. The host's sshd must allow this (`GatewayPorts clientspecified`). Calls of
            agents to that host are then plain HTTP if the endpoint has no certificate.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        destination: str,
        *,
        port: int | None = None,
        identity: str | os.PathLike[str] | None = None,
        options: Sequence[str] = (),
        public_host: str | None = None,
    ) -> None:
        check_type("SSHTunnel: a destination", destination, str, "user@host, a str")
        if not destination or destination.startswith("-") or re.search(r"\s", destination):
            raise ValueError(f"SSHTunnel: a destination must be user@host, not {destination!r}")
        if port is not None:
            check_count("SSHTunnel: a port", port)
            if not 0 < port < 65536:
                raise ValueError(f"SSHTunnel: a port must be a number from 1 to 65535, not {port!r}")
        if isinstance(options, str):
            raise TypeError('SSHTunnel: options must be a list, such as ["-J", "bastion"], not one str')
        self.destination = destination
        self.port = port
        self.identity: str | None = None if identity is None else os.fspath(identity)
        self.options: tuple[str, ...] = tuple(options)
        self.public_host: str | None = (
            None if public_host is None else check_host(public_host, whose="SSHTunnel's public_host")
        )
        self.dialable: bool = public_host is not None

    @asynccontextmanager
    async def open(
        self, port: int, *, host: str = "127.0.0.1", scheme: Scheme = "http", previous: str | None = None
    ) -> AsyncIterator[str]:
        """Connect to the other host, forward one of its ports, and yield the URL with this port. See `Tunnel.open`."""
        target = f"{in_url(host)}:{port}"
        wanted = (urlsplit(previous).port or 0) if previous else 0
        async with AsyncExitStack() as stack:
            try:
                found = await stack.enter_async_context(self._open(wanted, target))
            except TunnelError as exc:
                if not wanted or REFUSED not in str(exc):
                    raise
                found = await stack.enter_async_context(self._open(0, target))
            name = self.public_host if self.public_host is not None else "127.0.0.1"
            yield f"{scheme}://{in_url(name)}:{found}"

    def _open(self, wanted: int, target: str) -> AbstractAsyncContextManager[str]:
        bind = "127.0.0.1" if self.public_host is None else "*"
        argv = ["ssh", "-N", "-T", "-x", "-a", *(("-v",) if wanted else ())]
        for option in (
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            f"ServerAliveInterval={ALIVE_INTERVAL}",
            f"ServerAliveCountMax={ALIVE_COUNT}",
            f"ConnectTimeout={CONNECT_TIMEOUT}",
            *("ControlMaster=no", "ControlPath=none", "ForkAfterAuthentication=no", "PermitLocalCommand=no"),
            *(() if wanted else ("LogLevel=INFO",)),
        ):
            argv += ["-o", option]
        if self.port is not None:
            argv += ["-p", str(self.port)]
        if self.identity is not None:
            argv += ["-i", self.identity, "-o", "IdentitiesOnly=yes"]
        argv += [*self.options, "-R", f"{bind}:{wanted}:{target}", "--", self.destination]

        def find(line: str) -> str | None:
            found = ALLOCATED.search(line) or FORWARDED.search(line)
            return found[1] if found and found[1] != "0" else None

        return open_program(argv, name=repr(self), find=find, timeout=TIMEOUT, grace=GRACE)

    def __repr__(self) -> str:
        return f"SSHTunnel({self.destination!r})"
