"""Find the key in a request, and the rollout to which the request belongs by this key.

Rules:

1. On every route, a key is read in the same headers (`Keys.places`): `Authorization`, `x-api-key`, `x-goog-api-key`,
   `api-key`, and the headers that the endpoint's dialects define. A header's value must be the key alone, or the key in
   the usual form of this header (`Authorization: Bearer …`).
2. In these headers, in `Sec-WebSocket-Protocol`, in the query, and in the host and user of an absolute URL, every text
   that looks like a key of triocept is examined, whatever surrounds it, because a proxy in front of the endpoint may
   have read this text as the key. Such a text is found if it is unencoded, percent-encoded (once or several times), or
   in valid Basic credentials (a whole value `Basic …`). Other encodings, such as Base64 or hexadecimal, are not
   searched. All these texts must be keys of one rollout, and at least one of them must be in the usual form of its
   header. Otherwise the request is refused. A request is also refused if it contains keys of two rollouts, even if one
   of the rollouts has ended.
3. A request is refused if one of these places contains several such texts, or if a header in which a key is read occurs
   twice. The reason is that some programs read the first value, and others the last.
4. Everything else is ignored, such as keys of providers, other schemes, other headers, cookies, `Proxy-Authorization`
   and the trailers of a body.
5. The same rules decide whether the connection of a request is authenticated.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import final
from urllib.parse import unquote

from .._rollout.registry import Registry
from .._rollout.rollout_state import RolloutState
from .._util.secrets import MARK, OWN_TEXT, own_keys_in
from ..dialects import Dialect
from ..dialects._records import lowered
from ..errors import Refusal
from .transport import Head

_NAMES = ("x-api-key", "x-goog-api-key", "api-key")
"""Headers besides `Authorization` in which a key is read in every dialect. Anthropic, Google and Azure define them."""
_NOT_READ = frozenset({"proxy-authorization", "cookie"})
"""Headers that may contain secrets, but in which no key of a rollout is read."""
_PROTOCOL = "sec-websocket-protocol"
"""A header in which OpenAI's clients in browsers send a key (`openai-insecure-api-key.…`). Keys in this header are
found, but not accepted."""
_QUERY, _AUTHORITY = "?", "@"
"""Names for two parts of the URL, the query (`?`) and the host with the user (`@`), in lists of header names."""
_PARTS = {_QUERY: "the query", _AUTHORITY: "the host of the URL"}
_ENCODED_PERCENT = re.compile("%(?:25)+")


@final
class Keys:
    """Finds the rollouts of one endpoint by the keys in requests.

    Args:
        registry: the open rollouts of the endpoint.
        dialects: the dialects of the endpoint.
    """

    def __init__(self, registry: Registry[RolloutState], dialects: Iterable[Dialect]) -> None:
        self.registry = registry
        self._forms = {"authorization": "Bearer …", **dict.fromkeys(_NAMES, "…")}
        """For each header from which a key is read: the form of its value, in which `…` stands for the key."""
        self._dialects: dict[str, list[Dialect]] = {}
        """For each header: the dialects that define their own form for the value of this header."""
        for dialect in dialects:
            for name, value in lowered(dialect.key_headers("key")).items():
                form = "…".join(value.rsplit("key", 1))
                if self._forms.get(name) != form:
                    self._dialects.setdefault(name, []).append(dialect)
                self._forms.setdefault(name, form)
        self._searched = tuple(dict.fromkeys([*self._forms, _PROTOCOL, *_PARTS]))
        self.places: frozenset[str] = frozenset(self._searched).difference(_PARTS)
        """Names of the headers that are searched for keys."""
        self._hidden = self.places | _NOT_READ

    def rollout(self, head: Head, rollout_id: str | None) -> RolloutState:
        """Return the rollout whose API key the request contains. `rollout_id` is the id in the request's path, if any.

        Raises:
            Refusal: with 401 if the request has no valid key, keys of two rollouts, or a key in an unusual form for its
                header; with 400 if one header has several keys; with 503 if the endpoint is stopping.
        """
        if (rollout := self._rollout_of_only_key(head, rollout_id)) is not None:
            return rollout
        keys = self._keys_of_one(head)
        for key in keys:
            if (rollout := self.registry.authenticate(key, rollout_id)) is not None:
                return rollout
        raise _endpoint_stops() if self.registry.closing else self._wrong_key(head, keys, rollout_id)

    def rollout_of_state(self, head: Head, rollout_id: str | None) -> RolloutState:
        """Return the rollout whose state key the request contains.

        Raises:
            Refusal: see `rollout`. The status is also 401 if the key is the API key of an agent, and 404 if the rollout
                of
                the key has no state.
        """
        keys = self._keys_of_one(head)
        for key in keys:
            if (rollout := self.registry.authenticate_state(key, rollout_id)) is not None:
                return rollout
        if self.registry.closing:
            raise _endpoint_stops()
        for key in keys:
            asking = self.registry.authenticate(key, rollout_id)
            if asking is not None and asking.state_key is None:
                text = f"rollout {asking.id} has no state: pass the initial state to open_rollout as state=…"
                raise Refusal(404, text, should_retry=False)
        text = "this API key is not a state key of this endpoint: send the rollout's state_key"
        raise Refusal(401, text, should_retry=False)

    def holder(self, head: Head) -> RolloutState | None:
        """Return the rollout whose API key or state key the request contains.

        Return None if the keys in the request are invalid or ambiguous, so that the request must be refused.
        """
        try:
            return self._rollout_of_only_key(head, None) or next(
                filter(None, map(self._opened, self._keys_of_one(head))), None
            )
        except Refusal:
            return None

    def redacted(self, headers: Mapping[str, str], rollout: RolloutState) -> Mapping[str, str]:
        """Return the headers in which the program gets them: without keys.

        A value is replaced if keys are read in its header, or if the value contains the rollout's key.
        """
        hidden, key = self._hidden, rollout.api_key
        return {name: MARK if name in hidden or key in value else value for name, value in headers.items()}

    def _rollout_of_only_key(self, head: Head, rollout_id: str | None) -> RolloutState | None:
        """Return the rollout of a request that certainly contains only one key, as most requests do.

        Return None for any other request, and for an unknown key.
        """
        headers = head.headers
        places = headers.keys() & self.places
        if (
            len(places) != 1
            or _PROTOCOL in places
            or head.authority
            or (head.query and _may_hold_a_key(head.query))
        ):
            return None
        (name,) = places
        key = headers[name]
        if name == "authorization" and key[:7] == "Bearer ":
            key = key[7:].strip()
        return self.registry.authenticate(key, rollout_id)

    def _keys_of_one(self, head: Head) -> list[str]:
        """Return all texts in a request that are read as keys. All valid keys among these texts belong to one rollout.

        Raises:
            Refusal: one header has several keys, or the request has keys of two rollouts, or no key has a form that the
                endpoint accepts.
        """
        read: list[str] = []
        owners: dict[RolloutState | None, str] = {}
        """For the owner of each key in the request: the first header that contains a key of this owner. The owner is a
        rollout, or None for an invalid key."""
        is_read = False
        for name in self._searched:
            if not (value := _value(head, name)):
                continue
            shown, keys = _own_keys(value), self._read(name, value)
            if len(shown) > 1 or ("\n" in value and name in self._forms):
                raise Refusal(
                    400, f"{_place(name)} contains several keys: send only one key", should_retry=False
                )
            read += keys
            for key in shown.union(keys):
                if (owner := self._opened(key)) is not None or key in shown:
                    owners.setdefault(owner, name)
                    is_read = is_read or key in keys
        if len(owners) > 1:
            if None in owners and self.registry.closing:
                raise _endpoint_stops()
            places = " and ".join([_place(name) for name in owners.values()][:2])
            raise Refusal(
                401,
                f"{places} contain keys of two rollouts: send only the key of one rollout",
                should_retry=False,
            )
        if owners and None not in owners and not is_read:
            (name,) = owners.values()
            form = name if name in self._forms else "authorization"
            message = (
                f"{_place(name)} contains a key, but not in a form that the endpoint reads: "
                f"send the key as '{form}: {self._forms[form]}'"
            )
            raise Refusal(401, message, should_retry=False)
        return read

    def _read(self, name: str, value: str) -> list[str]:
        """Return the texts in a header that may be a key: its value, and its value without a scheme (`Bearer `)."""
        keys = [dialect.key_in({name: value}) for dialect in self._dialects.get(name, ())]
        if name == "authorization":
            scheme, _, token = value.strip().partition(" ")
            keys.append(token.strip() if scheme.lower() == "bearer" else scheme if not token else None)
        elif name in _NAMES:
            keys.append(value)
        return [key for key in dict.fromkeys(keys) if key and " " not in key and key.lower() != "bearer"]

    def _opened(self, key: str) -> RolloutState | None:
        return self.registry.authenticate(key, None) or self.registry.authenticate_state(key, None)

    def _wrong_key(self, head: Head, keys: Sequence[str], rollout_id: str | None) -> Refusal:
        where = f"rollout {rollout_id!r}" if rollout_id is not None else "any rollout"
        if keys:
            message = f"this API key is not valid for {where} of this endpoint: it is wrong, or its rollout has ended"
            return Refusal(401, message, should_retry=False)
        given = head.headers.get("authorization", "").strip()
        note = ""  # without the value, which may be a key
        if given.lower() == "bearer":
            note = " ('Authorization: Bearer' was sent without a key after it)"
        elif given:
            note = " (the header 'Authorization' was sent, but its scheme is not Bearer)"
        own = [name for name in self._forms if name != "authorization" and name not in _NAMES]
        names = [f"'{name}'" for name in (*own, *_NAMES)]
        message = (
            f"the request contains no API key{note}: send the key of {where} of this endpoint as "
            f"'Authorization: Bearer …', or in the header {', '.join(names[:-1])} or {names[-1]}"
        )
        return Refusal(401, message, should_retry=False)


def text_headers(headers: Sequence[tuple[bytes, bytes]], key_places: Iterable[str]) -> Mapping[str, str]:
    """Return the values of headers as text. The keys are the names of the headers in lower case.

    If a name occurs several times, only the last value counts. The values of a header in `key_places` are joined with a
    comma and a line break, which a single value cannot contain.
    """
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    if len(found) < len(headers):
        for sought in found.keys() & key_places:
            values = [value.decode("latin-1") for name, value in headers if name.lower() == sought.encode()]
            if len(values) > 1:
                found[sought] = ",\n".join(values)
    return found


def _place(name: str) -> str:
    return _PARTS.get(name) or f"the header '{name}'"


def _value(head: Head, name: str) -> str:
    if name == _QUERY:
        return head.query
    return head.authority if name == _AUTHORITY else head.headers.get(name, "")


def _own_keys(value: str) -> set[str]:
    """Return all texts in `value` that look like a key of triocept.

    Percent-encoded keys, and keys in Basic credentials (RFC 7617), are found, too.
    """
    if value[:5].lower() == "basic":
        with suppress(ValueError):
            value += f"\n{b64decode(value[5:] + '==').decode('latin-1')}"
    keys = set(own_keys_in(value))
    if "%" in value:  # removing each `25` decodes any number of levels in linear time
        keys.update(own_keys_in(unquote(_ENCODED_PERCENT.sub("%", value))))
    return keys


def _may_hold_a_key(query: str) -> bool:
    return OWN_TEXT in query or "%" in query


def _endpoint_stops() -> Refusal:
    return Refusal(503, "the endpoint is shutting down", should_retry=False)
