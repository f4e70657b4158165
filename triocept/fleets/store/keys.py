"""Keys: identifiers of tasks, which stay the same when a run is resumed."""

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
"""`(task) -> identifier of the task`; the identifier must be the same in every run of the program."""


class Key(msgspec.Struct, frozen=True):
    place: str
    """Name of the task in error messages."""
    key: str
    digest: str | None
    """Digest of the task's content, which must not change under this key. None if the content is not compared: the
    user's function returned the key, the key itself is the digest, or the task is not JSON."""
    data: bytes | None
    """The task as JSON; None if it is not JSON."""


def key_of(task: object, place: str, own: TaskKey | None = None) -> Key:
    """Return the key of a task: the value of `own(task)`, else the task's `id`, else a digest of the task.

    In a mapping, `id` is a member; in any other object, an attribute. Raise TypeError if the key is neither a text nor
    a whole number, or if a task without `id` is not JSON. `place` is the name of the task in messages.
    """
    try:
        data = json_of(task, place)
    except TypeError as exc:
        data, why = None, exc
    digest = None if data is None else sha256(data).hexdigest()[:32]
    given: object
    if own is not None:
        given = own(task)
    elif isinstance(task, Mapping):
        given = task.get("id")
    else:
        given = getattr(task, "id", None)
        given = None if callable(given) else given
    if given is None and own is None:
        if digest is None:
            raise TypeError(
                f"{why}, so {place} has no key for a resumed run: add an `id` to the task, or pass `key=` to the map"
            )
        return Key(place, f"sha256:{digest}", None, data)
    if isinstance(given, bool) or not isinstance(given, (str, Integral, UUID)):
        what = "`key` returned" if own is not None else "its id is"
        raise TypeError(f"{place}: a key must be a text or a whole number, but {what} {described(given)}")
    return Key(place, str(given), None if own is not None else digest, data)


def json_of(value: object, what: str) -> bytes:
    """Return `value` as JSON; equal values have equal bytes. Paths and all types that msgspec encodes are allowed.

    Raise TypeError if `value` cannot be encoded, or contains a float that is not finite. JSON would contain null in
    place of such a float.
    """
    try:
        try:
            data = _encoder.encode(value)
        except UnicodeEncodeError:  # half of a character, which an agent's output may contain
            data = _encoder.encode(mended(msgspec.to_builtins(value, enc_hook=_path)))
        if b"null" not in data or (place := no_number_at(msgspec.to_builtins(value, enc_hook=_path))) is None:
            return data
        why = f"{place or 'this value'} is not a finite number"
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        why = str(exc)
    raise TypeError(f"{what} is not JSON: {described(value)} ({why})")


def _path(value: object) -> str:
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    raise TypeError(f"it contains a {type(value).__module__}.{type(value).__qualname__}")


_encoder = msgspec.json.Encoder(enc_hook=_path, order="deterministic")
