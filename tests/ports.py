"""Ports for tests that cannot let the kernel choose one."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager


def free_port(host: str = "127.0.0.1") -> int:
    """Return a free port below those that the kernel gives away by itself (32768 and up on Linux)."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@contextmanager
def refusing_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port where connections are refused: it is held, so that nobody else listens there, and does not listen."""
    with socket.socket() as holder:
        holder.bind((host, 0))
        yield holder.getsockname()[1]
