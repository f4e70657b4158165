"""Bodies that are not answers: they hold other content, or less or more bytes, than their heads declare."""

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
    """Bodies that are not answers."""

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
        """Return an HTML page instead of an answer, as proxies, logins and captive portals send: `Fault.html(200)`.

        Args:
            status: 200 to 599.
            page: the HTML; None: a typical proxy page.
            retry_after: as in `status`.
            headers: further headers.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        check_count("status", status)
        if page is not None:
            check_str("page", page)
        if isinstance(retry_after, int | float):
            check_number("retry_after", retry_after)
        body = (_PAGE.format(said=f"{status} {words_of(status)}") if page is None else page).encode()
        more = {"content-type": "text/html; charset=utf-8", **(headers or {})}
        given_raw(
            status, {**more, **retry_header(retry_after)}, body, "whole"
        )  # raises if a header is invalid

        async def show(exchange: Exchange) -> None:
            await exchange.respond_raw(status, {**more, **retry_header(retry_after)}, body)

        given = {"status": status, "page": page, "retry_after": retry_after, "headers": headers}
        return cls("html", given, show)

    @classmethod
    def redirect(cls, location: str = "/elsewhere", status: int = 302) -> Self:
        """Return a redirect; an endpoint answers 404 at the default location.

        Raises:
            TypeError, ValueError: the status is not a redirect, or the location is not valid in a header.
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
        """Return 200 with the head of an answer, and no body."""

        async def say_nothing(exchange: Exchange) -> None:
            await Telling(exchange, response_of("")).send(b"")

        return cls("empty", {}, say_nothing)

    @classmethod
    def error_body(cls, message: str = "the server is overloaded", status: int = 503) -> Self:
        """Return 200 and, instead of the answer, the dialect's JSON error document of this status.

        A streaming call gets the document, too.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        check_failure(status, message)

        async def say_error(exchange: Exchange) -> None:
            telling = Telling(exchange, response_of(""))
            document = telling.dialect.render_error(Failure(status=status, message=message))
            await exchange.respond_raw(200, telling.document_headers, encode_json(document))

        return cls("error_body", {"message": message, "status": status}, say_error)

    @classmethod
    def cut_json(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Return JSON that ends in the middle, in an HTTP message that is complete.

        A call without streaming gets half of its document. A stream has `after` pieces and half of the next frame.
        Errors as in `cut`.
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
        """Return the correct answer with a wrong `content-length`.

        Args:
            by: bytes that the header promises beyond the body (the connection is then closed); below 0: bytes too few.
            answer: the answer.

        Raises:
            TypeError, ValueError: `by` is not a whole number, or is 0.
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
        """Return the correct answer, uncompressed, with a head that declares gzip.

        Head and body come in one piece. If the body came separately, with its end, Node's fetch (20.20) would wait
        forever: the outcome in a client would depend on timing.
        """
        given = response_of(answer)

        async def claim(exchange: Exchange) -> None:
            telling = Telling(exchange, given)
            body = b"".join(telling.body())
            await telling.send(body, {"content-encoding": "gzip"}, said=telling.response)

        return cls("not_gzip", {"answer": answer}, claim)


def check_failure(status: int, message: str) -> None:
    """Raise if an error cannot have this status or message."""
    check_count("status", status)
    if not 400 <= status <= 599:
        raise ValueError(f"status is 400 to 599, not {status}")
    check_str("message", message)
