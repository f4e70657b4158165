"""Spans that leave while agents run: a recorder, which nobody has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import trio

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.asking import ask
from tests.exports.sample import sample
from triocept import Exchange, Refusal, serve_endpoint
from triocept.exports import OTelRecorder, live


async def sent(recorder: OTelRecorder) -> None:
    """All of the sample, as a rollout would have it recorded."""
    trace = sample()
    await recorder.aopen()
    for turn in trace:
        await recorder.record(turn)
    for call in trace.services:
        await recorder.record_service(call)
    await recorder.seal(trace)
    await recorder.aclose()


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


async def test_a_rollout_is_a_trace_of_spans_as_in_a_file() -> None:
    exporter = InMemorySpanExporter()
    await sent(OTelRecorder(exporter))
    spans = exporter.get_finished_spans()
    (root,), (sub,) = named(spans, "invoke_agent r"), named(spans, "invoke_agent sub-agent")
    calls = named(spans, "chat model-0")
    (service,) = named(spans, "execute_tool lookup")
    assert len(spans) == 11
    assert root.parent is None
    assert sub.parent == root.context
    assert sorted(call.attributes["triocept.number"] for call in calls if call.parent == sub.context) == [
        2,
        5,
    ]
    assert all(call.parent in (root.context, sub.context) for call in calls)
    assert service.parent == root.context
    assert {call.kind for call in calls} == {SpanKind.CLIENT}
    assert (root.start_time, root.end_time) == (1000 * 10**9, 1007_500_000_000)
    assert root.attributes["triocept.score.reward"] == 0.5
    (failed,) = [call for call in calls if call.status.status_code is StatusCode.ERROR]
    assert failed.attributes["error.type"] == "ValueError"


async def test_what_was_said_is_sent_only_where_that_is_asked_for() -> None:
    for content in (False, True):
        exporter = InMemorySpanExporter()
        await sent(OTelRecorder(exporter, content=content))
        spans = exporter.get_finished_spans()
        assert any("gen_ai.output.messages" in span.attributes for span in spans) == content


async def test_a_span_that_the_program_has_open_gets_no_rollout_below_it() -> None:
    exporter = InMemorySpanExporter()
    with api.use_span(TracerProvider().get_tracer("mine").start_span("mine")):
        await sent(OTelRecorder(exporter))
    assert [span.parent for span in named(exporter.get_finished_spans(), "invoke_agent r")] == [None]


class Slow(SpanExporter):
    """A collector that answers when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: set[int] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        self.threads.add(threading.get_ident())
        self.go.wait(60)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


async def test_an_endpoint_closes_though_the_collector_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    exporter = Slow()

    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    try:
        with trio.fail_after(20):
            async with serve_endpoint(recorder=OTelRecorder(exporter)) as endpoint:
                async with endpoint.open_rollout(answer) as rollout:
                    for number in range(3):
                        await ask(rollout, str(number))
        assert len(rollout.trace) == 3
        assert threading.get_ident() not in exporter.threads
        assert "spans were not sent" in caplog.text
    finally:
        exporter.go.set()


async def test_a_recorder_that_was_closed_opens_itself_again() -> None:
    exporter = InMemorySpanExporter()
    recorder = OTelRecorder(exporter)
    await sent(recorder)
    await recorder.aclose()
    exporter._stopped = False
    await sent(recorder)
    assert len(exporter.get_finished_spans()) == 22


async def test_a_refusal_is_a_span_too() -> None:
    exporter = InMemorySpanExporter()

    async def refuse(exchange: Exchange) -> None:
        raise Refusal(429, "later")

    with trio.fail_after(20):
        async with serve_endpoint(recorder=OTelRecorder(exporter)) as endpoint:
            async with endpoint.open_rollout(refuse) as rollout:
                assert (await ask(rollout, "a")).status_code == 429
    (call,) = named(exporter.get_finished_spans(), "chat m")
    assert call.status.status_code is StatusCode.ERROR


def test_what_is_no_exporter_is_said() -> None:
    with pytest.raises(TypeError, match="exporter is a SpanExporter, not str: 'http://there'"):
        OTelRecorder("http://there")
