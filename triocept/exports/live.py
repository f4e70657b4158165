"""A recorder that sends OpenTelemetry spans while agents run. It needs `pip install 'triocept[otlp]'`.

Rules:

1. No agent waits for a collector: spans are put into the queue of a BatchSpanProcessor, whose thread sends them. (A
   SimpleSpanProcessor would send them in trio's own thread, and block every task.)
2. The time to close a recorder is limited. If a collector does not answer, the endpoint ends a few seconds later, and
   the unsent spans are lost.
3. A call's span is sent when the call's turn is recorded. The spans of agents, which contain the spans of calls, end
   when the rollout ends.
4. If another endpoint still uses the recorder, `aclose` sends the waiting spans, but leaves the recorder open.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any, final

import trio

from .._trace.entries import Entry, Opening
from .._trace.trace import Trace
from .._trace.turn import Branch, ServiceCall, Turn
from .._util.checks import described
from .._util.contexts import protected_methods
from ._shared import Losses, optional
from .otlp import ROOT, SpanData, agent_span, conversation_key, service_span, turn_span

log: logging.Logger = logging.getLogger("triocept.exports")

PATIENCE = 5.0
"""Maximum seconds for sending the remaining spans when the endpoint closes."""


@protected_methods
@final
class OTelRecorder:
    """A recorder that sends OpenTelemetry spans: `serve_endpoint(recorder=OTelRecorder())`.

    The spans follow OpenTelemetry's conventions for generative AI. A rollout is a trace in OpenTelemetry's sense: an
    `invoke_agent` span, with a span below it for each sub-agent that the agent's requests name, and a `chat` span for
    each turn. With `RecorderGroup([JSONLRecorder(path), OTelRecorder()])`, the calls are also recorded in a file. Only
    the file proves that no call is missing, because spans that cannot be delivered are dropped.

    Args:
        exporter: a `SpanExporter`, which is called in a thread. None means OTLP over HTTP, to the URL in
            `OTEL_EXPORTER_OTLP_ENDPOINT` (default: `http://localhost:4318`).
        content: if True, messages, answers and tools are attributes of each call's span. Each call then sends the whole
            conversation so far to the collector, which may be on another machine.

    Closing: when an endpoint ends, it closes its recorder, which shuts down the `exporter` permanently. So pass each
    endpoint its own recorder; only endpoints that run at the same time may share a recorder. A recorder that was passed
    only to a rollout is not closed automatically. Await its `aclose`; otherwise the remaining spans are lost if the
    program ends soon. A copy of a recorder (`pickle`, `copy`) has the same exporter, but no open spans.

    Raises:
        ModuleNotFoundError: the SDK is not installed; the message names the extra to install.
    """

    def __init__(self, exporter: Any = None, *, content: bool = False) -> None:
        kind = _imported("opentelemetry.sdk.trace.export").SpanExporter
        if exporter is not None and not isinstance(exporter, kind):
            raise TypeError(f"exporter must be a SpanExporter, not {described(exporter)}")
        self._exporter = exporter
        self._content = content
        self._provider: Any = None
        self._agents: dict[tuple[str, str], dict[str, Any]] = {}
        """By the pair (rollout, run): the open spans of this run, by `SpanData.key`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(OTelRecorder, self._exporter, content=self._content), ()

    async def aopen(self) -> None:
        await trio.lowlevel.checkpoint()
        self._tracer()

    async def record_entry(self, entry: Entry) -> None:
        if isinstance(entry, Opening):
            self._root(entry.rollout, entry.run, entry.at, entry.branch)

    async def record(self, turn: Turn) -> None:
        span = turn_span(turn, turn.conversation, Losses(), content=self._content)
        root = self._root(turn.rollout, turn.run, turn.started_at, turn.branch)
        spans = self._agents[turn.rollout, turn.run]
        key = conversation_key(turn.conversation)
        if key not in spans:  # the span of the agent that made this call
            trace = Trace(turn.rollout, run=turn.run, branch=turn.branch)
            spans[key] = self._begin(agent_span(trace, turn.conversation, [turn]), root)
        self._send(span, spans[key])

    async def record_service(self, call: ServiceCall) -> None:
        self._send(service_span(call), self._root(call.rollout, call.run, call.started_at))

    async def seal(self, trace: Trace) -> None:
        spans = self._agents.pop((trace.rollout, trace.run), {})
        whole = agent_span(trace, None, list(trace))
        for key, span in reversed(spans.items()):
            if key == ROOT:
                span.set_attributes(dict(whole.attributes))
            span.end(_nanoseconds(whole.end))

    async def aclose(self) -> None:
        """Send the remaining spans. This takes at most a few seconds."""
        await trio.lowlevel.checkpoint()
        provider = self._provider
        if provider is None:
            return
        if not self._agents:
            self._provider = None
        with trio.move_on_after(PATIENCE) as scope:
            send = provider.force_flush if self._agents else provider.shutdown
            await trio.to_thread.run_sync(send, abandon_on_cancel=True)
        if scope.cancelled_caught:
            log.warning("spans were not sent: the exporter did not finish within %g s", PATIENCE)

    def _tracer(self) -> Any:
        if self._provider is None:
            resource = _imported("opentelemetry.sdk.resources").Resource.create({"service.name": "triocept"})
            sdk, export = _imported("opentelemetry.sdk.trace"), _imported("opentelemetry.sdk.trace.export")
            provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
            http = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
            exporter = self._exporter or _imported(http).OTLPSpanExporter()
            provider.add_span_processor(export.BatchSpanProcessor(exporter))
            self._provider = provider
        return self._provider.get_tracer("triocept")

    def _root(self, rollout: str, run: str, start: float, branch: Branch | None = None) -> Any:
        spans = self._agents.setdefault((rollout, run), {})
        if ROOT not in spans:
            span = agent_span(Trace(rollout, run=run, branch=branch), None, [])
            spans[ROOT] = self._begin(replace(span, start=start), None)
        return spans[ROOT]

    def _begin(self, span: SpanData, around: Any) -> Any:
        api, empty = _imported("opentelemetry.trace"), _imported("opentelemetry.context").Context()
        # an empty context, so that the rollouts do not become children of a span that the program has open
        context = empty if around is None else api.set_span_in_context(around, empty)
        return self._tracer().start_span(
            span.name,
            context,
            api.SpanKind.CLIENT if span.kind == "client" else api.SpanKind.INTERNAL,
            dict(span.attributes),
            start_time=_nanoseconds(span.start),
        )

    def _send(self, span: SpanData, around: Any) -> None:
        begun = self._begin(span, around)
        if span.error is not None:
            api = _imported("opentelemetry.trace")
            begun.set_status(api.Status(api.StatusCode.ERROR, span.error))
        begun.end(_nanoseconds(span.end))


def _imported(module: str) -> Any:
    return optional(module, "live spans", "otlp")


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000) * 1000
