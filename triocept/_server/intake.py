"""The function `intake`, which answers a model call. It does not depend on ASGI or Quart.

The steps follow the order of the bytes: method, key, size, body, JSON, dialect; then the exchange; then the answer.
Every error in these steps is sent in the dialect's form, is logged once without the key, and affects no other exchange.

Before these steps, the path of the request is parsed: the rollout's prefix, then the dialect's usual path, with or
without `/v1`. This happens before the key is checked. So the cache of parsed paths stays small whatever clients send,
and contains no query that could contain a key.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from urllib.parse import parse_qs, unquote

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .._canonical.resent import LEAST, Conversation
from .._canonical.response import Response
from .._rollout.answer import ClientGone
from .._rollout.registry import Registry
from .._rollout.rollout_state import RolloutState
from .._trace.conversation import CallKind
from .._trace.wire import WireLog
from .._util.limits import EndpointLimits
from ..dialects import Dialect, Target
from ..errors import DialectError, Refusal
from .admission import Admission, Share
from .delivery import deliver, write_failure
from .documents import LARGE, Remembering, check_values, read_body, read_large, read_unrepaired
from .encoding import decoded
from .failure import TakeFault, failure_of, failure_of_fault
from .notices import shown
from .tapped import TappedTransport, shown_url
from .transport import GONE, BodyTooLarge, Head, Transport

log = logging.getLogger("triocept.endpoint")

KEY_NAMES = ("x-api-key", "x-goog-api-key", "api-key")
"""Headers besides `Authorization` that hold a key on every route and in every dialect: Anthropic's, Google's, Azure's.

A dialect may define further headers (`Dialect.key_names`).
"""
KEY_HEADERS = frozenset({"authorization", *KEY_NAMES, "proxy-authorization", "cookie"})
"""Headers that may hold a key. Programs do not receive their values."""
_SENT_ONCE = ("authorization", *KEY_NAMES)
"""Headers whose repeated values are joined, so that none of the keys is valid: a proxy may have checked another."""
_KEY_PLACES = frozenset(_SENT_ONCE)
"""Headers that hold a key in every dialect."""
REDACTED = "[redacted]"
OVER_LIMITS = frozenset({408, 413, 429, 431, 503})
"""Statuses that a client can cause as often as it likes. Each is logged at most once a minute."""
REFUSALS_OF_A_ROLLOUT = 10
"""Maximum log lines a minute for any other status of one rollout. They may be about different faults of its agent."""
BOTH_LENGTHS = "a request must have a Content-Length or a Transfer-Encoding, not both"
LINGER = 5.0
"""Seconds for which the rest of a body is read and discarded if its request was answered early."""

_FEW = 16 * 1024
"""Maximum bytes of new items that are parsed without counting them."""
_LONGEST_KEPT = 128
"""Maximum characters of a path that is kept in the cache. Real paths have some 50."""
_KEPT_QUERIES = frozenset({"", "beta=true", "alt=sse"})
"""The queries that are kept in the cache: those of Claude Code and of the Gemini SDKs."""
_decode = msgspec.json.Decoder().decode
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_PREFIX = re.compile(r"/rollout/(?P<id>[^/]+)(?P<rest>/.*)?", re.DOTALL)


@dataclass(frozen=True)
class Route:
    """The parsed path of a model call: its dialect, its target, its rollout."""

    dialect: Dialect
    target: Target
    rollout_id: str | None
    """The rollout's id in the path; None if only the key selects the rollout."""
    kind: CallKind | None = None
    """The kind of the call, if the path implies it: a call to `…/model` comes from a tool."""


class Routes:
    """Parses the paths of model calls in the given dialects."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self.dialects = tuple(dialects)
        self._match = partial(_match, self.dialects)
        self._match_again = lru_cache(maxsize=4096)(self._match)

    def match(self, path: str, query: str) -> Route | None:
        """Return the route of a model call. Return None if the path is not that of a model call."""
        if len(path) <= _LONGEST_KEPT and query in _KEPT_QUERIES:
            return self._match_again(path, query)
        return self._match(path, query)


def _match(dialects: Sequence[Dialect], path: str, query: str) -> Route | None:
    rollout_id, rest = split_rollout(path)
    if rest == "/model":
        asked = asked_dialect(query)
        asking = next((dialect for dialect in dialects if dialect.name == asked), None)
        return Route(asking, Target(), rollout_id, "tool") if asking is not None else None
    for dialect in dialects:
        if (target := dialect.match(rest, query)) is not None:
            return Route(dialect, target, rollout_id)
    return None


def asked_dialect(query: str) -> str:
    """Return the dialect that the query of a service call names (`?dialect=…`). Default: `openai_chat`."""
    return parse_qs(query).get("dialect", ["openai_chat"])[-1]


def split_rollout(path: str) -> tuple[str | None, str]:
    """Split a path into the rollout's id, or None, and the path without the prefix of the rollout."""
    if match := _PREFIX.fullmatch(path):
        return match["id"], match["rest"] or "/"
    return None, path


def path_of(target: str) -> str:
    """Return the decoded path in the target of a request line, without the query.

    The target may be an absolute URL (RFC 9112, 3.2.2). If a slash in the rollout's prefix is percent-encoded, the path
    is not decoded, so that it matches no route. Otherwise such a path could bypass the path rules of a proxy.
    """
    target = _ABSOLUTE.sub("", target, count=1) if target[:4].lower() == "http" else target
    path = unquote(target) or "/"
    if _PREFIX.match(path) and [unquote(each) for each in target.split("/", 3)] != path.split("/", 3):
        return target
    return path


async def intake(
    route: Route,
    head: Head,
    transport: Transport,
    registry: Registry[RolloutState],
    max_body: int,
    admission: Admission,
) -> None:
    """Answer one model call. Cancellation: abandons the exchange and closes its connection."""
    rollout: RolloutState | None = None
    share: Share | None = None
    wire: WireLog | None = None
    try:
        if head.method != "POST":
            raise Refusal(405, f"{head.path} takes POST, not {head.method}", should_retry=False)
        rollout = _rollout_of_only_key(head, registry, route)
        if rollout is None:
            rollout = authenticate(head, registry, route.rollout_id, (route.dialect,))
        if rollout.record_wire:
            shown_headers = redacted(head.headers, rollout, route.dialect)
            wire = WireLog(head.method, shown_url(head, rollout.api_key, REDACTED), shown_headers)
            transport = TappedTransport(transport, wire)
        share = Share(admission.waiting, rollout)
        document, owner = await _read_call(head, transport, max_body, route.dialect, rollout, share)
        if route.kind is not None and isinstance(document, dict):
            document.setdefault("model", rollout.model)  # a tool may leave the model's name out
        if share.bytes <= LARGE or (isinstance(owner, Conversation) and owner.fresh <= _FEW):
            request = route.dialect.parse_request(document, route.target, owner.memory)
        else:
            request = await read_large(route.dialect, document, route.target, rollout, owner)
        request = whole_request(request, route.dialect, rollout)
    except ClientGone:
        return
    except GONE:
        raise
    except (Refusal, DialectError, BodyTooLarge) as exc:
        failure = failure_of(exc, max_body)
        said = f"{head.method} {shown(head.path)}: {failure.status} {shown(failure.message)}"
        registry.note_refusal(rollout.id if rollout is not None else route.rollout_id, said)
        if rollout is None or failure.status in OVER_LIMITS:
            admission.notices.warn(f"refused {failure.status}", "%s", said)
        else:
            kind = f"refused {failure.status} of {rollout.id}"
            admission.notices.warn(kind, "%s", said, most=REFUSALS_OF_A_ROLLOUT)
        await write_failure(failure, route.dialect, transport, _take_fault_of(rollout))
        return
    except Exception as exc:
        if rollout is None:
            log.exception("%s %s failed", head.method, shown(head.path))
        else:
            rollout.take_fault(exc)
        await write_failure(failure_of_fault(exc), route.dialect, transport, _take_fault_of(rollout))
        return
    finally:
        if share is not None and (share.bytes or admission.waiting.first):
            share.release()
    await rollout.answer_call(
        request,
        partial(deliver, request=request, dialect=route.dialect, transport=transport),
        raw=document,
        headers=redacted(head.headers, rollout, route.dialect),
        query=head.query,
        kind=route.kind,
        wire=wire,
    )


def _take_fault_of(rollout: RolloutState | None) -> TakeFault | None:
    return None if rollout is None else rollout.take_fault


def _rollout_of_only_key(head: Head, registry: Registry[RolloutState], route: Route) -> RolloutState | None:
    """Return the rollout of a request with just one key, if this key is valid.

    Return None if `authenticate` must decide.
    """
    headers = head.headers
    places = headers.keys() & _key_places(route.dialect)
    if len(places) != 1:
        return None
    (name,) = places
    key = headers[name]
    if name == "authorization" and key[:7] == "Bearer ":
        return registry.authenticate(key[7:].strip(), route.rollout_id)
    return registry.authenticate(key, route.rollout_id) if name in KEY_NAMES else None


def authenticate(
    head: Head, registry: Registry[RolloutState], rollout_id: str | None, dialects: Iterable[Dialect] = ()
) -> RolloutState:
    """Return the rollout whose key the request contains. Headers for keys that `dialects` define are read, too.

    Raises:
        Refusal: 401 if the key is not valid here, or if there are keys of two rollouts; 400 if one header has several
            keys; 503 if the endpoint is stopping.
    """
    _, key = next(_keys(head, dialects), ("", None))
    rollout = registry.authenticate(key, rollout_id)
    places = _KEY_PLACES.union(*map(_key_places, dialects))
    if rollout is not None and len(head.headers.keys() & places) == 1:
        return rollout  # the usual case
    _check_sent_once(head)
    if rollout is None:
        raise _endpoint_stops() if registry.closing else _wrong_key(head, key, rollout_id, dialects)
    _check_other_keys(head, dialects, rollout, registry)
    return rollout


@lru_cache(maxsize=64)
def _key_places(dialect: Dialect) -> frozenset[str]:
    """Return the names of all headers that can contain a key in this dialect."""
    return _KEY_PLACES | dialect.key_names


@lru_cache(maxsize=64)
def _hidden_headers(dialect: Dialect) -> frozenset[str]:
    """Return the names of the headers whose values the program must not see, because they can contain keys."""
    return KEY_HEADERS | dialect.key_names


def _check_sent_once(head: Head) -> None:
    """Raise a Refusal (400) if a header contains several keys. Commas in other `Authorization` schemes are allowed."""
    for name in _SENT_ONCE:
        value = head.headers.get(name, "")
        if "," in value and (name in KEY_NAMES or "\n" in value or value[:7].lower() == "bearer "):
            raise Refusal(400, f"the header '{name}' contains several keys: send one key", should_retry=False)


def _check_other_keys(
    head: Head, dialects: Iterable[Dialect], rollout: RolloutState, registry: Registry[RolloutState]
) -> None:
    """Raise a Refusal (401) if the request also contains another rollout's key. A proxy may have checked only that."""
    (first, key), *others = _keys(head, dialects)
    for name, other in others:
        if other != key and _opened(other, registry) not in (None, rollout):
            message = f"the headers '{first}' and '{name}' contain keys of two rollouts: send one key"
            raise Refusal(401, message, should_retry=False)


def authenticate_state(head: Head, registry: Registry[RolloutState], rollout_id: str | None) -> RolloutState:
    """Return the rollout whose state key the request contains.

    Raises:
        Refusal: 401 if the key is not a state key here (an agent's key is not), or if there are keys of two rollouts;
            400 if one header has several keys; 404 if the key is that of an agent whose rollout has no state; 503 if
            the endpoint is stopping.
    """
    _check_sent_once(head)
    _, key = next(_keys(head), ("", None))
    rollout = registry.authenticate_state(key, rollout_id)
    if rollout is None and registry.closing:
        raise _endpoint_stops()
    if rollout is None:
        asking = registry.authenticate(key, rollout_id)
        if asking is not None and asking.state_key is None:
            text = f"rollout {asking.id} has no state: give open_rollout its initial value, state=…"
            raise Refusal(404, text, should_retry=False)
        text = "this API key is not a state key of this endpoint: send the rollout's state_key"
        raise Refusal(401, text, should_retry=False)
    _check_other_keys(head, (), rollout, registry)
    return rollout


def rollout_of_key(
    head: Head, registry: Registry[RolloutState], dialects: Iterable[Dialect]
) -> RolloutState | None:
    """Return the rollout whose key or state key the request contains. Return None if it contains no valid key."""
    return next((_opened(key, registry) for _, key in _keys(head, dialects)), None)


def _opened(key: str, registry: Registry[RolloutState]) -> RolloutState | None:
    return registry.authenticate(key, None) or registry.authenticate_state(key, None)


def _endpoint_stops() -> Refusal:
    return Refusal(503, "the endpoint is shutting down", should_retry=False)


def _wrong_key(head: Head, key: str | None, rollout_id: str | None, dialects: Iterable[Dialect]) -> Refusal:
    if several := next((name for name in _SENT_ONCE if "," in head.headers.get(name, "")), None):
        return Refusal(400, f"the header '{several}' contains several keys: send one key", should_retry=False)
    where = f"rollout {rollout_id!r}" if rollout_id is not None else "any rollout"
    if key:
        message = f"this API key does not open {where} here: it is wrong, or its rollout has ended"
        return Refusal(401, message, should_retry=False)
    given = head.headers.get("authorization", "").strip()
    note = ""  # without the value, which may be a key
    if given.lower() == "bearer":
        note = " ('Authorization: Bearer' was sent without a key)"
    elif given:
        note = " (an 'Authorization' was sent, with a scheme other than Bearer)"
    own = dict.fromkeys(name for dialect in dialects for name in sorted(dialect.key_names))
    names = [f"'{name}'" for name in (*(name for name in own if name not in KEY_HEADERS), *KEY_NAMES)]
    message = (
        f"no API key{note}: send the key of {where} of this endpoint as 'Authorization: Bearer …', "
        f"{', '.join(names[:-1])} or {names[-1]}"
    )
    return Refusal(401, message, should_retry=False)


def _keys(head: Head, dialects: Iterable[Dialect] = ()) -> Iterator[tuple[str, str]]:
    """Yield each key of a request with the name of its header. The first key decides which rollout gets the request."""
    headers = head.headers
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    is_bearer, token = scheme.lower() == "bearer", token.strip()
    if is_bearer and token:
        yield "authorization", token
    for name in KEY_NAMES:
        if key := headers.get(name):
            yield name, key
    for dialect in dialects:
        if (own := _own_key(dialect, headers)) and not (is_bearer and own == token):
            yield next(name for name in dialect.key_names if own in headers.get(name, "")), own
    if scheme and not token and not is_bearer:  # the key alone, as curl users first try it
        yield "authorization", scheme


def _own_key(dialect: Dialect, headers: Mapping[str, str]) -> str | None:
    """Return the key in the header that the dialect itself defines for keys.

    Return None if the header is an `Authorization` with another scheme, or with a scheme only.
    """
    key = dialect.key_in(headers)
    return key if key is not None and " " not in key and key.lower() != "bearer" else None


async def read_document(
    head: Head,
    sender: Transport,
    max_body: int,
    limits: EndpointLimits,
    share: Share,
    *,
    optional: bool = False,
) -> Json:
    """Receive the body of a request and return its decoded JSON. Its bytes count in `share` until they are released.

    If `optional` is True and the body is empty, return None.

    Raises:
        BodyTooLarge, ClientGone, Refusal, DialectError: the body is incomplete, is not JSON, or exceeds a limit.
    """
    body = await _receive(head, sender, max_body, limits, share, optional=optional)
    return None if optional and not body else await _decoded_body(body, limits)


async def _read_call(
    head: Head, sender: Transport, max_body: int, dialect: Dialect, rollout: RolloutState, share: Share
) -> tuple[Json, Remembering]:
    """Return the JSON in a model call's body, and the owner of the memory for its parse; raise as `read_document`.

    Of a body that repeats an earlier one, only the new part is decoded.
    """
    limits, headers = rollout.addresses.limits, head.headers
    if "transfer-encoding" in headers or "content-encoding" in headers:
        body = await _receive(head, sender, max_body, limits, share)
    else:  # without another coroutine, as nearly all calls
        body = await sender.receive_body(max_body, share)
    if len(body) < LEAST:
        if len(body) <= limits.document_items:
            try:
                return _decode(body), rollout
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass  # `read_body` repairs it, or raises with the fault and its position
        return await read_body(body, limits.document_items), rollout
    if (found := rollout.bodies.read(body, dialect.transcript, limits.document_items)) is not None:
        return found
    marks = await check_values(body, limits.document_items)
    document = await read_unrepaired(body)
    if document is None:
        return await read_body(body, limits.document_items), rollout
    return document, rollout.bodies.keep(body, dialect.transcript, document, marks) or rollout


async def _receive(
    head: Head,
    sender: Transport,
    max_body: int,
    limits: EndpointLimits,
    share: Share,
    *,
    optional: bool = False,
) -> bytes:
    """Return the bytes of a request's body, without its compression."""
    # Two framings, which is how requests are smuggled (RFC 9112, 6.3); h11 accepts them.
    if "transfer-encoding" in head.headers and "content-length" in head.headers:
        raise Refusal(400, BOTH_LENGTHS, should_retry=False)
    body = await sender.receive_body(max_body, share)
    if (encoding := head.headers.get("content-encoding")) and (body or not optional):
        body = await decoded(body, encoding, min(max_body, limits.decoded_bytes))
        share.add(len(body))
    return body


async def _decoded_body(body: bytes, limits: EndpointLimits) -> Json:
    if len(body) <= min(LARGE, limits.document_items):  # the usual case
        try:
            return _decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass  # `read_body` repairs it, or raises with the fault and its position
    return await read_body(body, limits.document_items)


def whole_request(request: Request, dialect: Dialect, rollout: RolloutState) -> Request:
    """Return the request with the earlier messages or items added to which it refers by id.

    Raises:
        Refusal: the rollout has no response with such an id. The dialect defines the status (`lost_status`).
    """
    if dialect.referenced is not None:
        request = dialect.referenced(request, _answers(rollout, request.dialect))
    if request.previous_response is None:
        return request
    turn = rollout.trace.answer(request.previous_response)
    if turn is None or turn.response is None:
        raise Refusal(
            dialect.lost_status,
            f"there is no response {request.previous_response!r} in this rollout",
            should_retry=False,
            code="previous_response_not_found",
        )
    turn = rollout.records.as_given(turn)
    assert turn.response is not None
    return dialect.continued(request, turn.request, turn.response)


def _answers(rollout: RolloutState, dialect: str) -> Iterator[tuple[Request, Response]]:
    """Yield request and response of each answered turn in this dialect. The newest turn comes first."""
    for recorded in reversed(tuple(rollout.trace)):
        turn = rollout.records.as_given(recorded)
        if turn.outcome == "answered" and turn.response is not None and turn.dialect == dialect:
            yield turn.request, turn.response


def text_headers(headers: Sequence[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Return headers as text, by lower-case name.

    If a name occurs several times, only the last value counts. The values of a header for keys are joined with a comma
    and a line break, which a single value cannot contain.
    """
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    if len(found) < len(headers):
        for sought in _SENT_ONCE:
            values = [value.decode("latin-1") for name, value in headers if name.lower() == sought.encode()]
            if len(values) > 1:
                found[sought] = ",\n".join(values)
    return found


def redacted(
    headers: Mapping[str, str], rollout: RolloutState, dialect: Dialect | None = None
) -> Mapping[str, str]:
    """Return the headers without keys, as the program gets them.

    The value of a header is replaced by `[redacted]` if the header may contain a key, in any dialect or in this one, or
    if the value contains the rollout's key.
    """
    hidden = KEY_HEADERS if dialect is None else _hidden_headers(dialect)
    key = rollout.api_key
    return {name: REDACTED if name in hidden or key in value else value for name, value in headers.items()}
