"""Connections that break before or in the middle of an answer, and streams that their dialect forbids."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Literal, Self

from ..._canonical.response import Response
from ..._rollout.exchange import Answerable, Exchange
from ..._trace.raw import RawEnd
from ..._util.checks import check_choice, check_count
from ...dialects import Failure
from ...dialects.kit import encode_json
from .base import Act, BaseFault
from .bodies import check_failure
from .rendering import DEFAULT, Rendering, check_after, response_of

_REASON = re.compile(rb'"(finish_reason|finishReason|stop_reason|done_reason)":"[^"]*"')
_STARTS = re.compile(
    rb'"type":"(?:content_block_start|response\.output_item\.added|response\.content_part\.added)"'
)
GARBAGE = b'{"garbage'


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
            after: pieces of a stream to send before the fault (a piece is a word of its text); a document is cut after
                its first half. None means before the head.
            answer: the answer that is cut.

        Raises:
            TypeError, ValueError: an argument is invalid, or the answer has fewer pieces.
        """
        return cls("reset", {"after": after, "answer": answer}, _ending("reset", after, response_of(answer)))

    @classmethod
    def cut(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Close the connection in the middle of the answer.

        A stream ends without its last HTTP chunk; a document is shorter than its head declares. Arguments and errors
        are those of `reset`.
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
        rendering = Rendering(exchange, answer)
        if rendering.streamed:
            begun = rendering.begin(after)
            await rendering.send(
                begun.body, {"transfer-encoding": "chunked"}, end=end, response=begun.response
            )
        else:
            length = str(len(rendering.document()))
            await rendering.send(rendering.half(), {"content-length": length}, end=end)

    return break_off


class BrokenStreams(BaseFault):
    """Broken streams."""

    __slots__ = ()

    @classmethod
    def unended(
        cls, after: int = 2, answer: Answerable = DEFAULT, *, framing: Literal["close", "chunked"] = "close"
    ) -> Self:
        """Return a stream that stops in the middle, in a complete HTTP message: only the dialect's end is missing.

        A call without streaming gets half of its document.

        Args:
            after: pieces of the answer to send first.
            answer: the answer that is cut.
            framing: how HTTP marks the end. `close`: by closing the connection, without a length or chunks. `chunked`:
                by the last chunk; for a document, by its length.

        Raises:
            TypeError, ValueError: an argument is invalid, or the answer has fewer pieces.
        """
        check_choice("framing", framing, Literal["close", "chunked"])
        given = response_of(answer)
        check_after(after, given)

        async def stop(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            end: Literal["close", "whole"] = "close" if framing == "close" else "whole"
            if rendering.streamed:
                begun = rendering.begin(after)
                await rendering.send(begun.body, end=end, response=begun.response)
            else:
                await rendering.send(rendering.half(), end=end)

        return cls("unended", {"after": after, "framing": framing, "answer": answer}, stop)

    @classmethod
    def no_finish(cls, answer: Answerable = DEFAULT) -> Self:
        """Return an answer whose finish (or stop) reason is null.

        In the Responses dialect, which has no such reason, the status is `in_progress`.
        """
        given = response_of(answer)

        async def leave_out(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            body = []
            for data in rendering.body():
                found = _REASON.sub(rb'"\1":null', data)
                if found == data:  # Responses
                    found = data.replace(b'"status":"completed"', b'"status":"in_progress"')
                body.append(found)
            await rendering.send(body, response=rendering.response)

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

        The frames that begin an item or a block are missing. In a dialect without such frames, the first frame is
        missing. A call without streaming gets the plain answer.
        """

        def leave_out(frames: list[bytes]) -> list[bytes]:
            left = [frame for frame in frames if not _STARTS.search(frame)]
            return left if len(left) < len(frames) else frames[1:]

        return cls("no_start", {"answer": answer}, _streaming(answer, leave_out))

    @classmethod
    def garbage(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Return a stream with a frame that is not JSON after `after` pieces; then the stream continues.

        A call without streaming gets a body that is not JSON. Errors as in `cut`.
        """
        given = response_of(answer)
        check_after(after, given)

        async def spoil(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            if not rendering.streamed:
                await rendering.send(GARBAGE)
                return
            begun = rendering.begin(after)
            rest = b"".join(rendering.whole_stream())[len(b"".join(begun.body)) :]
            name, found, _ = next(rendering.frames(rest)).partition(b"data: ")
            if found:
                frame = name + found + GARBAGE + b"\n\n"
            else:
                frame = GARBAGE + (b"\n" if rendering.request.framing != "json_array" else b"")
            await rendering.send([*begun.body, frame, rest], response=begun.response)

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
        """Return 200 and a stream with the dialect's own error in it; the HTTP message is complete.

        A call without streaming gets the error as a document.

        Args:
            after: pieces of the answer to send first; 0 means none.
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
            rendering = Rendering(exchange, given)
            if rendering.streamed:
                begun = rendering.begin(after)
                before = begun.body if after else ()
                renderer = begun.renderer if after else rendering.dialect.stream_renderer(rendering.request)
                await rendering.send([*before, renderer.fail(failure)], response=begun.response)
            else:
                await rendering.send(encode_json(rendering.dialect.render_error(failure)))

        arguments = {"after": after, "message": message, "status": status, "answer": answer}
        return cls("error_event", arguments, fail)


def _streaming(answer: Answerable, change: Callable[[list[bytes]], list[bytes]]) -> Act:
    """Return a function that sends a stream with changed frames. A call without streaming gets the plain answer."""
    given = response_of(answer)

    async def give(exchange: Exchange) -> None:
        rendering = Rendering(exchange, given)
        if rendering.streamed:
            await rendering.send(change(rendering.whole_stream()), response=rendering.response)
        else:
            await exchange.respond(given)

    return give
