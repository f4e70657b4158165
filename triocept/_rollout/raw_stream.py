"""Send an answer of raw bytes piece by piece. Each piece is sent before the next piece is produced.

Rules:

1. A piece is added to the turn's bytes before it is sent, so that the turn contains every byte that the agent received.
2. A generator is always closed when no more of its pieces are needed.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TypeAlias, TypeVar, final

import msgspec

from .._trace.raw import RawEnd, RawResponse, check_size, given_piece
from .answer import RawPiece

T = TypeVar("T")

RawBody: TypeAlias = Iterable[bytes | float] | AsyncIterable[bytes | float]


@final
class RawStream:
    """A stream on which a raw answer is sent piece by piece. Only `ExchangeState.open_raw` creates instances.

    Args:
        head: the response without its body.
        most: maximum bytes of the body.
        put: a function that sends a piece, and waits while the agent's connection accepts no more data.
        pause: a function that sleeps for a number of seconds. The function raises an error as soon as no connection
            waits for the next piece.
    """

    def __init__(
        self,
        head: RawResponse,
        most: int,
        put: Callable[[RawPiece], Awaitable[None]],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._head = head
        self._most = most
        self._put = put
        self._pause = pause
        self._body: list[bytes | float] = []
        self._size = 0
        self._number = 0

    async def begin(self) -> None:
        """Send the response head now, because the first piece of the body may come much later."""
        await self._put(RawPiece(self._head, b""))

    async def send(self, item: object) -> None:
        """If `item` is bytes, send it as the next piece of the body.

        If `item` is a number, sleep for this number of seconds.

        Raises:
            TypeError, ValueError: the item is not a piece or a pause, or the body is too large.
            ExchangeAbandoned, AlreadySettled, RolloutClosed: as `ResponseStream.send`.

        Cancellation: ends a pause immediately. A piece that was already passed to the connection is still sent.
        """
        piece = given_piece(self._number, item)
        self._number += 1
        if isinstance(piece, float):
            await self._pause(piece)
            self._body.append(piece)
            return
        if not piece:
            await self._pause(0.0)
            return
        check_size(self._size + len(piece), self._most)
        self._body.append(piece)
        self._size += len(piece)
        await self._put(RawPiece(self._head, piece))

    def sent(self, end: RawEnd | None = None) -> RawResponse:
        """Return the response with all bytes of the body that were sent so far.

        `end` is the way in which the connection has ended. If it is None, the value `end` of the response head is used.
        """
        head, body = self._head, tuple(self._body)
        return msgspec.structs.replace(head, body=body, size=self._size, end=end or head.end)


@asynccontextmanager
async def pieces_of(body: RawBody) -> AsyncIterator[AsyncIterator[bytes | float]]:
    """Yield an async iterator over the pieces of `body`. If `body` is a generator, close it at the end of the block."""
    if isinstance(body, AsyncIterable):
        given = aiter(body)
        try:
            yield given
        finally:
            if isinstance(given, AsyncGenerator):
                await given.aclose()
    else:
        with closed_after(body) as made:
            async with aclosing(_awaited(made)) as pieces:
                yield pieces


@contextmanager
def closed_after(body: Iterable[T]) -> Iterator[Iterator[T]]:
    made = iter(body)
    try:
        yield made
    finally:
        if isinstance(made, Generator):
            made.close()


async def _awaited(made: Iterator[T]) -> AsyncGenerator[T, None]:
    for item in made:
        yield item
