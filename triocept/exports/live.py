"""Spans that leave while agents run: a recorder for OpenTelemetry. Needs `pip install 'triocept[otlp]'`.

Rules:

1. Nothing here waits for a collector while an agent waits for us: spans go into the queue of a BatchSpanProcessor,
   whose thread sends them. (A SimpleSpanProcessor would send them in trio's own thread, and everything would stand
   still.)
2. The end is bounded: a collector that does not answer costs a few seconds when the endpoint closes, and its spans.
3. A call's span is sent when its turn is recorded. Those around it, the agents', have their end when the rollout has
   its.
4. What an endpoint closes may be at work for another one: then it is flushed, and stays open.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any, final

import trio

from .._trace.branch import Branch
from .._trace.conversation import Conversation
from .._trace.entries import Entry, Opening
from .._trace.service import ServiceCall
from .._trace.trace import Trace
from .._trace.turn import Turn
from .._util.checks import described
from .._util.contexts import protected_methods
from ._losses import Losses
from ._optional import optional
from ._spans import ROOT, SpanData, agent_span, conversation_key, service_span, turn_span

log: logging.Logger = logging.getLogger("triocept.exports")

PATIENCE = 5.0
"""Seconds for what is left to send when the endpoint closes."""


@protected_methods
@final
class OTelRecorder:
    """A recorder that sends spans of generative AI's conventions: `serve_endpoint(recorder=OTelRecorder())`.

    A rollout is a trace: an `invoke_agent` span, below it one for each sub-agent that the agent names, and a `chat`
    span for each turn. `RecorderGroup([JSONLRecorder(path), OTelRecorder()])` keeps a file as well, which is the one
    that proves that nothing is missing: spans that nobody takes are dropped.

    Args:
        exporter: a `SpanExporter`, which takes the spans in a thread. None: OTLP over HTTP, to where
            `OTEL_EXPORTER_OTLP_ENDPOINT` says (`http://localhost:4318`).
        content: messages, answers and tools are attributes of each call: all that an agent says then leaves this
            machine, again with every call.

    Closing: an endpoint closes its recorder at its end, after which an exporter that was given is shut down, and takes
    nothing more: give each endpoint its own, unless they are at work at the same time. Nobody closes one that was given
    to a rollout alone: await its `aclose`, or what is left is lost where the program ends soon. A copy of it (`pickle`,
    `copy`) has the exporter, and no open span.

    Raises:
        ModuleNotFoundError: the SDK is not installed; the message says what to install.
    """

    def __init__(self, exporter: Any = None, *, content: bool = False) -> None:
        kind = _imported("opentelemetry.sdk.trace.export").SpanExporter
        if exporter is not None and not isinstance(exporter, kind):
            raise TypeError(f"exporter is a SpanExporter, not {described(exporter)}")
        self._exporter = exporter
        self._content = content
        self._provider: Any = None
        self._agents: dict[tuple[str, str], dict[str, Any]] = {}
        """By rollout and run: the spans that have no end yet, by their keys."""

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
        around = self._around(turn.rollout, turn.run, turn.conversation, turn)
        self._send(span, around)

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
        """Send what is left, for a few seconds."""
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
            log.warning("spans were not sent: the exporter has not taken them in %g s", PATIENCE)

    def _tracer(self) -> Any:
        if self._provider is None:
            resource = _imported("opentelemetry.sdk.resources").Resource.create({"service.name": "triocept"})
            sdk, export = _imported("opentelemetry.sdk.trace"), _imported("opentelemetry.sdk.trace.export")
            provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
            provider.add_span_processor(export.BatchSpanProcessor(self._exporter or _over_http()))
            self._provider = provider
        return self._provider.get_tracer("triocept")

    def _around(self, rollout: str, run: str, conversation: Conversation | None, first: Turn) -> Any:
        """The span of the agent whose call this is."""
        root = self._root(rollout, run, first.started_at, first.branch)
        spans = self._agents[rollout, run]
        key = conversation_key(conversation)
        if key not in spans:
            trace = Trace(rollout, run=run, branch=first.branch)
            spans[key] = self._begin(agent_span(trace, conversation, [first]), root)
        return spans[key]

    def _root(self, rollout: str, run: str, start: float, branch: Branch | None = None) -> Any:
        """The span of a rollout, which begins here if it has not."""
        spans = self._agents.setdefault((rollout, run), {})
        if ROOT not in spans:
            span = agent_span(Trace(rollout, run=run, branch=branch), None, [])
            spans[ROOT] = self._begin(replace(span, start=start), None)
        return spans[ROOT]

    def _begin(self, span: SpanData, around: Any) -> Any:
        api, empty = _imported("opentelemetry.trace"), _imported("opentelemetry.context").Context()
        # a context of our own: no span that the program has open gets our rollouts below it by chance
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


def _over_http() -> Any:
    return _imported("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()


def _imported(module: str) -> Any:
    return optional(module, "live spans", "otlp")


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000) * 1000
