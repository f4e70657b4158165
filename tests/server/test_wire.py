"""The bytes of a connection are read by that connection alone, whatever number the kernel gives to the next one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from triocept._util.bare_socket import BareSocket

ROUNDS = 60


@contextmanager
def successor(closing: trio.socket.SocketType) -> Iterator[socket.socket]:
    """A connection that comes the moment another is closed, gets its number, and has something to read."""
    number = closing.fileno()
    closing.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert number in (ours.fileno(), theirs.fileno()), "the kernel gives the lowest number that is free"
        reader, writer = (ours, theirs) if ours.fileno() == number else (theirs, ours)
        writer.send(b"the words of somebody else")
        reader.setblocking(False)
        yield reader


async def test_a_closed_connection_reads_nothing_of_the_one_that_has_its_number_now() -> None:
    ours, theirs = trio.socket.socketpair()
    bare = BareSocket(ours)
    with theirs, successor(ours) as innocent:
        with pytest.raises(trio.ClosedResourceError):
            bare.take(100)
        with pytest.raises(trio.ClosedResourceError):
            await bare.receive(100)
        assert innocent.recv(100) == b"the words of somebody else"


async def test_a_reader_that_was_woken_before_its_connection_was_closed_reads_nothing_of_the_next() -> None:
    for _ in range(
        ROUNDS
    ):  # in half of them the reader's turn comes first, and it reads what was meant for it
        ours, theirs = trio.socket.socketpair()
        got: list[bytes] = []

        async def read(bare: BareSocket, got: list[bytes] = got) -> None:
            try:
                got.append(await bare.receive(100))
            except trio.ClosedResourceError:
                got.append(b"")

        with theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, BareSocket(ours))
                await trio.testing.wait_all_tasks_blocked()
                await theirs.send(b"x")  # a schedule point: whose turn comes first behind it is by chance
                with successor(ours) as innocent:
                    await trio.testing.wait_all_tasks_blocked()
                    assert innocent.recv(100) == b"the words of somebody else"
        assert got in ([b"x"], [b""])
