"""Check the arguments of `open_upstream`, before a connection is opened.

Rules:

1. `open_upstream` raises an error of one line that names the invalid argument. Without these checks, the agent's first
   call would fail, with an error of another package.
2. The error contains neither a key nor the value of a header, because this value could be a key.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

import msgspec

from .._canonical.content import Json
from .._canonical.given_request import check_sampling
from .._canonical.request import Sampling
from .._util.checks import check_mapping, check_number, check_str, check_type, described, unsayable

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""Pattern of a header's name, a token (RFC 9110, 5.6.2)."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""Pattern of a header's value (RFC 9110, 5.5)."""
_encode = msgspec.json.Encoder().encode


def check_timeouts(**timeouts: float | None) -> None:
    for name, number in timeouts.items():
        if number is not None:
            check_number(
                name, number, infinite=name != "connect_timeout", hint="pass None to wait without a limit"
            )


def check_overrides(model: str | None, sampling: Sampling | None) -> None:
    if model is not None:
        check_str("model", model)
        if not model:
            raise ValueError("model is empty: pass None to request the agent's model")
    if sampling is not None:
        check_type("sampling", sampling, Sampling, "a Sampling", "Sampling(temperature=…)")
        check_sampling("Sampling", sampling)


def check_headers(headers: Mapping[str, str] | None) -> None:
    """Raise an error if a header's name or value is not valid in HTTP."""
    if headers is None:
        return
    check_mapping("extra_headers", headers)
    for name, value in headers.items():
        check_type("extra_headers: a name", name, str, "a str")
        if not _NAME.fullmatch(name):
            raise ValueError(f"extra_headers: {name!r} is not a header name: use letters, digits and -")
        if not isinstance(value, str):
            raise TypeError(f"extra_headers[{name!r}] must be a str, not {type(value).__name__}")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"extra_headers[{name!r}] must be a single line of Latin-1 text")


def check_session(header: str | None, finish: str | None) -> None:
    """Raise an error if `header` is not a header's name, or `finish` is not a path that contains `{id}`."""
    if header is not None:
        check_str("session_header", header)
        if not _NAME.fullmatch(header):
            raise ValueError(
                f"session_header must be a header's name, such as 'X-Session-ID', not {header!r}"
            )
    if finish is not None:
        check_str("finish_session", finish)
        if not finish.startswith("/") or "{id}" not in finish:
            example = "/finish_session?session_id={id}"
            raise ValueError(
                f"finish_session must be a path with {{id}}, such as {example!r}, not {finish!r}"
            )


def check_body(fields: Mapping[str, Json] | None) -> None:
    """Raise an error if a field of `extra_body` is not JSON."""
    if fields is None:
        return
    check_mapping("extra_body", fields)
    for name in fields:
        check_type("extra_body: a name", name, str, "a str")
    if (error := unsayable("extra_body", fields, _encode)) is not None:
        raise error


def check_tls(tls: ssl.SSLContext | None) -> None:
    if tls is not None and not isinstance(tls, ssl.SSLContext):
        raise TypeError(
            f"tls must be an ssl.SSLContext, not {described(tls)}; pass None to trust the system's certificates, "
            "or ssl.create_default_context(cafile=…) to trust your own certificates"
        )


def key_of(api_key: str | None) -> str | None:
    """Check the argument `api_key`, and return the key without surrounding spaces."""
    if api_key is None:
        return None
    if not isinstance(api_key, str):
        raise TypeError(f"api_key must be a str, not {type(api_key).__name__}")
    key = api_key.strip()
    if not key:
        raise ValueError("api_key is empty: pass None for a provider that needs no key")
    if wrong := next((place for place, each in enumerate(key, 1) if not " " <= each <= "~"), 0):
        raise ValueError(
            f"api_key must be printable ASCII, but its character {wrong} is {key[wrong - 1]!r}: copy the key again "
            "from your provider"
        )
    return key
