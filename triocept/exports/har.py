"""Write HAR 1.2, the HTTP archive format of browsers, with a page for each rollout and an entry for each turn.

If a trace was recorded with `record_wire=True`, it contains the bytes of each call, without keys. The entries then
contain these bytes, too. Any other trace contains only the content of the calls. Then the turn's dialect writes request
and answer anew, and a comment in the entry mentions this.

HAR requires every field, even if its value is unknown. An unknown value is written as -1, "" or [].
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import IO

from .._canonical.content import Json
from .._canonical.events import events_of
from .._canonical.response import Response
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError
from .._trace.wire import WireView
from ..dialects import Dialect, Failure, dialect
from ..dialects._clock import answered_at
from ..dialects.kit import encode_json
from ..errors import DialectError
from ._shared import Loss, Losses, Lost, count_lost, ended_at, iso_time

RENDERED = (
    "rendered by the dialect from the recorded turn: headers, URL and bytes differ from those on the wire"
)
AS_IT_WENT = "recorded as it went over the wire, but without keys"
NOT_RECEIVED = "no client was connected to receive the answer"
CUT = "incomplete: cut after 8 MiB, or omitted by the recorder"
UNSAID = "the dialect cannot write this from the recorded turn"
NOWHERE = "http://triocept.invalid"
"""URL that is written for a call whose URL was not recorded. RFC 6761 reserves its domain, so it never resolves."""
_LOST = (
    *(Lost.SERVICE_CALLS, Lost.CONVERSATIONS, Lost.TOKENS, Lost.SCORES, Lost.METADATA, Lost.NOTES),
    Lost.INCREMENTS,
)
_UPGRADED = 101
"""HTTP status of an upgrade. If a call has this status, it was sent over a websocket."""
BODIES = Loss("body that its dialect cannot write", "bodies that their dialects cannot write")


def har_log(traces: Iterable[Trace], losses: Losses | None = None) -> dict[str, Json]:
    """Return the traces as one HTTP archive: `{"log": {"pages": […], "entries": […]}}`.

    Args:
        traces: traces of any number of rollouts.
        losses: counter of content that the archive cannot express; None means that such content is not counted.
    """
    losses = losses if losses is not None else Losses()
    pages, entries = [], []
    for number, trace in enumerate(traces):
        count_lost(losses, trace, *_LOST)
        page = f"{trace.rollout}-{trace.run or number}"
        pages.append(
            {
                "startedDateTime": iso_time(min((turn.started_at for turn in trace), default=0.0)),
                "id": page,
                "title": f"rollout {trace.rollout}",
                "pageTimings": {},
                "comment": "sealed" if trace.sealed else "not sealed: turns may be missing",
            }
        )
        entries += [{**_entry(turn, losses), "pageref": page} for turn in trace]
    entries.sort(key=lambda entry: entry["startedDateTime"])
    creator = {"name": "triocept", "version": version("triocept")}
    return {"log": {"version": "1.2", "creator": creator, "pages": pages, "entries": entries}}


def write_har(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    file.write(encode_json(har_log(traces, losses)) + b"\n")


def _entry(turn: Turn, losses: Losses) -> dict[str, Json]:
    try:
        spoken: Dialect | None = dialect(turn.dialect)
    except ValueError:  # the dialect of a program that is not installed
        spoken = None
    first = turn.first_event if turn.first_event is not None else turn.duration
    how = AS_IT_WENT if turn.wire is not None else RENDERED
    if turn.wire is not None:
        wire = turn.wire
        response = _received(wire.status or 0, wire.answer_headers, wire.answer, wire.answer_size)
    elif (raw := turn.raw) is not None:
        response = _received(
            raw.status or 0, raw.headers, b"".join([data for _, data in raw.pieces]), raw.size
        )
    else:
        status = (
            200 if turn.outcome == "answered" else turn.error.status or 0 if turn.error is not None else 0
        )
        with answered_at(ended_at(turn)):
            kind, text, comment = _answer(turn, spoken, status)
        losses.add(BODIES, bool(comment))
        size = len(text.encode())
        content = {"size": size, "mimeType": kind or "x-unknown", "text": text, "comment": comment}
        response = _response_document(status, {"content-type": kind} if kind else {}, content, size)
    frames: dict[str, Json] = {}
    if turn.wire is not None and turn.wire.status == _UPGRADED:
        # as browsers write them; the times of single frames are unknown
        ended = turn.started_at + turn.duration
        sent = [("send", turn.wire.body, turn.started_at)]
        sent += [("receive", frame, ended) for frame in turn.wire.answer.splitlines()]
        messages = [
            {"type": kind, "time": time, "opcode": 1, "data": data.decode(errors="replace")}
            for kind, data, time in sent
        ]
        frames = {"_resourceType": "websocket", "_webSocketMessages": messages}
    return {
        "startedDateTime": iso_time(turn.started_at),
        "time": turn.duration * 1000,
        "request": _sent(turn.wire) if turn.wire is not None else _request(turn, spoken, losses),
        "response": response,
        "cache": {},
        "timings": {"send": 0, "wait": first * 1000, "receive": (turn.duration - first) * 1000},
        "comment": f"turn {turn.number} ({turn.id}), {turn.outcome}; {how}",
        **frames,
    }


def _request(turn: Turn, spoken: Dialect | None, losses: Losses) -> dict[str, Json]:
    """Return the request of a turn in HAR's form. The turn's dialect writes the body from the recorded request."""
    path = spoken.base_path + spoken.path(turn.request) if spoken is not None else f"/{turn.dialect}"
    text, comment = "", f"{UNSAID}: this program does not know the dialect {turn.dialect}"
    try:
        if spoken is not None:
            text, comment = encode_json(spoken.render_request(turn.request)).decode(), ""
    except DialectError as exc:
        comment = f"{UNSAID}: {exc}"
    if comment:
        losses.add(BODIES)
    kind = "application/json"
    data = {"mimeType": kind, "text": text, **({"comment": comment} if comment else {})}
    url = f"{NOWHERE}/rollout/{turn.rollout}{path}"
    return _request_document("POST", url, {"content-type": kind}, data, len(text.encode()))


def _sent(wire: WireView) -> dict[str, Json]:
    host = wire.headers.get("host")
    text, is_text = _as_text(wire.body)
    comments = [] if is_text else ["the text is base64"]
    comments += [CUT] if wire.body_size > len(wire.body) else []
    kind = wire.headers.get("content-type", "application/json")
    data = {"mimeType": kind, "text": text, "comment": "; ".join(comments)}
    url = f"http://{host}{wire.url}" if host else f"{NOWHERE}{wire.url}"
    return _request_document(wire.method, url, wire.headers, data, wire.body_size)


def _request_document(
    method: str, url: str, headers: Mapping[str, str], data: dict[str, Json], size: int
) -> dict[str, Json]:
    pairs = (pair.partition("=") for pair in url.partition("?")[2].split("&") if pair)
    return {
        "method": method,
        "url": url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [{"name": name, "value": value} for name, value in headers.items()],
        "queryString": [{"name": name, "value": value} for name, _, value in pairs],
        "postData": data,
        "headersSize": -1,
        "bodySize": size,
    }


def _received(status: int, headers: Mapping[str, str], data: bytes, size: int) -> dict[str, Json]:
    text, is_text = _as_text(data)
    content = {"size": size, "mimeType": headers.get("content-type", "x-unknown"), "text": text}
    if not is_text:
        content["encoding"] = "base64"
    if size > len(data):
        content["comment"] = CUT
    return _response_document(status, headers, content, size)


def _response_document(
    status: int, headers: Mapping[str, str], content: dict[str, Json], size: int
) -> dict[str, Json]:
    return {
        "status": status,
        "statusText": HTTPStatus(status).phrase if status in list(HTTPStatus) else "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [{"name": name, "value": value} for name, value in headers.items()],
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": size,
        "comment": "" if status else NOT_RECEIVED,
    }


def _as_text(data: bytes) -> tuple[str, bool]:
    """Return a body as text, and True. If the body is not UTF-8, return it encoded as base64, and False."""
    try:
        return data.decode(), True
    except UnicodeDecodeError:
        return b64encode(data).decode(), False


def _answer(turn: Turn, spoken: Dialect | None, status: int) -> tuple[str, str, str]:
    """Return the content type of an answer, its text as the dialect writes it, and a comment.

    If the dialect cannot write the answer, the comment contains the reason; otherwise it is empty.
    """
    if spoken is None:
        return "", "", f"{UNSAID}: this program does not know the dialect {turn.dialect}"
    try:
        if turn.response is not None and turn.request.stream:
            return spoken.stream_type(turn.request), _streamed(turn, turn.response, spoken), ""
        if turn.response is not None and turn.outcome == "answered":
            document = spoken.render_response(turn.response, turn.request)
            return "application/json", encode_json(document).decode(), ""
        if turn.error is not None and status:
            failure = _failure(turn, turn.error, status)
            return "application/json", encode_json(spoken.render_error(failure)).decode(), ""
    except DialectError as exc:
        return "", "", f"{UNSAID}: {exc}"
    return "", "", ""


def _streamed(turn: Turn, response: Response, spoken: Dialect) -> str:
    """Return the text of a streamed answer. If the stream was cut off, return the part that was sent, and the error."""
    renderer = spoken.stream_renderer(turn.request)
    events = list(events_of(spoken.streamed(response)))
    if turn.outcome == "answered":
        return b"".join(map(renderer.render, events)).decode()
    sent = b"".join(map(renderer.render, events[:-1]))
    error = turn.error
    if error is not None:
        sent += renderer.fail(_failure(turn, error, error.status or 500))
    return sent.decode()


def _failure(turn: Turn, error: TurnError, status: int) -> Failure:
    """Return the failure that the agent received, with a request id that is the same in every export."""
    return Failure(status=status, message=error.message, headers={"request-id": f"req_{turn.id}"})
