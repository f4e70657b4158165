"""Check the answers that a program passes. Replace surrogates in the answers, because UTF-8 cannot encode surrogates.

Rules:

1. An invalid answer raises a `TypeError` (or a `ValueError` for an unknown stop reason) before a byte is sent and
   before the exchange has an outcome. The canonical types themselves check nothing, because parsers create most of
   their values, many for each call.
2. Surrogates are replaced here, so that the turn, the bytes for the agent and the trace's file contain the same text;
   see `_util/unicode`.
3. The check of an answer only reads each text and number, without a copy. Values that are not part of an answer (notes,
   metadata, results of tools) are encoded and decoded again. So the value in memory equals the value in a trace's file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from inspect import iscoroutine
from reprlib import repr as short
from typing import TypeVar, cast, get_args

import msgspec

from .._util.checks import check_mapping, check_str, unsayable
from .._util.checks import described as _described
from .._util.unicode import mended, mended_text
from .content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from .response import Response, ResponsePart, StopReason, Usage

T = TypeVar("T", bound=msgspec.Struct)

_TEXTS: dict[type, tuple[str, ...]] = {
    Text: ("text",),
    Reasoning: ("text",),
    ToolCall: ("name", "arguments", "id"),
    RefusalText: ("text",),
    Opaque: ("dialect",),
}
"""For each type of an answer's parts: the names of the fields that contain texts."""
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_MOST_TOKENS = 2**63 - 1
"""Maximum token count: the largest integer that readers in all languages accept."""
_STOP_REASONS = frozenset(get_args(StopReason))
_PARTS = ", ".join(kind.__name__ for kind in _TEXTS)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def given_response(answer: object) -> Response:
    """Check the argument of `exchange.respond`, and return it as a response.

    The argument may be a text, a part, or a response.

    Raises:
        TypeError: the argument is not an answer, or a field has the wrong type.
        ValueError: the stop reason is unknown.
    """
    if isinstance(answer, str):
        return Response((Text(mended_text(answer)),))
    if type(answer) in _TEXTS:
        return Response((given_part(answer),))
    if not isinstance(answer, Response):
        hint = "; to answer the call with this exception, raise it" if isinstance(answer, Exception) else ""
        if isinstance(answer, list | tuple):
            hint = "; for several parts, use Response.of(…)"
        elif isinstance(answer, dict):
            hint = "; for a JSON body of your own, use respond_raw"
        elif answer is None:
            hint = "; does a `return` lack its value?"
        elif iscoroutine(answer):
            answer.close()  # otherwise Python warns, too
            hint = "; await it first"
        raise TypeError(
            f"respond takes a str, a part ({_PARTS}) or a Response, not {_described(answer)}{hint}"
        )
    if not isinstance(answer.content, tuple | list):
        raise TypeError(
            f"Response.content must be a tuple of parts, not {_described(answer.content)}; use Response.of(…)"
        )
    parts = tuple([given_part(part) for part in answer.content])
    _check_end(answer)
    for name in ("id", "model", "dialect"):
        _check_text(answer, name)
    plain = answer.extra is None and (answer.usage is None or answer.usage.extra is None)
    if not plain or not f"{answer.id}{answer.model}{answer.stop_sequence}".isascii():
        answer = fit(msgspec.structs.replace(answer, content=()))  # the fields beside the content
    return msgspec.structs.replace(answer, content=parts)


def given_increment(item: object) -> ResponsePart | Event:
    """Check a non-str argument of `stream.send`, and return it. Raise the same errors as `given_response`."""
    if type(item) is PartDelta and type(item.text) is str and type(item.index) is int:
        return item  # the usual case: the match below takes three times as long
    return given_part(item) if type(item) in _TEXTS else given_event(item)


def given_part(part: object) -> ResponsePart:
    """Check a part of an answer, and return it without surrogates. Raise the same errors as `given_response`."""
    texts = _TEXTS.get(type(part))
    if texts is None:
        hint = (
            "; for a text, write Text(…), or use Response.of(…), which accepts str"
            if isinstance(part, str)
            else ""
        )
        raise TypeError(f"a part of an answer must be one of {_PARTS}, not {_described(part)}{hint}")
    plain = True
    for name in texts:
        text = getattr(part, name)
        if not isinstance(text, str):
            raise TypeError(_not_text(part, name, text))
        plain = plain and text.isascii()
    if plain and type(part) is not Opaque and part.extra is None and _blobs(part) == ():  # type: ignore[attr-defined]
        return part  # type: ignore[return-value]
    _check_extra(part)
    blobs: object = _blobs(part)
    if not isinstance(blobs, tuple | list) or not all(isinstance(blob, Blob) for blob in blobs):
        raise TypeError(f"Reasoning.blobs must be a tuple of Blobs, not {_described(blobs)}")
    return fit(part)  # type: ignore[type-var, return-value]


def given_event(event: object) -> Event:
    """Check an event of an answer, and return it. Raise the same errors as `given_response`.

    Surrogates in the text of a delta are not replaced, because `Seams` joins or replaces them later.
    """
    match event:
        case PartDelta(index=int(), text=str()) | PartEnd(index=int()):
            return event
        case ResponseEnd(stop_reason=None, stop_sequence=None, usage=None, extra=None):
            return event  # the usual case: an end without fields
        case PartStart(index=int(), part=part):
            return PartStart(event.index, given_part(part))
        case PartBlob(index=int(), blob=Blob()):
            return fit(event)
        case ResponseStart():
            for name in ("id", "model", "dialect"):
                _check_text(event, name)
            _check_usage(event.usage)
            _check_extra(event)
            return fit(event)
        case ResponseEnd():
            _check_end(event)
            return fit(event)
        case PartDelta() | PartEnd() | PartStart() | PartBlob():
            raise TypeError(f"a field of this event has the wrong type: {short(event)}")
        case _:
            raise TypeError(
                f"send takes a str, a part ({_PARTS}) or an event, not {_described(event)}; "
                "to send several parts, call send once for each part"
            )


def fit(noun: T) -> T:
    """Return a copy of `noun` without surrogates. If `noun` contains no surrogate, return `noun` itself.

    Raises:
        TypeError: a value in `noun` cannot be encoded as JSON.
    """
    try:
        try:
            _encode(noun)
        except UnicodeEncodeError:
            return msgspec.convert(mended(msgspec.to_builtins(noun)), type(noun))
        return noun
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        raise TypeError(f"{type(noun).__name__} has a value that JSON cannot encode: {exc}") from None


def fit_notes(notes: dict[str, Json]) -> dict[str, Json]:
    """Return a copy of the arguments of `exchange.annotate`, encoded as JSON and decoded again.

    If an argument cannot be encoded, the error contains the argument's name.
    """
    try:
        copy: dict[str, Json] = read_back(notes)
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        raise unsayable("annotate", notes, _encode) or exc from None
    return copy


def fit_metadata(metadata: object, name: str = "metadata") -> dict[str, Json]:
    """Return a copy of the argument `metadata` of `open_rollout`. Later changes to the original do not affect the copy.

    Args:
        metadata: a mapping of names to JSON, or None.
        name: the name of the argument in errors.

    Raises:
        TypeError: `metadata` is not a mapping of names to JSON; the error names the wrong member.
        ValueError: a number in `metadata` is infinite or NaN.
    """
    if metadata is None:
        return {}
    check_mapping(name, metadata)
    given = dict(cast(Mapping[str, Json], metadata))
    for member in given:
        check_str(f"a name in {name}", member)
    try:
        copy: dict[str, Json] = read_back(given)
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        raise unsayable(name, given, _encode) or exc from None
    if (path := no_number_at(given)) is not None:
        raise ValueError(f"{name}{path} must be a finite number: JSON has no NaN and no infinity")
    return copy


def no_number_at(value: object) -> str | None:
    """Return the path of the first number in `value` that is infinite or NaN; None if `value` contains no such number.

    The check is needed because the JSON encoder writes such a number as null.
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for name, inner in items:
        if (path := no_number_at(inner)) is not None:
            return f"[{name!r}]{path}"
    return None


def fit_json(value: Json) -> Json:
    """Return `value` without surrogates. If `value` contains no surrogate, return the same object.

    Raise the errors of the JSON encoder.
    """
    try:
        _encode(value)
    except UnicodeEncodeError:
        value = mended(value)
        _encode(value)  # a surrogate may come before a value that is not JSON
    return value


def read_back(value: Json) -> Json:
    """Encode a JSON value and decode it again. The result equals the copy that is later read from a file.

    For example, a tuple becomes a list, and a NaN becomes null.

    Raise the same errors as `fit_json`.
    """
    try:
        data = _encode(value)
    except UnicodeEncodeError:
        data = _encode(mended(value))
    return _decode(data)


def _check_end(end: Response | ResponseEnd) -> None:
    reason = end.stop_reason
    if reason is not None and reason not in _STOP_REASONS:
        raise ValueError(
            f"unknown stop reason {reason!r}; the stop reasons are {', '.join(get_args(StopReason))}"
        )
    if end.stop_sequence is not None:
        _check_text(end, "stop_sequence")
    _check_usage(end.usage)
    _check_extra(end)


def _check_usage(usage: object) -> None:
    """Raise an error if `usage` is not a `Usage`, or if a count is not a whole number from 0 to `_MOST_TOKENS`."""
    if usage is None:
        return
    if not isinstance(usage, Usage):
        raise TypeError(f"usage must be a Usage, not {_described(usage)}")
    for name in _COUNTS:
        count = getattr(usage, name)
        if type(count) is not int:
            if count is not None or name in ("input_tokens", "output_tokens"):
                raise TypeError(f"Usage.{name} must be an int, not {_described(count)}")
        elif not 0 <= count <= _MOST_TOKENS:
            raise ValueError(f"Usage.{name} must be from 0 to {_MOST_TOKENS}, not {short(count)}")
    if not isinstance(usage.estimated, bool):
        raise TypeError(f"Usage.estimated must be a bool, not {_described(usage.estimated)}")
    _check_extra(usage)


def _check_text(noun: object, name: str) -> None:
    value = getattr(noun, name)
    if not isinstance(value, str):
        raise TypeError(_not_text(noun, name, value))


def _check_extra(noun: object) -> None:
    extra = getattr(noun, "extra", None)
    if extra is not None and not isinstance(extra, dict):
        raise TypeError(f"{type(noun).__name__}.extra must be a dict, not {_described(extra)}")


def _blobs(part: object) -> tuple[Blob, ...]:
    return part.blobs if isinstance(part, Reasoning) else ()


def _not_text(part: object, name: str, value: object) -> str:
    what = f"{type(part).__name__}.{name} must be a str, not {_described(value)}"
    if isinstance(part, ToolCall) and name == "arguments":
        what += "; it must be JSON as text: ToolCall.of(name, …) converts keyword arguments to such a text"
    return what
