"""Connections that break: before the head of an answer, or in the middle of it."""

from __future__ import annotations

from random import Random
from typing import Self

from ..._canonical.response import Response
from ..._rollout.exchange import Answerable, Exchange
from ..._trace.raw import RawEnd
from ..._util.checks import check_count
from .base import Act, BaseFault
from .told import DEFAULT, Telling, check_after, response_of


class BrokenConnections(BaseFault):
    """Connections that break."""

    __slots__ = ()

    @classmethod
    def close(cls) -> Self:
        """Close the connection before the head."""
        return cls("close", {}, _ending("close", None, response_of(DEFAULT)))

    @classmethod
    def reset(cls, after: int | None = None, answer: Answerable = DEFAULT) -> Self:
        """Reset the connection (RST).

        Args:
            after: None: before the head. Else in the middle of the answer: after this many pieces of a stream (a piece
                is a word of its text), or after half of a document.
            answer: the answer that is cut.

        Raises:
            TypeError, ValueError: an argument is invalid, or the answer has fewer pieces.
        """
        return cls("reset", {"after": after, "answer": answer}, _ending("reset", after, response_of(answer)))

    @classmethod
    def cut(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Close the connection in the middle of the answer.

        A stream breaks off in its chunked coding; a document is shorter than its head declares. Arguments and errors as
        in `reset`.
        """
        return cls("cut", {"after": after, "answer": answer}, _ending("close", after, response_of(answer)))

    @classmethod
    def stall(cls, after: int | None = None, answer: Answerable = DEFAULT) -> Self:
        """Send nothing more and keep the connection open, until the agent disconnects or the endpoint ends.

        Arguments and errors as in `reset`.
        """
        return cls("stall", {"after": after, "answer": answer}, _ending("stall", after, response_of(answer)))

    @classmethod
    def stalled_head(cls) -> Self:
        """Send half of a head, and nothing more."""

        async def stall(exchange: Exchange) -> None:
            await exchange.respond_raw(None, {}, b"HTTP/1.1 200 OK\r\ncontent-ty", end="stall")

        return cls("stalled_head", {}, stall)

    @classmethod
    def noise(cls, size: int = 64, *, seed: int = 0) -> Self:
        """Send `size` bytes that are not HTTP, then close the connection; a seed always gives the same bytes."""
        check_count("size", size, least=1)
        check_count("seed", seed)
        data = Random(seed).randbytes(size)

        async def make_noise(exchange: Exchange) -> None:
            await exchange.respond_raw(None, {}, data, end="close")

        return cls("noise", {"size": size, "seed": seed}, make_noise)


def _ending(end: RawEnd, after: int | None, answer: Response) -> Act:
    if after is not None:
        check_after(after, answer)

    async def break_off(exchange: Exchange) -> None:
        if after is None:
            await exchange.respond_raw(None, {}, b"", end=end)
            return
        telling = Telling(exchange, answer)
        if telling.streamed:
            begun = telling.begin(after)
            await telling.send(begun.body, {"transfer-encoding": "chunked"}, end=end, said=begun.said)
        else:
            length = str(len(telling.document()))
            await telling.send(telling.half(), {"content-length": length}, end=end)

    return break_off
