"""The listening socket of a server. The socket is bound once and stays open; the port is read from the bound socket.

Rules:

1. The port is neither probed nor bound a second time: the socket that was bound also listens, on the requested
   interface.
2. In a forked process, the socket is open, too. So the process that opened the socket shuts it down before it closes
   it. Otherwise the kernel would queue clients for a socket that no process serves.
3. A failure raises an `OSError` that names the address (or a `socket.gaierror` for the host), and leaves no socket
   open.
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import AI_PASSIVE, AddressFamily, gaierror

import trio

from .base_connection import KEYLESS_PIECE

_OTHER_PORT = "; pass another port, or port=0 for a free port"
_OTHER_HOST = "; pass an address of this machine, such as '127.0.0.1'"
BACKLOG = 2048
"""Maximum connections that wait to be accepted. With hypercorn's default of 100, bursts of connections are dropped.

The kernel reduces this number to its own limit (net.core.somaxconn)."""
BLANK_LINE = re.compile(rb"\n\r?\n")
"""The end of a request's head."""
_HUNG_UP = getattr(select, "POLLRDHUP", 0)
"""The `poll` event which shows that a connection's client has hung up; 0 if the system has no such event."""


async def open_listener(host: str, port: int) -> trio.SocketListener:
    """Open a listening socket. With port 0, the kernel chooses a free port.

    Raises:
        OSError: the address is not available. The error's text names the address.
        socket.gaierror: the host does not resolve.

    Cancellation: no socket stays open.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"a port must be a number from 0 to 65535, not {port!r}")
    if not host:
        raise ValueError("host must not be empty: use '127.0.0.1', or '0.0.0.0' for every interface")
    try:
        found = await trio.socket.getaddrinfo(
            host, port, type=trio.socket.SOCK_STREAM, family=AddressFamily.AF_UNSPEC, flags=AI_PASSIVE
        )
    except gaierror as exc:
        raise gaierror(exc.errno, f"host {host!r} cannot be found: {exc.strerror}{_OTHER_HOST}") from exc
    except UnicodeError as exc:
        raise gaierror(-2, f"host {host!r} is not a valid host name: {exc}") from exc
    family, kind, proto, _, address = found[0]
    sock = trio.socket.socket(family, kind, proto)
    try:
        if sys.platform != "win32":  # on Windows this option would let any process take the port
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both options. Keep-alive detects clients that have vanished without closing.
        sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
        if family == trio.socket.AF_INET6:
            only_v6 = host != "::"  # `::` means every interface, for IPv6 and for IPv4
            sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, only_v6)
        try:
            await sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as exc:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}{_OTHER_PORT}") from exc
        return trio.SocketListener(sock)
    except BaseException:
        sock.close()
        raise


def accept_waiting(listener: trio.SocketListener, most: int) -> Iterator[trio.SocketStream]:
    """Accept up to `most` connections that are already waiting, without a schedule point.

    If a client has disconnected before its request head was complete, its connection is closed immediately, because
    serving the connection would take ten times as long. If an error occurs after the first connection, the iteration
    ends. If the error persists, the next call of this function raises it.

    Raises:
        OSError: the first connection cannot be accepted.
    """
    its = listener.socket
    bare = socket.socket(its.family, its.type, its.proto, its.fileno())
    try:
        bare.setblocking(False)
        for number in range(most):
            try:
                accepted = bare.accept()[0]
            except BlockingIOError:  # no connection waits
                return
            except OSError:  # no file descriptor is left; this is raised even if no connection waits
                if number:
                    return
                raise
            try:
                if not _has_left(accepted):
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                else:
                    accepted.close()
                    continue
            except BaseException:
                accepted.close()
                raise
            yield stream
    finally:
        bare.detach()  # the listener alone closes the socket


def _has_left(accepted: socket.socket) -> bool:
    """Return True if the client has disconnected before its request head was complete, so that it gets no answer."""
    if not _HUNG_UP:
        return False
    poll = select.poll()
    poll.register(accepted, _HUNG_UP)
    if not poll.poll(0):
        return False
    try:
        begun = accepted.recv(KEYLESS_PIECE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:  # the client has reset the connection
        return True
    return len(begun) < KEYLESS_PIECE and BLANK_LINE.search(begun) is None


@contextmanager
def shutting_down(listener: trio.SocketListener) -> Iterator[None]:
    """Shut the listening socket down at the end of the `with` block.

    Then no process accepts further connections on the socket.
    """
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == pid:  # a forked child must not shut it down
            with suppress(OSError):  # on macOS a listening socket cannot be shut down
                listener.socket.shutdown(trio.socket.SHUT_RDWR)


def dialable_host(host: str, sock: trio.socket.SocketType) -> str:
    """Return a host name or address under which programs on this machine can connect to the socket `sock`."""
    bound = str(sock.getsockname()[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound) or host
