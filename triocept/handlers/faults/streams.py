"""Streams that end, or go on, as no stream of their dialect does."""

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
    """Streams that are none."""

    __slots__ = ()

    @classmethod
    def unended(
        cls, after: int = 2, answer: Answerable = DEFAULT, *, framing: Literal["close", "chunked"] = "close"
    ) -> Self:
        """A stream that stops in the middle as if it were whole: nothing on the wire says that something is missing but
        the dialect itself. To a call that wants the whole, half of its document.

        Args:
            after: pieces of the answer that come before.
            answer: what is cut.
            framing: how HTTP says that it is whole: `close` by closing the connection (without a length or chunks), or
                `chunked` by the last chunk (of a whole answer, by its length).

        Raises:
            TypeError, ValueError: an argument is not what it should be; or the answer has not so many pieces.
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
        """An answer that does not say why it has ended: its finish (or stop) reason is null. In Responses, which has
        none, the status is `in_progress`."""
        given = response_of(answer)

        async def leave_out(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            await telling.send(list(map(_without_reason, telling.body())), said=telling.response)

        return cls("no_finish", {"answer": answer}, leave_out)

    @classmethod
    def no_done(cls, answer: Answerable = DEFAULT) -> Self:
        """A stream without its last frame: `[DONE]`, `message_stop`, `response.completed`, or the one that says why it
        has ended. A call that wants the whole is answered."""
        return cls("no_done", {"answer": answer}, _streaming(answer, lambda frames: frames[:-1]))

    @classmethod
    def no_start(cls, answer: Answerable = DEFAULT) -> Self:
        """A stream whose parts go on, but never began: without the frames that begin an item or a block, or, in a
        dialect that has none, without its first frame. A call that wants the whole is answered."""

        def leave_out(frames: list[bytes]) -> list[bytes]:
            left = [frame for frame in frames if not _STARTS.search(frame)]
            return left if len(left) < len(frames) else frames[1:]

        return cls("no_start", {"answer": answer}, _streaming(answer, leave_out))

    @classmethod
    def garbage(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """A frame of a stream that is no JSON, behind so many pieces of the answer; then it goes on. To a call that
        wants the whole, a body that is no JSON. Errors as of `cut`."""
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
        """200, and then the dialect's own error within the stream, which ends as HTTP has it. To a call that wants the
        whole, the error's document.

        Args:
            after: pieces of the answer that come before; 0: nothing does.
            answer: what is cut.
            message: what the agent reads.
            status: what the error is one of.

        Raises:
            TypeError, ValueError: an argument is not what it should be; or the answer has not so many pieces.
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
    """Gives a stream whose frames are changed; a call that wants the whole is answered."""
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
    """A frame with garbage in the place of its document; its event has its name."""
    before, found, _ = frame.partition(b"data: ")
    if found:
        return before + found + GARBAGE + b"\n\n"
    return GARBAGE + b"\n" if telling.request.framing != "json_array" else GARBAGE
