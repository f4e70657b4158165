"""Faults whose answers are valid, but so unusual that an application or a careless parser may fail.

A client should accept each of these answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, Self

import msgspec

from ..._canonical.content import ToolCall
from ..._canonical.given import given_response
from ..._canonical.response import Response, StopReason
from ..._rollout.exchange import Answerable, Exchange
from ..._util.checks import check_choice, check_count, check_number, check_type
from ..._util.sse import SSE_FRAMES
from .base import Act, BaseFault
from .rendering import DEFAULT, Rendering, check_not_answer, response_of

DEFAULT_CALL = ToolCall("search", '{"query":"the quick brown fox","limit":10}')
_REASONS: dict[str, StopReason] = {"length": "max_tokens", "content_filter": "refused"}
ACCENTED = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich, naïve café 🦊 日本語."
"""Text that contains characters of two, three and four bytes in UTF-8."""
_LATER = re.compile(rb"[\x80-\xbf]")
"""Pattern of the second or a later byte of a multi-byte UTF-8 character."""
MOMENT = 0.01
"""Seconds to wait between two pieces of an answer, so that the client receives each piece by itself."""


class OddAnswers(BaseFault):
    """Constructors of faults whose answers are complete, but have content that applications do not expect."""

    __slots__ = ()

    @classmethod
    def finish(cls, reason: Literal["length", "content_filter"], answer: Answerable = DEFAULT) -> Self:
        """Return a fault: an answer with the stop reason `length` (length limit) or `content_filter`."""
        check_choice("reason", reason, Literal["length", "content_filter"])
        given = msgspec.structs.replace(response_of(answer), stop_reason=_REASONS[reason])
        return cls("finish", {"reason": reason, "answer": answer}, _responding(given))

    @classmethod
    def cut_arguments(
        cls,
        call: ToolCall = DEFAULT_CALL,
        *,
        after: int | None = None,
        reason: Literal["length"] | None = None,
    ) -> Self:
        """Return a fault: a tool call whose arguments stop in the middle, so that they are not valid JSON.

        In some dialects, arguments are a JSON object and not a text. In these dialects, the agent gets `{"_raw": …}`
        with the cut text.

        Args:
            call: the complete call.
            after: number of characters of the arguments that are sent. None means half of the characters.
            reason: stop reason of the answer. `length` means the length limit; None means that the answer stops for a
                tool call.

        Raises:
            TypeError, ValueError: an argument is invalid, or the call's arguments cannot be cut at `after`.
        """
        check_type("call", call, ToolCall, "a ToolCall")
        length = len(call.arguments)
        if length < 2:
            raise ValueError(
                f"the arguments of call must have 2 or more characters, so that they can be cut, not {call.arguments!r}"
            )
        if after is not None:
            check_count("after", after, least=1)
            if after >= length:
                raise ValueError(
                    f"after must be less than {length}, the length of the arguments, not {after}"
                )
        if reason is not None and reason != "length":
            raise ValueError(f"reason must be 'length' or None, not {reason!r}")
        cut = msgspec.structs.replace(
            call, arguments=call.arguments[: length // 2 if after is None else after]
        )
        given = given_response(Response((cut,), stop_reason="max_tokens" if reason else "tool_use"))
        return cls("cut_arguments", {"call": call, "after": after, "reason": reason}, _responding(given))


def _responding(given: Response) -> Act:
    async def respond(exchange: Exchange) -> None:
        await exchange.respond(given)

    return respond


class Quirks(BaseFault):
    """Constructors of faults whose answers are correct, but are sent in an unusual way."""

    __slots__ = ()

    @classmethod
    def drip(cls, every: float = 0.02, answer: Answerable = DEFAULT, *, size: int = 64) -> Self:
        """Return a fault: a complete and correct answer that is sent slowly, in small pieces.

        Args:
            every: seconds between two pieces.
            answer: the answer.
            size: bytes per piece.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        check_not_answer("every", every)
        check_number("every", every)
        check_count("size", size, least=1)
        given = response_of(answer)

        def trickle(rendering: Rendering) -> list[bytes | float]:
            data = b"".join(rendering.body())
            return _apart([data[at : at + size] for at in range(0, len(data), size)], every)

        return cls("drip", {"every": every, "size": size, "answer": answer}, _giving(given, trickle))

    @classmethod
    def split_letters(cls, answer: Answerable = ACCENTED) -> Self:
        """Return a fault: a correct answer, sent in pieces that end in the middle of multi-byte UTF-8 characters.

        Raises:
            ValueError: the answer has no multi-byte character.
        """
        given = response_of(answer)
        if str(given.content).isascii():
            raise ValueError(
                "answer must contain a character of several bytes, but all its characters are ASCII"
            )

        def split(rendering: Rendering) -> list[bytes | float]:
            data = b"".join(rendering.body())
            places = [0, *(found.start() for found in _LATER.finditer(data)), len(data)]
            return _apart([data[at:end] for at, end in pairwise(places)], MOMENT)

        return cls("split_letters", {"answer": answer}, _giving(given, split))

    @classmethod
    def crlf(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a correct stream whose lines end with CR LF.

        If no stream is requested, the answer is unchanged.
        """

        def end_lines(rendering: Rendering) -> list[bytes]:
            return [frame.replace(b"\n", b"\r\n") for frame in rendering.body()]

        return cls("crlf", {"answer": answer}, _giving(response_of(answer), end_lines))

    @classmethod
    def comments(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a correct stream of server-sent events, with a comment before each event.

        If no stream is requested, the answer is unchanged. A stream with one JSON document in each line is not changed
        either, because it cannot contain comments.
        """

        def comment(rendering: Rendering) -> list[bytes]:
            takes = rendering.dialect.stream_parser().frame_end is SSE_FRAMES
            takes = takes and rendering.streamed and rendering.request.framing != "json_array"
            return [b": a comment\n\n" + frame if takes else frame for frame in rendering.body()]

        return cls("comments", {"answer": answer}, _giving(response_of(answer), comment))

    @classmethod
    def double_end(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a correct stream with its last frame sent twice.

        If no stream is requested, the answer is unchanged.
        """

        def repeat(rendering: Rendering) -> list[bytes]:
            frames = rendering.body()
            return [*frames, frames[-1]] if rendering.streamed else frames

        return cls("double_end", {"answer": answer}, _giving(response_of(answer), repeat))

    @classmethod
    def other_form(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a correct answer in the form (a stream, or one JSON document) that the agent did not request.

        If the agent requested a stream, it gets one JSON document. Otherwise it gets a stream.
        """
        given = response_of(answer)

        async def confuse(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            rendering.request = msgspec.structs.replace(rendering.request, stream=not rendering.streamed)
            await rendering.send(rendering.body(), response=rendering.response)

        return cls("other_form", {"answer": answer}, confuse)


def _apart(pieces: list[bytes], seconds: float) -> list[bytes | float]:
    """Return a list of `pieces` with a pause of `seconds` between each piece and the next."""
    return [item for piece in pieces for item in (piece, seconds)][:-1]


def _giving(given: Response, form: Callable[[Rendering], Sequence[bytes | float]]) -> Act:
    """Return a function that answers with `given`, in the pieces that `form` makes of its rendering."""

    async def give(exchange: Exchange) -> None:
        rendering = Rendering(exchange, given)
        await rendering.send(form(rendering), response=rendering.response, complete=True)

    return give
