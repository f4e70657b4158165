"""Streams that end, or continue, in a way that their dialect forbids."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, Self

from ..._rollout.exchange import Answerable, Exchange
from ..._util.checks import check_choice
from ...dialects import Failure
from ...dialects.kit import encode_json
from .base import Act, BaseFault
from .bodies import check_failure
from .told import DEFAULT, Telling, check_after, response_of

_REASON = re.compile(rb'"(finish_reason|finishReason|stop_reason|done_reason)":"[^"]*"')
_STARTS = re.compile(
    rb'"type":"(?:content_block_start|response\.output_item\.added|response\.content_part\.added)"'
)
GARBAGE = b'{"garbage'


class BrokenStreams(BaseFault):
    """Broken streams."""

    __slots__ = ()

    @classmethod
    def unended(
        cls, after: int = 2, answer: Answerable = DEFAULT, *, framing: Literal["close", "chunked"] = "close"
    ) -> Self:
        """Return a stream that stops in the middle as if complete: only the dialect shows that something is missing.

        A call without streaming gets half of its document.

        Args:
            after: pieces of the answer to send first.
            answer: the answer that is cut.
            framing: how HTTP marks the end: `close` by closing the connection (no length, no chunks), or `chunked` by
                the last chunk (for a document, by its length).

        Raises:
            TypeError, ValueError: an argument is invalid, or the answer has fewer pieces.
        """
        check_choice("framing", framing, Literal["close", "chunked"])
        given = response_of(answer)
        check_after(after, given)

        async def stop(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            end: Literal["close", "whole"] = "close" if framing == "close" else "whole"
            if telling.streamed:
                begun = telling.begin(after)
                await telling.send(begun.body, end=end, said=begun.said)
            else:
                await telling.send(telling.half(), end=end)

        return cls("unended", {"after": after, "framing": framing, "answer": answer}, stop)

    @classmethod
    def no_finish(cls, answer: Answerable = DEFAULT) -> Self:
        """Return an answer whose finish (or stop) reason is null.

        In Responses, which has no such reason, the status is `in_progress`.
        """
        given = response_of(answer)

        async def leave_out(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            await telling.send(list(map(_without_reason, telling.body())), said=telling.response)

        return cls("no_finish", {"answer": answer}, leave_out)

    @classmethod
    def no_done(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a stream without its last frame.

        The frame is `[DONE]`, `message_stop`, `response.completed`, or the frame with the finish reason. A call without
        streaming gets the plain answer.
        """
        return cls("no_done", {"answer": answer}, _streaming(answer, lambda frames: frames[:-1]))

    @classmethod
    def no_start(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a stream whose parts continue but never began.

        It lacks the frames that begin an item or a block, or, in a dialect without such frames, its first frame. A call
        without streaming gets the plain answer.
        """

        def leave_out(frames: list[bytes]) -> list[bytes]:
            left = [frame for frame in frames if not _STARTS.search(frame)]
            return left if len(left) < len(frames) else frames[1:]

        return cls("no_start", {"answer": answer}, _streaming(answer, leave_out))

    @classmethod
    def garbage(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Return a stream with one frame that is not JSON, after this many pieces; then the stream continues.

        A call without streaming gets a body that is not JSON. Errors as in `cut`.
        """
        given = response_of(answer)
        check_after(after, given)

        async def spoil(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            if not telling.streamed:
                await telling.send(GARBAGE)
                return
            begun = telling.begin(after)
            rest = b"".join(telling.whole_stream())[len(b"".join(begun.body)) :]
            body = [*begun.body, _spoilt(telling, next(telling.frames(rest))), rest]
            await telling.send(body, said=begun.said)

        return cls("garbage", {"after": after, "answer": answer}, spoil)

    @classmethod
    def error_event(
        cls,
        after: int = 0,
        answer: Answerable = DEFAULT,
        *,
        message: str = "the server is overloaded",
        status: int = 529,
    ) -> Self:
        """Return 200, then the dialect's own error within the stream, which HTTP marks as complete.

        A call without streaming gets the error's document.

        Args:
            after: pieces of the answer to send first; 0: none.
            answer: the answer that is cut.
            message: the error text for the agent.
            status: the status that the error has in the dialect.

        Raises:
            TypeError, ValueError: an argument is invalid, or the answer has fewer pieces.
        """
        check_failure(status, message)
        given = response_of(answer)
        check_after(after, given)
        failure = Failure(status=status, message=message)

        async def fail(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            if telling.streamed:
                begun = telling.begin(after)
                before = begun.body if after else ()
                renderer = begun.renderer if after else telling.dialect.stream_renderer(telling.request)
                await telling.send([*before, renderer.fail(failure)], said=begun.said)
            else:
                await telling.send(encode_json(telling.dialect.render_error(failure)))

        arguments = {"after": after, "message": message, "status": status, "answer": answer}
        return cls("error_event", arguments, fail)


def _streaming(answer: Answerable, change: Callable[[list[bytes]], list[bytes]]) -> Act:
    """Return an act that sends a stream with changed frames; a call without streaming gets the plain answer."""
    given = response_of(answer)

    async def give(exchange: Exchange) -> None:
        telling = Telling(exchange, given)
        if telling.streamed:
            await telling.send(change(telling.whole_stream()), said=telling.response)
        else:
            await exchange.respond(given)

    return give


def _without_reason(data: bytes) -> bytes:
    found = _REASON.sub(rb'"\1":null', data)
    return found if found != data else data.replace(b'"status":"completed"', b'"status":"in_progress"')


def _spoilt(telling: Telling, frame: bytes) -> bytes:
    """Return a frame with garbage instead of its document; the event keeps its name."""
    before, found, _ = frame.partition(b"data: ")
    if found:
        return before + found + GARBAGE + b"\n\n"
    return GARBAGE + b"\n" if telling.request.framing != "json_array" else GARBAGE
