"""A connection that breaks: before the head of an answer, or in the middle of it."""

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
    """A connection that breaks."""

    __slots__ = ()

    @classmethod
    def close(cls) -> Self:
        """The connection is closed before the head."""
        return cls("close", {}, _ending("close", None, response_of(DEFAULT)))

    @classmethod
    def reset(cls, after: int | None = None, answer: Answerable = DEFAULT) -> Self:
        """The connection is reset (RST).

        Args:
            after: None: before the head. Else in the middle of the answer: behind so many pieces of a streamed one (a
                piece is a word of its text), behind half of a whole one.
            answer: what is cut.

        Raises:
            TypeError, ValueError: an argument is not what it should be; or the answer has not so many pieces.
        """
        return cls("reset", {"after": after, "answer": answer}, _ending("reset", after, response_of(answer)))

    @classmethod
    def cut(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """The connection is closed in the middle of the answer: a stream breaks off in its chunked coding, a whole
        answer is shorter than its head has said. Arguments and errors as of `reset`."""
        return cls("cut", {"after": after, "answer": answer}, _ending("close", after, response_of(answer)))

    @classmethod
    def stall(cls, after: int | None = None, answer: Answerable = DEFAULT) -> Self:
        """Nothing comes, and the connection stays open, until the agent hangs up or the endpoint ends. Arguments and
        errors as of `reset`."""
        return cls("stall", {"after": after, "answer": answer}, _ending("stall", after, response_of(answer)))

    @classmethod
    def stalled_head(cls) -> Self:
        """Half of a head comes, and nothing more."""

        async def stall(exchange: Exchange) -> None:
            await exchange.respond_raw(None, {}, b"HTTP/1.1 200 OK\r\ncontent-ty", end="stall")

        return cls("stalled_head", {}, stall)

    @classmethod
    def noise(cls, size: int = 64, *, seed: int = 0) -> Self:
        """So many bytes that are no HTTP, then the connection is closed: the same ones for the same seed."""
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
