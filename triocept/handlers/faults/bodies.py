"""Answers that are none: their bodies are something else, or less, or more, than their heads say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from ..._rollout.exchange import Answerable, Exchange
from ..._trace.raw import given_raw
from ..._util.checks import check_count, check_number, check_str
from ...dialects import Failure
from ...dialects.kit import encode_json
from .base import BaseFault
from .refusals import RetryAfter, retry_header, words_of
from .told import DEFAULT, Telling, check_after, check_not_answer, response_of

_PAGE = (
    "<html>\r\n<head><title>{said}</title></head>\r\n<body>\r\n<center><h1>{said}</h1></center>\r\n"
    "<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
)


class BrokenBodies(BaseFault):
    """Answers that are none."""

    __slots__ = ()

    @classmethod
    def html(
        cls,
        status: int = 502,
        page: str | None = None,
        *,
        retry_after: RetryAfter = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """A page in the place of an answer, as proxies, logins and captive portals send: `Fault.html(200)`.

        Args:
            status: 200 to 599.
            page: the HTML; None: as a proxy has it.
            retry_after: as of `status`.
            headers: further ones.

        Raises:
            TypeError, ValueError: an argument is not what it should be.
        """
        check_count("status", status)
        if page is not None:
            check_str("page", page)
        if isinstance(retry_after, int | float):
            check_number("retry_after", retry_after)
        body = (_PAGE.format(said=f"{status} {words_of(status)}") if page is None else page).encode()
        more = {"content-type": "text/html; charset=utf-8", **(headers or {})}
        given_raw(status, {**more, **retry_header(retry_after)}, body, "whole")  # says what is wrong

        async def show(exchange: Exchange) -> None:
            await exchange.respond_raw(status, {**more, **retry_header(retry_after)}, body)

        given = {"status": status, "page": page, "retry_after": retry_after, "headers": headers}
        return cls("html", given, show)

    @classmethod
    def redirect(cls, location: str = "/elsewhere", status: int = 302) -> Self:
        """A redirect; where it leads to, an endpoint answers 404 by itself.

        Raises:
            TypeError, ValueError: the status is none of a redirect, or the location cannot stand in a head.
        """
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"status is 301, 302, 303, 307 or 308, not {status!r}")
        check_str("location", location)
        given_raw(status, {"location": location}, b"", "whole")

        async def lead_away(exchange: Exchange) -> None:
            await exchange.respond_raw(status, {"location": location}, b"")

        return cls("redirect", {"location": location, "status": status}, lead_away)

    @classmethod
    def empty(cls) -> Self:
        """200, with the head of an answer, and no body."""

        async def say_nothing(exchange: Exchange) -> None:
            await Telling(exchange, response_of("")).send(b"")

        return cls("empty", {}, say_nothing)

    @classmethod
    def error_body(cls, message: str = "the server is overloaded", status: int = 503) -> Self:
        """200, and in the place of the answer the dialect's error document of this status, as JSON; also where a stream
        was asked for.

        Raises:
            TypeError, ValueError: an argument is not what it should be.
        """
        check_failure(status, message)

        async def say_error(exchange: Exchange) -> None:
            telling = Telling(exchange, response_of(""))
            document = telling.dialect.render_error(Failure(status=status, message=message))
            await exchange.respond_raw(200, telling.document_headers, encode_json(document))

        return cls("error_body", {"message": message, "status": status}, say_error)

    @classmethod
    def cut_json(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """JSON that ends in the middle, though HTTP says that all is well: half of a whole answer, or of a stream so
        many pieces, and half of the next one's frame. Errors as of `cut`.
        """
        given = response_of(answer)
        check_after(after + 1, given)

        async def cut(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            if not telling.streamed:
                await telling.send(telling.half())
                return
            begun, more = telling.begin(after), telling.begin(after + 1)
            rest = b"".join(more.body)[len(b"".join(begun.body)) :]
            await telling.send([*begun.body, rest[: len(rest) // 2]], said=begun.said)

        return cls("cut_json", {"after": after, "answer": answer}, cut)

    @classmethod
    def wrong_length(cls, by: int = 100, answer: Answerable = DEFAULT) -> Self:
        """The right answer, and a `content-length` that is wrong.

        Args:
            by: bytes that it promises more than there are (then the connection is closed), or, below 0, less.
            answer: what is said.

        Raises:
            TypeError, ValueError: `by` is no whole number, or 0.
        """
        check_not_answer("by", by)
        if isinstance(by, bool) or not isinstance(by, int):
            raise TypeError(f"by is a whole number, not {by!r}")
        if by == 0:
            raise ValueError("by is not 0: that would be the right length")
        given = response_of(answer)

        async def lie(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            body = b"".join(telling.body())
            length = {"content-length": str(max(0, len(body) + by))}
            await telling.send(body, length, end="close", said=telling.response)

        return cls("wrong_length", {"by": by, "answer": answer}, lie)

    @classmethod
    def not_gzip(cls, answer: Answerable = DEFAULT) -> Self:
        """The right answer, of which the head says that it is compressed. It is not.

        Head and body come in one piece. Where the body comes by itself, with its end, Node's fetch (20.20) waits for
        ever: what a client makes of it would be chance.
        """
        given = response_of(answer)

        async def claim(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            body = b"".join(telling.body())
            await telling.send(body, {"content-encoding": "gzip"}, said=telling.response)

        return cls("not_gzip", {"answer": answer}, claim)


def check_failure(status: int, message: str) -> None:
    """See whether an error can be said."""
    check_count("status", status)
    if not 400 <= status <= 599:
        raise ValueError(f"status is 400 to 599, not {status}")
    check_str("message", message)
