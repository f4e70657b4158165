"""Faults that break the connection, and faults whose stream is not valid in the agent's dialect."""

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
    """Constructors of faults that break or stall the connection."""

    __slots__ = ()

    @classmethod
    def close(cls) -> Self:
        """Return a fault: the connection is closed before a response is sent."""
        return cls("close", {}, _ending("close", None, response_of(DEFAULT)))

    @classmethod
    def reset(cls, after: int | None = None, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: the connection is reset (TCP RST), before or in the middle of the answer.

        Args:
            after: number of pieces (words of the text) to send before the reset, if the agent requested a stream. If it
                requested no stream, half of the JSON document is sent first. None means that no byte is sent before the
                reset.
            answer: the answer that is cut.

        Raises:
            TypeError, ValueError: an argument is invalid, or the answer has fewer pieces.
        """
        return cls("reset", {"after": after, "answer": answer}, _ending("reset", after, response_of(answer)))

    @classmethod
    def cut(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: the connection is closed in the middle of the answer.

        If the answer is a stream, its last HTTP chunk is missing. If the answer is a JSON document, the document is
        shorter than its `content-length`. Arguments and errors are those of `reset`.
        """
        return cls("cut", {"after": after, "answer": answer}, _ending("close", after, response_of(answer)))

    @classmethod
    def stall(cls, after: int | None = None, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: sending stops, but the connection stays open until the agent disconnects.

        When the endpoint closes, it closes the connection, too. Arguments and errors are those of `reset`.
        """
        return cls("stall", {"after": after, "answer": answer}, _ending("stall", after, response_of(answer)))

    @classmethod
    def stalled_head(cls) -> Self:
        """Return a fault: half of the response head is sent, then nothing more."""

        async def stall(exchange: Exchange) -> None:
            await exchange.respond_raw(None, {}, b"HTTP/1.1 200 OK\r\ncontent-ty", end="stall")

        return cls("stalled_head", {}, stall)

    @classmethod
    def noise(cls, size: int = 64, *, seed: int = 0) -> Self:
        """Return a fault: `size` random bytes that are not HTTP are sent; then the connection is closed.

        With the same `seed`, the bytes are the same.
        """
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
    """Constructors of faults whose stream is not valid in the agent's dialect."""

    __slots__ = ()

    @classmethod
    def unended(
        cls, after: int = 2, answer: Answerable = DEFAULT, *, framing: Literal["close", "chunked"] = "close"
    ) -> Self:
        """Return a fault: a stream that stops in the middle, although the HTTP message is complete.

        The stream lacks the end that the agent's dialect requires. If no stream is requested, the agent gets half of
        the JSON document.

        Args:
            after: pieces of the answer to send first.
            answer: the answer that is cut.
            framing: how HTTP marks the end of the body. `close`: the connection is closed, and neither a length nor
                chunks are sent. `chunked`: a stream ends with its last chunk, and a document has a `content-length`.

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
        """Return a fault: an answer whose finish reason (or stop reason) is null.

        The Responses dialect has no finish reason: in this dialect, the answer's status is `in_progress`.
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
        """Return a fault: a stream without its last frame.

        The missing frame is `[DONE]`, `message_stop`, `response.completed`, or the frame with the finish reason. If no
        stream is requested, the answer is unchanged.
        """
        return cls("no_done", {"answer": answer}, _streaming(answer, lambda frames: frames[:-1]))

    @classmethod
    def no_start(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a stream that lacks the frames which begin the parts of the answer.

        A frame that begins an item or a block is not sent; the frames with pieces of its content are. In a dialect
        without such frames, the first frame of the stream is missing. If no stream is requested, the answer is
        unchanged.
        """

        def leave_out(frames: list[bytes]) -> list[bytes]:
            left = [frame for frame in frames if not _STARTS.search(frame)]
            return left if len(left) < len(frames) else frames[1:]

        return cls("no_start", {"answer": answer}, _streaming(answer, leave_out))

    @classmethod
    def garbage(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a stream that has, after its first `after` pieces, a frame that is not JSON.

        After this frame, the stream continues with the remaining frames. If no stream is requested, the body is not
        JSON. Raises the same errors as `cut`.
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
        """Return a fault: status 200, and a stream that ends with an error event of the agent's dialect.

        The HTTP message is complete. If no stream is requested, the body is the error document of the agent's dialect.

        Args:
            after: pieces of the answer to send first; 0 means none.
            answer: the answer that is cut.
            message: the error text for the agent.
            status: the HTTP status from which the dialect derives the kind of the error.

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
    """Return a function that streams `answer`: it sends the frames that `change` returns for the frames of the answer.

    If no stream is requested, the function sends `answer` unchanged.
    """
    given = response_of(answer)

    async def give(exchange: Exchange) -> None:
        rendering = Rendering(exchange, given)
        if rendering.streamed:
            await rendering.send(change(rendering.whole_stream()), response=rendering.response)
        else:
            await exchange.respond(given)

    return give
