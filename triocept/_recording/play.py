"""Play a recorded answer back: whole, in its pieces, or to where it broke."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from .._canonical.events import PartEnd
from .._canonical.response import Response
from .._rollout.exchange import Exchange
from .pieces import Piece, Timed, pieces_of

HANG_UP = 10.0
"""Seconds that an agent may wait longer than it did for an answer that it hung up on."""


async def play(
    exchange: Exchange,
    told: Timed,
    response: Response | None,
    pace: float,
    end_badly: Callable[[], Awaitable[NoReturn]] | None = None,
) -> None:
    """Give an exchange an answer in its recorded pieces, or whole where it was.

    Args:
        exchange: it.
        told: when what of it came.
        response: the answer, or what there is of one that broke; None: nothing.
        pace: by how much its times are multiplied; 0: everything at once.
        end_badly: raises what it broke with, at its time; None: it did not.
    """
    begun = trio.current_time()
    if end_badly is not None and response is None:
        await end_badly()
    elif response is None or (
        end_badly is None and told.increments is None and (told.first_event is None or not pace)
    ):
        await trio.sleep_until(begun + told.duration * pace)
        await exchange.respond(response or "")
    else:
        pieces = list(pieces_of(told, response))
        async with exchange.open_stream() as stream:
            for piece in pieces if end_badly is None else _broken_off(pieces):
                await trio.sleep_until(begun + piece.at * pace)
                await stream.send(piece.event)
            if end_badly is not None:
                await end_badly()


def _broken_off(pieces: list[Piece]) -> list[Piece]:
    """Without the end: of the answer, and of its last part, which an agent that reads a call would begin to run."""
    del pieces[-1:]
    if pieces and isinstance(pieces[-1].event, PartEnd):
        del pieces[-1:]
    return pieces
