"""What tells a task from every other one, today and when the run is resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from numbers import Integral
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from ..._canonical.given import no_number_at
from ..._util.checks import described
from ..._util.unicode import mended

TaskKey: TypeAlias = Callable[[Any], str | int]
"""`(task) -> what tells it from every other one`, in every run of the program."""


class Key(msgspec.Struct, frozen=True):
    """How a task is known."""

    place: str
    """What a message calls it."""
    key: str
    digest: str | None
    """Of the task, if it may not change under this key; None: a function said the key, or it is not JSON."""
    data: bytes | None
    """The task as JSON; None: it is none."""


def key_of(task: object, place: str, own: TaskKey | None = None) -> Key:
    """The key of a task: what `own` says, else its `id` (of a mapping the member, else the attribute), else a digest of
    it.

    Args:
        place: what a message calls it.

    Raises:
        TypeError: it has no id, and is not JSON; or its id is no text and no whole number.
    """
    try:
        data = json_of(task, place)
    except TypeError as exc:
        data, why = None, exc
    digest = None if data is None else sha256(data).hexdigest()[:32]
    given = own(task) if own is not None else _id_of(task)
    if given is None and own is None:
        if digest is None:
            raise TypeError(
                f"{why}; so nothing tells {place} when the run is resumed: give it an `id`, or the map a `key=`"
            )
        return Key(place, f"sha256:{digest}", None, data)
    if isinstance(given, bool) or not isinstance(given, (str, Integral, UUID)):
        what = "`key` said" if own is not None else "its id is"
        raise TypeError(f"{place}: a key is a text or a whole number, and {what} {described(given)}")
    return Key(place, str(given), None if own is not None else digest, data)


def _id_of(task: object) -> object:
    if isinstance(task, Mapping):
        return task.get("id")
    found = getattr(task, "id", None)
    return None if callable(found) else found


def json_of(value: object, what: str) -> bytes:
    """A value as JSON, the same bytes for the same value: what msgspec can say, and paths.

    Raises:
        TypeError: it cannot be said, or not all of it: an infinite float would be null.
    """
    try:
        try:
            data = _encoder.encode(value)
        except UnicodeEncodeError:  # half of a character, which an agent's output may have
            data = _encoder.encode(mended(msgspec.to_builtins(value, enc_hook=_path)))
        if b"null" not in data or (place := no_number_at(msgspec.to_builtins(value, enc_hook=_path))) is None:
            return data
        why = f"{place or 'it'} is no finite number"
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        why = str(exc)
    raise TypeError(f"{what} is not JSON: {described(value)} ({why})")


def _path(value: object) -> str:
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    raise TypeError(f"it has a {type(value).__module__}.{type(value).__qualname__}")


_encoder = msgspec.json.Encoder(enc_hook=_path, order="deterministic")
