"""The function `intake`, which answers a model call. `intake` does not depend on ASGI or Quart.

`intake` checks the method, the key and the size of the body. Then it reads the body, decodes its JSON and parses it in
the dialect. Finally it passes the call to the rollout, which answers it. Every error in these steps is sent in the
dialect's format and logged once, without the key. The error affects no other exchange.

Before these steps, the path of the request is parsed: the rollout's prefix, then the dialect's usual path, with or
without `/v1`. The path is parsed before the key is checked. Therefore the cache of parsed paths must stay small,
whatever clients send, and must not contain queries with keys.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from urllib.parse import parse_qs, unquote

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .._canonical.resent import LEAST, Conversation
from .._canonical.response import Response
from .._rollout.answer import ClientGone
from .._rollout.rollout_state import RolloutState
from .._trace.conversation import CallKind
from .._trace.wire import WireLog
from .._util.limits import EndpointLimits
from .._util.secrets import MARK
from ..dialects import Dialect, Target
from ..dialects._registry import own_dialects
from ..errors import DialectError, Refusal
from .admission import Admission, Share
from .delivery import deliver, write_failure
from .documents import LARGE, SMALL, Remembering, check_values, read_body, read_large, read_unrepaired
from .encoding import decoded
from .failure import TakeFault, failure_of, failure_of_fault
from .keys import Keys
from .notices import shown
from .tapped import TappedTransport, shown_url
from .transport import GONE, BodyTooLarge, Head, Transport

log = logging.getLogger("triocept.endpoint")

OVER_LIMITS = frozenset({408, 413, 429, 431, 503})
"""Statuses of refusals that a client can cause as often as it likes. Each of these statuses is logged at most once a
minute."""
REFUSALS_OF_A_ROLLOUT = 10
"""For each status that is not in `OVER_LIMITS`, and each rollout: maximum log lines a minute. The number is above 1,
because an agent may make several different mistakes."""
BOTH_LENGTHS = "a request must have a Content-Length or a Transfer-Encoding, not both"
LINGER = 5.0
"""Maximum seconds for which the rest of a body is received and discarded, if the request was answered before its body
was read."""

_LONGEST_KEPT = 128
"""Maximum characters of a path that is kept in the cache. Real paths have about 50 characters."""
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
    """The rollout's id in the path. None if only the key selects the rollout."""
    kind: CallKind | None = None
    """The kind of the call, if the path implies it: a call to `…/model` comes from a tool."""


class Routes:
    """Parses the paths of model calls in the given dialects."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self.dialects = tuple(dialects)
        self._match = partial(_match, self.dialects)
        self._match_again = lru_cache(maxsize=4096)(self._match)

    def match(self, path: str, query: str) -> Route | None:
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
    return parse_qs(query).get("dialect", ["openai_chat"])[-1]


def split_rollout(path: str) -> tuple[str | None, str]:
    """Split a path into the id of its rollout and the path after the rollout's prefix.

    Without a prefix, the id is None.
    """
    if match := _PREFIX.fullmatch(path):
        return match["id"], match["rest"] or "/"
    return None, path


def split_target(target: str) -> tuple[str, str]:
    """Split the target of a request line: return the decoded path without the query, and the text before the path.

    If the target is an absolute URL (RFC 9112, 3.2.2), the text before the path consists of a scheme and a host. If a
    slash in the rollout's prefix is percent-encoded, the path is not decoded, so that it matches no route. Otherwise a
    request could bypass the path rules of a proxy, which sees the encoded slash.
    """
    before = match[0] if target[:4].lower() == "http" and (match := _ABSOLUTE.match(target)) else ""
    target = target[len(before) :]
    path = unquote(target) or "/"
    if _PREFIX.match(path) and [unquote(each) for each in target.split("/", 3)] != path.split("/", 3):
        return target, before
    return path, before


async def intake(
    route: Route,
    head: Head,
    transport: Transport,
    keys: Keys,
    max_body: int,
    admission: Admission,
) -> None:
    """Answer one model call. Cancellation: abandons the exchange and closes its connection."""
    rollout: RolloutState | None = None
    share: Share | None = None
    wire: WireLog | None = None
    try:
        if head.method != "POST":
            raise Refusal(405, f"{head.path} accepts only POST, not {head.method}", should_retry=False)
        rollout = keys.rollout(head, route.rollout_id)
        if rollout.record_wire:
            shown_headers = keys.redacted(head.headers, rollout)
            wire = WireLog(head.method, shown_url(head, rollout.api_key, MARK), shown_headers)
            transport = TappedTransport(transport, wire)
        share = Share(admission.waiting, rollout)
        document, owner = await _read_call(head, transport, max_body, route.dialect, rollout, share)
        if route.kind is not None and isinstance(document, dict):
            document.setdefault("model", rollout.model)  # a tool may leave the model's name out
        if share.bytes <= SMALL or (isinstance(owner, Conversation) and owner.fresh <= SMALL):
            request = route.dialect.parse_request(document, route.target, owner.memory)
        else:
            request = await read_large(route.dialect, document, route.target, rollout, owner)
        if isinstance(owner, Conversation):
            rollout.bodies.keep(owner)
        del owner  # it has the bytes of the body, which may be dropped while the call waits
        request = whole_request(request, route.dialect, rollout)
    except ClientGone:
        return
    except GONE:
        raise
    except (Refusal, DialectError, BodyTooLarge) as exc:
        failure = failure_of(exc, max_body)
        said = f"{head.method} {shown(head.path)}: {failure.status} {shown(failure.message)}"
        keys.registry.note_refusal(rollout.id if rollout is not None else route.rollout_id, said)
        if rollout is None or failure.status in OVER_LIMITS:
            admission.notices.warn(f"refused {failure.status}", "%s", said)
        else:
            kind = f"refused {failure.status} of {rollout.id}"
            admission.notices.warn(kind, "%s", said, most=REFUSALS_OF_A_ROLLOUT)
        await write_failure(failure, route.dialect, transport, _take_fault_of(rollout))
        return
    except Exception as exc:
        if rollout is None:
            log.exception("the endpoint failed to read the request %s %s", head.method, shown(head.path))
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
        headers=keys.redacted(head.headers, rollout),
        query=head.query,
        kind=route.kind,
        wire=wire,
    )


def _take_fault_of(rollout: RolloutState | None) -> TakeFault | None:
    return None if rollout is None else rollout.take_fault


async def read_document(
    head: Head,
    sender: Transport,
    max_body: int,
    limits: EndpointLimits,
    share: Share,
    *,
    optional: bool = False,
) -> Json:
    """Receive the body of a request and return its decoded JSON.

    `share` counts the bytes of the body until `share` is released.

    If `optional` is True and the body is empty, return None.

    Raises:
        BodyTooLarge, ClientGone, Refusal, DialectError: the body is incomplete, is not JSON, or exceeds a limit.
    """
    body = await _receive(head, sender, max_body, limits, share, optional=optional)
    return None if optional and not body else await _decoded_body(body, limits)


async def _read_call(
    head: Head, sender: Transport, max_body: int, dialect: Dialect, rollout: RolloutState, share: Share
) -> tuple[Json, Remembering]:
    """Return the decoded JSON body of a model call, and the owner of the `Memory` with which it must be parsed.

    If the body repeats an earlier body, only the new part is decoded. The errors are those of `read_document`.
    """
    limits, headers = rollout.addresses.limits, head.headers
    if "transfer-encoding" in headers or "content-encoding" in headers:
        body = await _receive(head, sender, max_body, limits, share)
    else:  # nearly all calls: avoid another coroutine
        body = await sender.receive_body(max_body, share)
    if len(body) < LEAST:
        if len(body) <= limits.document_items:
            try:
                return _decode(body), rollout
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass  # `read_body` repairs it, or raises with the fault and its position
        return await read_body(body, limits.document_items), rollout
    bodies, field = rollout.bodies, dialect.transcript
    is_own = own_dialects().get(dialect.name) is dialect  # the parser of another dialect may change the items
    repeat = marks = None
    if len(body) > limits.document_items:
        repeat = bodies.find(body, field) if is_own else None
        marks = await check_values(body, limits.document_items, repeat)
    if is_own and (found := bodies.read(body, field, repeat)) is not None:
        found[1].marks = marks
        return found
    document = await read_unrepaired(body)
    if document is None:
        return await read_body(body, limits.document_items), rollout
    begun = bodies.begin(body, field, document, rollout.memory) if is_own else None
    if begun is None:
        return document, rollout
    begun.marks = marks
    return document, begun


async def _receive(
    head: Head,
    sender: Transport,
    max_body: int,
    limits: EndpointLimits,
    share: Share,
    *,
    optional: bool = False,
) -> bytes:
    """Receive the body of a request, and return its decompressed bytes."""
    # Refuse a request with both kinds of framing (request smuggling; RFC 9112, 6.3), which h11 accepts.
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
    """Return the request, completed with the earlier messages or items to which it refers by an id.

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
            f"this rollout has no response with the id {request.previous_response!r}",
            should_retry=False,
            code="previous_response_not_found",
        )
    turn = rollout.records.as_given(turn)
    assert turn.response is not None
    return dialect.continued(request, turn.request, turn.response)


def _answers(rollout: RolloutState, dialect: str) -> Iterator[tuple[Request, Response]]:
    """Yield the request and the response of each answered turn in this dialect, the newest turn first."""
    for recorded in reversed(tuple(rollout.trace)):
        turn = rollout.records.as_given(recorded)
        if turn.outcome == "answered" and turn.response is not None and turn.dialect == dialect:
            yield turn.request, turn.response
