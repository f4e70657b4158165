"""Spans that leave while agents run: a recorder, which nobody has to wait for."""

import copy
import pickle
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

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
from triocept.exports._shared import Losses
from triocept.exports.otlp import turn_span
from triocept.traces import Opening


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


async def test_what_an_endpoint_closes_goes_on_for_another_one_that_is_at_work() -> None:
    exporter = InMemorySpanExporter()
    recorder = OTelRecorder(exporter)

    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    async with serve_endpoint(recorder=recorder) as other, other.open_rollout(answer, id="long") as long:
        async with serve_endpoint(recorder=recorder) as endpoint:
            async with endpoint.open_rollout(answer, id="short") as rollout:
                await rollout.ask("a")
        assert len(exporter.get_finished_spans()) == 2, "they were sent when it closed"
        await long.ask("b")
    spans = exporter.get_finished_spans()
    (root,) = named(spans, "invoke_agent long")
    assert [span.parent for span in spans if span.attributes["triocept.rollout"] == "long"] == [
        root.context,
        None,
    ]


async def test_the_span_of_a_rollout_is_around_all_that_it_has() -> None:
    """Also around a call that came first and was answered last, and a tool that was called before any of them."""
    exporter = InMemorySpanExporter()
    recorder = OTelRecorder(exporter)
    trace = sample()
    early = msgspec.structs.replace(trace.services[0], started_at=990.0)
    await recorder.aopen()
    await recorder.record_entry(Opening(rollout=trace.rollout, run=trace.run, at=980.0))
    await recorder.record_service(early)
    for turn in reversed(trace):
        await recorder.record(turn)
    await recorder.seal(trace)
    await recorder.aclose()
    spans = exporter.get_finished_spans()
    (root,) = named(spans, "invoke_agent r")
    assert {span.context.trace_id for span in spans} == {root.context.trace_id}
    assert root.start_time == 980 * 10**9
    assert all(root.start_time <= span.start_time <= span.end_time <= root.end_time for span in spans)


async def test_a_rollout_without_a_call_is_a_span() -> None:
    exporter = InMemorySpanExporter()
    async with serve_endpoint(recorder=OTelRecorder(exporter)) as endpoint:
        async with endpoint.open_rollout(lambda exchange: exchange.respond("ok")) as rollout:
            pass
    (root,) = exporter.get_finished_spans()
    assert root.name == f"invoke_agent {rollout.id}"
    assert root.start_time == root.end_time == pytest.approx(time.time_ns(), abs=60 * 10**9)


async def test_a_number_that_otlp_has_no_room_for_is_a_text() -> None:
    """An agent may ask for any seed; its span would be told in a traceback, call by call."""
    turn = sample()[0]
    sampling = msgspec.structs.replace(turn.request.sampling, seed=2**63, max_output_tokens=2**63 - 1)
    request = msgspec.structs.replace(turn.request, sampling=sampling)
    attributes = turn_span(msgspec.structs.replace(turn, request=request), None, Losses()).attributes
    assert attributes["gen_ai.request.seed"] == str(2**63)
    assert attributes["gen_ai.request.max_tokens"] == 2**63 - 1


async def test_a_copy_has_the_exporter_and_what_is_asked_for() -> None:
    recorder = OTelRecorder(content=True)
    recorder._provider = TracerProvider()  # an open one holds threads and locks
    for other in (copy.copy(recorder), pickle.loads(pickle.dumps(recorder))):
        assert (other._content, other._exporter, other._provider, other._agents) == (True, None, None, {})
    exporter = InMemorySpanExporter()
    assert copy.copy(OTelRecorder(exporter))._exporter is exporter


async def test_a_refusal_is_a_span_too() -> None:
    exporter = InMemorySpanExporter()

    async def refuse(exchange: Exchange) -> None:
        raise Refusal(429, "later")

    async with serve_endpoint(recorder=OTelRecorder(exporter)) as endpoint:
        async with endpoint.open_rollout(refuse) as rollout:
            assert (await ask(rollout, "a")).status_code == 429
    (call,) = named(exporter.get_finished_spans(), "chat m")
    assert call.status.status_code is StatusCode.ERROR


def test_what_is_no_exporter_is_said() -> None:
    with pytest.raises(TypeError, match="exporter must be a SpanExporter, not str: 'http://there'"):
        OTelRecorder("http://there")
