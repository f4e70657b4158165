"""The recorded outcome of a turn, given again with the live directories.

Calls keep their recorded ids. Raw bytes are sent again unchanged, if the record has them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from ..._canonical.content import Reasoning, RefusalText, Text, ToolCall
from ..._canonical.form import arguments_value
from ..._canonical.response import Response, ResponsePart
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.outcome import Raw
from ..._trace.raw import RawResponse
from ..._trace.turn import Turn, TurnError
from ..answer import Answer, Failure, FailureKind
from ..play import give
from ..roots import in_json

_PROVIDER: dict[str, FailureKind] = {
    "UpstreamError": "upstream",
    "UpstreamTruncated": "truncated",
    "ContextLengthError": "context_length",
}


async def give_again(exchange: Exchange, turn: Turn, translate: Callable[[str], str], pace: float) -> None:
    """Give an exchange the outcome of a recorded turn.

    Args:
        exchange: the exchange.
        turn: the recorded turn.
        translate: replaces recorded directories in a text by the live directories.
        pace: factor for its times.

    Raises:
        Refusal, UpstreamError: the recorded outcome.
        StillThere: the recorded agent disconnected, and this agent does not.
    """
    if turn.raw is not None and turn.raw.size == sum(len(data) for _, data in turn.raw.pieces):
        began = turn.duration if turn.first_event is None else turn.first_event
        await trio.sleep(began * pace)
        await core_of(exchange).respond_raw(_raw_again(turn, turn.raw, pace))
    else:
        await give(exchange, _answer(turn, translate, keeps_id=turn.dialect == exchange.dialect), pace)


def _answer(turn: Turn, translate: Callable[[str], str], *, keeps_id: bool) -> Answer:
    response, hung_up = turn.response, turn.outcome == "abandoned"
    breaks = turn.outcome != "answered"
    if breaks and response is not None and not (response.content or response.id):
        response = None
    return Answer(
        response=response and moved(response, translate, keeps_id=keeps_id),
        failure=_failure(turn.error or TurnError(type="", message="")) if breaks and not hung_up else None,
        hung_up=hung_up,
        increments=turn.increments,
        first_event=turn.first_event,
        duration=turn.duration,
    )


def _failure(error: TurnError) -> Failure:
    if (kind := _PROVIDER.get(error.type)) is not None:
        return Failure(kind=kind, status=error.status or 502, message=error.message)
    is_last = error.type == "LimitReached" or error.status == 503
    status = error.status if error.status and error.status >= 400 else 500  # raw bytes may have any status
    return Failure(
        kind="refusal", status=status, message=error.message, should_retry=False if is_last else None
    )


def _raw_again(turn: Turn, raw: RawResponse, pace: float) -> Raw:
    """Return raw bytes unchanged, with their pauses at another pace: directories are not translated in them."""
    body = tuple([item if isinstance(item, bytes) else item * pace for item in raw.body])
    sent = msgspec.structs.replace(raw, body=body)
    return Raw(sent, turn.response, complete=turn.outcome == "answered")


def moved(response: Response, translate: Callable[[str], str], *, keeps_id: bool) -> Response:
    """Return an answer with other directories; in a dialect other than the recorded one it gets a new id."""
    content = tuple([_moved_part(part, translate) for part in response.content])
    return msgspec.structs.replace(response, content=content, id=response.id if keeps_id else "")


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
    """Return the recorded text with replaced directories, escaped if the text is JSON."""
    before = arguments_value(arguments)
    after, replaced = in_json(before, translate), translate(arguments)
    if before == arguments or arguments_value(replaced) == after:
        return replaced
    return msgspec.json.encode(after).decode()
