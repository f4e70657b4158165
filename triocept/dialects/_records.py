"""Check the fields of a `Dialect` when the record is created.

Without this check, an invalid field would cause an error later. A field of the wrong type raises `TypeError`, an
invalid value raises `ValueError`. Both errors name the field and the valid values.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

from .._util.checks import described, takes
from .._util.secrets import OWN_TEXT, own_keys_in
from .side import ENDPOINT_PATHS, SideRoute, is_endpoint_path, path_problem
from .streams import StreamParser, StreamRenderer

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PATH = re.compile(r"(?:/[^\s/?#]+)+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Pattern of a header's name (RFC 9110, 5.6.2)."""
_LINE = re.compile(r"[\x20-\x7e]+")
_HOST = re.compile(r"[^\s/:@]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
"""Headers that a dialect must not write, because the HTTP layer writes them."""


class _Rule(NamedTuple):
    what: str
    is_type: Callable[[Any], bool]
    is_one: Callable[[Any], object] = lambda value: True


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)


def _can_be_sent(headers: Mapping[str, str]) -> bool:
    names = {name.lower() for name in headers}
    return (
        len(names) == len(headers)
        and names.isdisjoint(_FRAMING)
        and all(_TOKEN.fullmatch(name) and not re.search(r"[\r\n\0]", text) for name, text in headers.items())
    )


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_A_TEXT = _Rule("a str", _is_text)
_SOME_TEXT = _Rule("a str that is not empty", _is_text, bool)
_HEADERS = _Rule(
    "a mapping of header names to their values",
    lambda value: isinstance(value, Mapping) and all(map(_is_text, (*value.keys(), *value.values()))),
    _can_be_sent,
)

_FACTS: Mapping[str, _Rule] = {
    "name": _Rule("a name of letters, digits, `_`, `-` and `.`", _is_text, _NAME.fullmatch),
    "route": _Rule("a path that begins with `/` and does not end with `/`", _is_text, _PATH.fullmatch),
    "base_path": _Rule(
        "a path that begins with `/` and does not end with `/`, or empty",
        _is_text,
        lambda path: not path or _PATH.fullmatch(path),
    ),
    "hosts": _Rule("a tuple of names of hosts", _are_texts, lambda hosts: all(map(_HOST.fullmatch, hosts))),
    "stream_types": _Rule(
        "a tuple of at least one content type",
        _are_texts,
        lambda types: types and all(map(_LINE.fullmatch, types)),
    ),
    "transcript": _SOME_TEXT,
    "required": _Rule(
        "a mapping of names", lambda value: isinstance(value, Mapping) and all(map(_is_text, value))
    ),
    "caps": _Rule(
        "a tuple of places, each a tuple of names",
        lambda caps: isinstance(caps, tuple) and all(map(_are_texts, caps)),
        all,
    ),
    "tools": _Rule("True or False", lambda value: isinstance(value, bool)),
    "tool_names": _Rule("a pattern of `re`", _is_text, _is_pattern),
    "response_prefix": _A_TEXT,
    "call_prefix": _A_TEXT,
    "not_posted": _Rule(
        "a frozenset of str", lambda names: isinstance(names, Set) and all(map(_is_text, names))
    ),
    "default_headers": _HEADERS,
    "request_id_header": _Rule(
        "the name of a header, or empty",
        _is_text,
        lambda name: not name or (_TOKEN.fullmatch(name) and name.lower() not in _FRAMING),
    ),
    "lost_status": _Rule(
        "an HTTP status from 400 to 599",
        lambda status: isinstance(status, int) and not isinstance(status, bool),
        lambda status: 400 <= status <= 599,
    ),
    "no_route": _Rule("a str or None", lambda code: code is None or isinstance(code, str)),
    "side_routes": _Rule(
        "a tuple of SideRoute",
        lambda routes: isinstance(routes, tuple) and all(isinstance(route, SideRoute) for route in routes),
    ),
    "not_served": _Rule(
        "a tuple of paths that begin with `/`, and that the endpoint does not serve itself",
        _are_texts,
        lambda paths: all(path.startswith("/") and path_problem(path) is None for path in paths),
    ),
    "key_variable": _Rule("the name of an environment variable", _is_text, _VARIABLE.fullmatch),
}
_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "parse_request": ("document", "target", "memory"),
    "render_response": ("response", "request"),
    "stream_renderer": ("request",),
    "render_error": ("failure",),
    "render_request": ("request",),
    "parse_response": ("document",),
    "stream_parser": (),
    "parse_error": ("status", "document"),
    "streamed": ("response",),
    "as_it_came": ("document", "request"),
    "continued": ("request", "earlier", "answer"),
    "key_headers": ("api_key",),
    "render_models": ("names",),
}
_CLASSES: Mapping[str, type] = {"stream_parser": StreamParser, "stream_renderer": StreamRenderer}
"""Required base classes, by the name of the field. Each of these fields may contain a class in place of a function; the
class must then be derived from this base class.
"""
_PERHAPS: Mapping[str, tuple[str, ...]] = {
    "read_path": ("path", "query"),
    "write_path": ("request",),
    "answer_type": ("request",),
    "referenced": ("request", "answers"),
    "is_client": ("path", "headers"),
    "count_tokens": ("model", "document"),
    "environment": ("base_url", "api_key", "model"),
}
"""For each field that is a function or None: the argument names of the function."""


def check_record(record: Any) -> None:
    """Raise an error if a field of the `Dialect` is invalid.

    The field `sdk` and the return values of the functions are not checked here.
    """
    for name, rule in _FACTS.items():
        _check(record, name, getattr(record, name), rule)
    if record.read_path is None:
        for name, bases in (("route", ("", "/v1")), ("base_path", (record.base_path,))):
            if any(is_endpoint_path(f"{base}{record.route}") for base in bases):
                own = ", ".join(ENDPOINT_PATHS)
                problem = f"must not form a path that the endpoint itself uses ({own}, /rollout/…, …)"
                raise _wrong(ValueError, record, name, problem, getattr(record, name))
    for functions in (_FUNCTIONS, _PERHAPS):
        for name, arguments in functions.items():
            function, kind = getattr(record, name), _CLASSES.get(name)
            if function is None and functions is _PERHAPS:
                continue
            what = f"a function of ({', '.join(arguments)})"
            taken = callable(function) and takes(function, len(arguments))
            if kind is not None and isinstance(function, type):
                if not issubclass(function, kind) or inspect.isabstract(function):
                    what, taken = f"a complete subclass of {kind.__name__}", False
            elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                what, taken = f"{what} that is not async", False
            if not taken:
                raise _wrong(TypeError, record, name, f"must be {what}", function)


def check_headers(record: Any) -> Mapping[str, str]:
    """Return the headers that `record.key_headers` returns for a sample key.

    Raise an error if these headers are invalid.
    """
    key = f"{OWN_TEXT}a-sample-of-a-key"
    headers: Mapping[str, str] = record.key_headers(key)
    _check(record, "key_headers", headers, _HEADERS, "must return")
    if not {key}.issuperset(own_keys_in("\n".join(headers.values()))):
        problem = "must not put a letter, digit, `-` or `_` directly after the key"
        raise _wrong(ValueError, record, "key_headers", problem, headers)
    return headers


def check_client(record: Any, kind: type) -> None:
    if record.sdk is not None and not isinstance(record.sdk, kind):
        raise _wrong(TypeError, record, "sdk", f"must be a {kind.__name__} or None", record.sdk)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _check(record: Any, name: str, value: object, rule: _Rule, verb: str = "must be") -> None:
    if not rule.is_type(value):
        raise _wrong(TypeError, record, name, f"{verb} {rule.what}", value)
    if not rule.is_one(value):
        raise _wrong(ValueError, record, name, f"{verb} {rule.what}", value)


def _wrong(kind: type[Exception], record: Any, name: str, what: str, value: object) -> Exception:
    return kind(f"`{name}` of the dialect {record.name!r} {what}, not {described(value)}")
