"""Faults that are HTTP errors of a provider, and faults whose response body is not an answer or has a wrong length."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Self, TypeAlias

from ..._rollout.exchange import Answerable, Exchange, core_of
from ..._trace.raw import given_raw
from ..._util.checks import check_count, check_number, check_str, described
from ...dialects import Failure
from ...dialects.kit import OVERFLOW, encode_json
from ...errors import Refusal
from .base import Act, BaseFault
from .rendering import DEFAULT, Rendering, check_after, check_not_answer, response_of

RetryAfter: TypeAlias = float | datetime | timedelta | None

_WORDS = {529: "Overloaded"}  # Anthropic's own


class Refusals(BaseFault):
    """Constructors of faults that are HTTP errors of a provider."""

    __slots__ = ()

    @classmethod
    def status(
        cls,
        status: int,
        message: str | None = None,
        *,
        retry_after: RetryAfter = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a fault: an HTTP error with this status, in the agent's dialect: `Fault.status(429, retry_after=1)`.

        Args:
            status: 400 to 599.
            message: the error text for the agent. None means the standard text of the status.
            retry_after: value of the `retry-after` header: seconds (a number), a date (an aware `datetime`), or the
                time from now to a date (a `timedelta`). For a `datetime` or a `timedelta`, the header contains a date,
                as HTTP allows.
            should_retry, code, headers: see `exchange.refuse`.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        more = {"should_retry": should_retry, "code": code, "headers": headers}
        given = {"status": status, "message": message, "retry_after": retry_after, **more}
        return cls("status", given, _refusing(status, message, retry_after, **more))

    @classmethod
    def context_length(cls, tokens: int = 200_001, most: int = 200_000) -> Self:
        """Return a fault: status 400, because the prompt has `tokens` tokens and only `most` are allowed.

        The error's text is that of a real provider, so that agents recognise it.
        """
        check_count("most", most, least=1)
        check_count("tokens", tokens)
        if tokens <= most:
            raise ValueError(
                f"tokens must be more than most ({most}), not {tokens}, because otherwise the prompt would fit"
            )
        words = f"prompt is too long: {tokens} tokens > {most} maximum"
        act = _refusing(400, words, None, code=OVERFLOW, should_retry=False)
        return cls("context_length", {"tokens": tokens, "most": most}, act)

    @classmethod
    def too_large(cls) -> Self:
        """Return a fault: status 413, because the request is too large."""
        return cls("too_large", {}, _refusing(413, None, None))


def _refusing(status: int, message: str | None, retry_after: RetryAfter, **more: Any) -> Act:
    words = words_of(status) if message is None else message

    def refusal() -> Refusal:  # made anew for each call: the date may be relative to now
        headers = {**(more.get("headers") or {}), **retry_header(retry_after, seconds=False)}
        seconds = None if isinstance(retry_after, datetime | timedelta) else retry_after
        return Refusal(status, words, retry_after=seconds, **{**more, "headers": headers})

    async def refuse(exchange: Exchange) -> None:
        await core_of(exchange).refuse(refusal())

    refusal()
    return refuse


def words_of(status: int) -> str:
    """Return the standard text of an HTTP status: `Too Many Requests` for 429, for example."""
    try:
        return _WORDS.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def retry_header(when: RetryAfter, *, seconds: bool = True) -> dict[str, str]:
    """Return the `Retry-After` header (RFC 9110, 10.2.3) for `when`.

    The result is empty if `when` is None, or if it is a number and `seconds` is False.

    Raises:
        ValueError: the date has no time zone, or is in the past.
    """
    match when:
        case None:
            return {}
        case timedelta():
            if when < timedelta(0):
                raise ValueError(f"retry_after must not be in the past, but is {described(when)}")
            when = datetime.now(UTC) + when
        case datetime():
            if when.tzinfo is None:
                raise ValueError(f"retry_after must be a date with a time zone, not {described(when)}")
        case _:
            return {"retry-after": f"{when:g}"} if seconds else {}
    return {"retry-after": format_datetime(when.astimezone(UTC), usegmt=True)}


_PAGE = (
    "<html>\r\n<head><title>{said}</title></head>\r\n<body>\r\n<center><h1>{said}</h1></center>\r\n"
    "<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
)


class BrokenBodies(BaseFault):
    """Constructors of faults whose response body is not a valid answer."""

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
        """Return a fault: an HTML page in place of an answer, as from a proxy or a login page: `Fault.html(200)`.

        Args:
            status: 200 to 599.
            page: the HTML; None means a typical proxy page.
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
        """Return a fault: a redirect to `location`. At the default location, a client gets a 404.

        Raises:
            TypeError, ValueError: `status` is not the status of a redirect, or `location` is not valid in a header.
        """
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"status must be 301, 302, 303, 307 or 308, not {status!r}")
        check_str("location", location)
        given_raw(status, {"location": location}, b"", "whole")

        async def lead_away(exchange: Exchange) -> None:
            await exchange.respond_raw(status, {"location": location}, b"")

        return cls("redirect", {"location": location, "status": status}, lead_away)

    @classmethod
    def empty(cls) -> Self:
        """Return a fault: status 200 and the headers of an answer, but an empty body."""

        async def say_nothing(exchange: Exchange) -> None:
            await Rendering(exchange, response_of("")).send(b"")

        return cls("empty", {}, say_nothing)

    @classmethod
    def error_body(cls, message: str = "the server is overloaded", status: int = 503) -> Self:
        """Return a fault: a response with status 200 whose body is the dialect's error document for `status`.

        The agent gets this document even if it requested a stream.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        check_failure(status, message)

        async def say_error(exchange: Exchange) -> None:
            rendering = Rendering(exchange, response_of(""))
            document = rendering.dialect.render_error(Failure(status=status, message=message))
            await exchange.respond_raw(200, rendering.document_headers, encode_json(document))

        return cls("error_body", {"message": message, "status": status}, say_error)

    @classmethod
    def cut_json(cls, after: int = 2, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: JSON that stops in the middle, in an HTTP message that is complete.

        If no stream is requested, the agent gets the first half of the JSON document. If a stream is requested, the
        agent gets `after` pieces and then the first half of the next frame. Raise the same errors as `cut`.
        """
        given = response_of(answer)
        check_after(after + 1, given)

        async def cut(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            if not rendering.streamed:
                await rendering.send(rendering.half())
                return
            begun, more = rendering.begin(after), rendering.begin(after + 1)
            rest = b"".join(more.body)[len(b"".join(begun.body)) :]
            await rendering.send([*begun.body, rest[: len(rest) // 2]], response=begun.response)

        return cls("cut_json", {"after": after, "answer": answer}, cut)

    @classmethod
    def wrong_length(cls, by: int = 100, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a correct answer whose `content-length` header is wrong.

        Args:
            by: number of bytes by which the header exceeds the body's real length. If `by` is negative, the header
                declares fewer bytes than the body has. The connection is closed after the body.
            answer: the answer.

        Raises:
            TypeError, ValueError: `by` is not a whole number, or is 0.
        """
        check_not_answer("by", by)
        if isinstance(by, bool) or not isinstance(by, int):
            raise TypeError(f"by must be a whole number, not {by!r}")
        if by == 0:
            raise ValueError("by must not be 0, because 0 would give the correct length")
        given = response_of(answer)

        async def lie(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            body = b"".join(rendering.body())
            length = {"content-length": str(max(0, len(body) + by))}
            await rendering.send(body, length, end="close", response=rendering.response)

        return cls("wrong_length", {"by": by, "answer": answer}, lie)

    @classmethod
    def not_gzip(cls, answer: Answerable = DEFAULT) -> Self:
        """Return a fault: a correct answer that is not compressed, though its header declares gzip.

        Head and body are sent together, so that the effect on a client does not depend on timing: if the body arrived
        after the head, Node's fetch (20.20) would wait for ever.
        """
        given = response_of(answer)

        async def claim(exchange: Exchange) -> None:
            rendering = Rendering(exchange, given)
            body = b"".join(rendering.body())
            await rendering.send(body, {"content-encoding": "gzip"}, response=rendering.response)

        return cls("not_gzip", {"answer": answer}, claim)


def check_failure(status: int, message: str) -> None:
    check_count("status", status)
    if not 400 <= status <= 599:
        raise ValueError(f"status must be 400 to 599, not {status}")
    check_str("message", message)
