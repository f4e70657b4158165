"""A recorded outcome, given again: an answer, a refusal, a stream that broke, a silence.

Rules:

1. What the agent was told is told verbatim: ids of calls, stop reason, usage (an agent decides by it when to compact
   its history). Only its directories are those of now.
2. Raw bytes are sent again as they were, where the record has them.
3. What was refused is refused, what failed fails with the same status; where the agent had hung up it is left waiting,
   for about as long as it was then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NoReturn

import msgspec
import trio

from ..._canonical.content import Reasoning, RefusalText, Text, ToolCall
from ..._canonical.form import arguments_value
from ..._canonical.response import Response, ResponsePart
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.outcome import Raw
from ..._trace.raw import RawResponse
from ..._trace.turn import Turn, TurnError
from ...errors import ContextLengthError, Refusal, UpstreamError, UpstreamTruncated
from ..play import HANG_UP, play
from ..roots import in_json

_PROVIDER = {kind.__name__: kind for kind in (UpstreamError, UpstreamTruncated, ContextLengthError)}


async def give_again(exchange: Exchange, turn: Turn, translate: Callable[[str], str], pace: float) -> None:
    """Give an exchange the outcome of a recorded turn.

    Args:
        exchange: it.
        turn: whose outcome.
        translate: puts the live directories in the place of the recorded ones.
        pace: by how much its times are multiplied.

    Raises:
        Refusal, UpstreamError: the outcome was one.
        TimeoutError: the agent had hung up on this turn, and does not now.
    """
    begun = trio.current_time()
    if turn.raw is not None and turn.raw.size == sum(len(data) for _, data in turn.raw.pieces):
        began = turn.duration if turn.first_event is None else turn.first_event
        await trio.sleep_until(begun + began * pace)
        await core_of(exchange).respond_raw(_raw_again(turn, turn.raw, pace))
        return
    response = turn.response and moved(turn.response, translate, keeps_id=turn.dialect == exchange.dialect)
    if turn.outcome == "answered":
        await play(exchange, turn, response, pace)
        return
    if response is not None and not (response.content or (turn.response and turn.response.id)):
        response = None
    await play(exchange, turn, response, pace, partial(_end_badly, turn, begun, pace))


def _raw_again(turn: Turn, raw: RawResponse, pace: float) -> Raw:
    """Raw bytes as they were, with their pauses at another pace: they are what they are, directories and all."""
    body = tuple([item if isinstance(item, bytes) else item * pace for item in raw.body])
    sent = msgspec.structs.replace(raw, body=body)
    return Raw(sent, turn.response, complete=turn.outcome == "answered")


def moved(response: Response, translate: Callable[[str], str], *, keeps_id: bool) -> Response:
    """An answer with other directories; in another dialect than it was given in, an id is made for it."""
    content = tuple([_moved_part(part, translate) for part in response.content])
    return msgspec.structs.replace(response, content=content, id=response.id if keeps_id else "")


async def _end_badly(turn: Turn, begun: float, pace: float) -> NoReturn:
    error = turn.error or TurnError(type="", message="")
    if turn.outcome == "abandoned":
        await trio.sleep_until(begun + turn.duration + HANG_UP)
        raise TimeoutError
    await trio.sleep_until(begun + turn.duration * pace)
    if (kind := _PROVIDER.get(error.type)) is not None:
        raise kind(error.message, status=error.status or 502)
    is_last = error.type == "LimitReached" or error.status == 503
    status = error.status if error.status and error.status >= 400 else 500  # that of raw bytes may be any
    raise Refusal(status, error.message, should_retry=False if is_last else None)


def _moved_part(part: ResponsePart, translate: Callable[[str], str]) -> ResponsePart:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return _with(part, "text", translate(text))
        case Reasoning(text=text) if not part.blobs:  # else its provider has signed it
            return _with(part, "text", translate(text))
        case ToolCall(arguments=arguments):
            return _with(part, "arguments", _moved_arguments(arguments, translate))
        case _:
            return part


def _with(part: ResponsePart, name: str, text: str) -> ResponsePart:
    return part if getattr(part, name) == text else msgspec.structs.replace(part, **{name: text})


def _moved_arguments(arguments: str, translate: Callable[[str], str]) -> str:
    """In the words of the record, if what was put in is JSON there."""
    before = arguments_value(arguments)
    after, replaced = in_json(before, translate), translate(arguments)
    if before == arguments or arguments_value(replaced) == after:
        return replaced
    return msgspec.json.encode(after).decode()
