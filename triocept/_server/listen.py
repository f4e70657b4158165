"""The one socket: bound once, held, and asked for its port.

Rules:

1. No probe and no second bind: the socket that is bound is the socket that listens, on the very interface asked for.
2. A process that was forked off has the socket, too: it is shut down, and not only closed, by the process that opened
   it, so that nobody is let into a queue where no one serves.
3. What goes wrong is a bare `OSError` that names the address (or the `socket.gaierror` of a host that does not
   resolve), and nothing stays open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import AI_PASSIVE, AddressFamily, gaierror
from typing import Any

import trio

BACKLOG = 2048
"""The kernel cuts it to its own limit (net.core.somaxconn); hypercorn's default of 100 drops bursts."""


async def open_listener(host: str, port: int) -> trio.SocketListener:
    """Bind and listen; port 0 lets the kernel choose a free one.

    Raises:
        OSError: the address cannot be had; its text names it.
        socket.gaierror: the host does not resolve.

    Cancellation: nothing stays open.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
    if not host:
        raise ValueError("host is empty: say '127.0.0.1', or '0.0.0.0' for every interface")
    family, kind, proto, _, address = (await _resolve(host, port))[0]
    sock = trio.socket.socket(family, kind, proto)
    try:
        _prepare(sock, host)
        try:
            await sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as exc:
            raise _named(exc, host, port) from exc
        return trio.SocketListener(sock)
    except BaseException:
        sock.close()
        raise


@contextmanager
def shutting_down(listener: trio.SocketListener) -> Iterator[None]:
    """Let nobody in any more behind the block, by whatever process it is held."""
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == pid:  # a child that unwinds has nothing to end
            with suppress(OSError):  # where a socket that only listens cannot be shut down (macOS)
                listener.socket.shutdown(trio.socket.SHUT_RDWR)


def dialable_host(host: str, sock: trio.socket.SocketType) -> str:
    """A host that leads to this socket from this machine."""
    bound = str(sock.getsockname()[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound) or host


async def _resolve(host: str, port: int) -> list[Any]:
    try:
        return await trio.socket.getaddrinfo(
            host, port, type=trio.socket.SOCK_STREAM, family=AddressFamily.AF_UNSPEC, flags=AI_PASSIVE
        )
    except gaierror as exc:
        raise gaierror(exc.errno, f"host {host!r}: {exc.strerror}") from exc
    except UnicodeError as exc:
        raise gaierror(-2, f"host {host!r}: not a host name: {exc}") from exc


def _prepare(sock: trio.socket.SocketType, host: str) -> None:
    if sys.platform != "win32":  # there it means that anyone may take the port away
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
    # Both are inherited by what is accepted.
    sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)  # a client may vanish without an end
    if sock.family == trio.socket.AF_INET6:
        only_v6 = host != "::"  # `::` means every interface, as `0.0.0.0` does: of both protocols
        sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, only_v6)


def _named(exc: OSError, host: str, port: int) -> OSError:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}")
