"""OpenTelemetry spans as a file of OTLP/JSON: a line for each rollout, as a collector's file receiver reads it.

Each line is also a valid body for OTLP/HTTP. The spans are those of `_spans`; `live` sends them while agents run.

Ids are derived from the names of their sources. So a trace has equal span ids in each export, and the spans of a child
rollout can link to those of its parent.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from importlib.metadata import version
from typing import IO

from .._canonical.content import Json
from .._trace.branch import Branch
from .._trace.trace import Trace
from . import _losses as lost
from ._lines import json_line
from ._losses import Losses
from ._spans import ROOT, Attribute, SpanData, trace_spans

_LOST = lost.SERVICE_VALUES, lost.TOKENS, lost.METADATA, lost.NOTES, lost.INCREMENTS, lost.WIRE
_SETTINGS = ("max_output_tokens", "temperature", "top_p", "top_k", "seed", "stop")
_INTERNAL, _CLIENT, _FAILED = 1, 3, 2
_KINDS = {"internal": _INTERNAL, "client": _CLIENT}


def otlp_document(trace: Trace, losses: Losses | None = None, *, content: bool = False) -> dict[str, Json]:
    """Return a trace as a request of OTLP/JSON: `{"resourceSpans": […]}`.

    Args:
        trace: the trace.
        losses: counts content without a place in the spans; None: no count.
        content: include messages, answers and tools as attributes of each call; the size grows with the square of a
            conversation's length.
    """
    losses = losses if losses is not None else Losses()
    lost.count_lost(losses, trace, *_LOST, *([] if content else [lost.CONTENT]), settings=_SETTINGS)
    trace_id = _trace_id(trace.rollout, trace.run)
    spans = [_span(span, trace_id) for span in trace_spans(trace, losses, content=content)]
    if trace.branch is not None:
        spans[0]["links"] = [_link(trace.branch)]
    scope = {"name": "triocept", "version": version("triocept")}
    resource = {"attributes": [_attribute("service.name", "triocept")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


def write_otlp(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """Write a line for each of these traces, without content."""
    for trace in traces:
        file.write(json_line(otlp_document(trace, losses)))


def write_otlp_with_content(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """Write a line for each of these traces, with content."""
    for trace in traces:
        file.write(json_line(otlp_document(trace, losses, content=True)))


def _span(span: SpanData, trace_id: str) -> dict[str, Json]:
    document: dict[str, Json] = {
        "traceId": trace_id,
        "spanId": _span_id(trace_id, span.key),
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(span.end),
        "attributes": [_attribute(name, value) for name, value in span.attributes.items()],
        "status": {"code": _FAILED, "message": span.error} if span.error is not None else {},
    }
    if span.parent is not None:
        document["parentSpanId"] = _span_id(trace_id, span.parent)
    return document


def _link(branch: Branch) -> dict[str, Json]:
    """Return a link to the parent's service call that opened the child, or to the parent."""
    trace_id = _trace_id(branch.rollout, branch.run)
    return {"traceId": trace_id, "spanId": _span_id(trace_id, branch.service or ROOT)}


def _attribute(name: str, value: Attribute) -> dict[str, Json]:
    return {"key": name, "value": _value(value)}


def _value(value: Attribute) -> dict[str, Json]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}  # protobuf's JSON writes 64-bit integers as texts
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
        case _:
            return {"stringValue": value}


def _nanoseconds(seconds: float) -> str:
    return str(round(seconds * 1_000_000) * 1000)  # a double of today's time resolves only microseconds


def _trace_id(rollout: str, run: str) -> str:
    return blake2b(f"{rollout}\0{run}".encode(), digest_size=16).hexdigest()


def _span_id(trace_id: str, key: str) -> str:
    return blake2b(f"{trace_id}\0{key}".encode(), digest_size=8).hexdigest()
