"""Raw bytes as an answer, piece by piece: each goes out before the next one is asked for.

Rules:

1. A piece is kept before it is put: what an agent may have seen is in the turn.
2. A generator is closed when nobody asks it for more, whatever the reason.
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
    """Where the pieces go. Made by `ExchangeState.open_raw` only.

    Args:
        head: the answer without its body.
        most: bytes that it may have.
        put: sends a piece, and waits while the agent's connection takes no more.
        pause: lets so many seconds pass, and ends early where nobody waits for the next piece any more.
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
        """Send the head: who knows when the first piece comes."""
        await self._put(RawPiece(self._head, b""))

    async def send(self, item: object) -> None:
        """Send a piece, or let a pause pass.

        Raises:
            TypeError, ValueError: it is neither, or there is too much of it.
            ExchangeAbandoned, AlreadySettled, RolloutClosed: as `ResponseStream.send`.

        Cancellation: of a pause at once; a piece that was put is sent.
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
        """What was sent, and how it ended; None: as it was to."""
        return msgspec.structs.replace(
            self._head, body=tuple(self._body), size=self._size, end=end or self._head.end
        )


@asynccontextmanager
async def pieces_of(body: RawBody) -> AsyncIterator[AsyncIterator[bytes | float]]:
    """The pieces, one by one."""
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
    """Its iterator, for a block; a generator is closed with that."""
    made = iter(body)
    try:
        yield made
    finally:
        if isinstance(made, Generator):
            made.close()


async def _awaited(made: Iterator[T]) -> AsyncGenerator[T, None]:
    for item in made:
        yield item
