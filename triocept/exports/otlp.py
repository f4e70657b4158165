"""OpenTelemetry spans as a file of OTLP/JSON: a line for each rollout, as a collector's file receiver reads it.

Each line is what OTLP/HTTP takes as a body, too. The spans are those of `_spans`; `live` sends them while agents run.

Ids are made of the names of what they are of, so that the same trace has the same spans whenever it is exported, and a
child rollout's can link to its parent's.
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
    """A trace as a request of OTLP/JSON: `{"resourceSpans": […]}`.

    Args:
        trace: it.
        losses: counts what has no place in it; None: nothing is counted.
        content: messages, answers and tools are attributes of each call; that grows with the square of a
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
    """A line for each of these traces, without what was said in them."""
    for trace in traces:
        file.write(json_line(otlp_document(trace, losses)))


def write_otlp_with_content(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """The same, with what was said."""
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
    """To the call of the parent's service that opened the child, or to the parent."""
    trace_id = _trace_id(branch.rollout, branch.run)
    return {"traceId": trace_id, "spanId": _span_id(trace_id, branch.service or ROOT)}


def _attribute(name: str, value: Attribute) -> dict[str, Json]:
    return {"key": name, "value": _value(value)}


def _value(value: Attribute) -> dict[str, Json]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}  # 64 bits are a text in the JSON of protobuf
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
        case _:
            return {"stringValue": value}


def _nanoseconds(seconds: float) -> str:
    return str(round(seconds * 1_000_000) * 1000)  # a double has no more than microseconds of today


def _trace_id(rollout: str, run: str) -> str:
    return blake2b(f"{rollout}\0{run}".encode(), digest_size=16).hexdigest()


def _span_id(trace_id: str, key: str) -> str:
    return blake2b(f"{trace_id}\0{key}".encode(), digest_size=8).hexdigest()
