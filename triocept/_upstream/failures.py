"""Make the `UpstreamError` for a provider's error or invalid answer, with a status to which an agent can react.

Rules:

1. If the provider answered with an error of its dialect, the error has the provider's status and message.
2. If the response is not an answer of a model (a web page, a redirect, an empty body, broken JSON), the error's status
   is 502.
3. The key is removed from every text of the provider that the error repeats (see `redaction`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._canonical.content import Json
from .._canonical.response import Response
from ..dialects import Dialect
from ..dialects._documents import decode_json
from ..dialects._failures import error_of
from ..errors import DialectError, UpstreamError
from .headers import passed_down
from .redaction import Redaction

MAX_ERROR = 1024 * 1024
"""Maximum bytes of an error's body that are read."""
_SHOWN = 200
_NOWHERE = frozenset({404, 405})
"""Statuses that servers usually return for a path that does not exist, for example because the base URL is wrong."""
_ERRORS = ("error", "detail", "message")
"""Names of fields, at least one of which is in every error document of a dialect, of FastAPI or of SGLang."""
_TAGS = re.compile(
    r"<(script|style)\b[^<]*+(?:<(?!/\1\s*>)[^<]*+)*+(?:</\1\s*>)?|<[^<>]*>", re.DOTALL | re.IGNORECASE
)
_PAGE = re.compile(rb"\s*<(?:!doctype\s+)?html\b", re.IGNORECASE)
NO_SERVER = "the answer is a web page, so this is not a model's server: correct the base URL"


class Reader:
    """Parses whole answers and errors of one provider."""

    def __init__(self, dialect: Dialect, api_key: str | None) -> None:
        self._dialect = dialect
        self._redaction = Redaction(api_key)

    def response(self, body: bytes, headers: Mapping[str, str]) -> Response:
        """Parse the body of a whole answer. Raise UpstreamError if the body does not contain a valid answer."""
        if not body.strip():
            raise UpstreamError("the provider's answer is empty", headers=passed_down(headers))
        try:
            return self._dialect.parse_response(decode_json(body))
        except UpstreamError as exc:  # an error with a status of success
            raise self.own_error(exc, body, headers) from None  # its cause contains the key
        except DialectError as exc:
            raise self.unreadable(exc, body, headers) from exc

    def failure(
        self, status: int, body: bytes, headers: Mapping[str, str], address: str = ""
    ) -> UpstreamError:
        """Return the error for a response whose status is not a success: 300 or more, or less than 200.

        `body` may be incomplete. The names in `headers` must be in lower case. If the cause could be a wrong `address`,
        the error contains the address.
        """
        passed = passed_down(headers)
        if status < 400:
            where = headers.get("location")
            what = (
                f"redirects to {where}: pass the final address as base_url"
                if where
                else "is not the status of an answer"
            )
            what = self._redaction.text(f"the provider answered {status}, which {what}")
            error = UpstreamError(what, headers=passed)
        elif (document := _decoded(body)) is None:
            hint = f"; {NO_SERVER}" if status in _NOWHERE and _PAGE.match(body) else ""
            error = UpstreamError(
                f"the provider answered {status}: {self._shown(body)}{hint}",
                status=status,
                body=self._redaction.text(_text(body)),
                headers=passed,
            )
        else:
            error = self.own_error(error_of(self._dialect.parse_error(status, document)), body, headers)
        if not address or (status >= 400 and status not in _NOWHERE):
            return error
        document = _decoded(body)
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            error.upstream = address  # the provider's message stays unchanged
            return error
        error.message = f"{error.message} (request: POST {address})"
        error.dialect = ""
        return error

    def own_error(self, error: UpstreamError, body: bytes, headers: Mapping[str, str]) -> UpstreamError:
        """Return a copy of `error`, an error that the provider itself has sent, with the response's body and headers.

        The agent gets the body unchanged only if the body contains an error. A body without an error could be an answer
        with an unknown stop reason.
        """
        text = error.body or _text(body)
        document = _decoded(text.encode())
        is_error = isinstance(document, dict) and any(document.get(name) for name in _ERRORS)
        return type(error)(
            self._redaction.text(error.message),
            status=error.status,
            body=self._redaction.document(text),
            headers={**error.headers, **passed_down(headers)},
            code=error.code,
            dialect=self._dialect.name if is_error else "",
        )

    def unreadable(self, exc: DialectError, body: bytes, headers: Mapping[str, str]) -> UpstreamError:
        """Return the error for an answer that is not valid in the provider's dialect."""
        what = (
            f"the provider's answer cannot be read as {self._dialect.name}: {self._redaction.text(str(exc))}"
        )
        if _PAGE.match(body):
            what = f"{NO_SERVER}; the page contains {self._shown(body)}"
        elif body:
            what = f"{what}; the answer is {self._shown(body)}"
        return UpstreamError(what, body=self._redaction.document(_text(body)), headers=passed_down(headers))

    def _shown(self, body: bytes) -> str:
        """Return the beginning of a body as one line, for an error message.

        The key is removed before the text is shortened, because a shortened text could end with half of the key.
        """
        text = self._redaction.document(_text(body))
        words = " ".join(_TAGS.sub(" ", text[:8000]).split())
        if not words:
            return "blank"
        return repr(words[:_SHOWN] + ("…" if len(words) > _SHOWN else ""))


def _decoded(body: bytes) -> Json:
    try:
        return decode_json(body)
    except DialectError:
        return None


def _text(body: bytes) -> str:
    return body[:MAX_ERROR].decode("utf-8", "replace")
