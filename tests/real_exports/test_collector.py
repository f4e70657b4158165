"""What a collector gets while agents run: real OTLP over HTTP."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.asking import ask
from triocept import Exchange, serve_endpoint
from triocept.exports import OTelRecorder


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Its URL, and the requests that it got."""
    got: list[ExportTraceServiceRequest] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", got
        finally:
            server.shutdown()
            thread.join(10)


async def test_a_collector_gets_the_spans_of_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    with collector() as (url, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with trio.fail_after(30):
            async with serve_endpoint(recorder=OTelRecorder()) as endpoint:
                async with endpoint.open_rollout(answer) as rollout:
                    for number in range(3):
                        await ask(rollout, str(number))
        spans = [
            span
            for request in got
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    (root,) = [span for span in spans if span.name == f"invoke_agent {rollout.id}"]
    calls = [span for span in spans if span.name == "chat m"]
    assert len(calls) == 3
    assert {span.parent_span_id for span in calls} == {root.span_id}
    assert {span.trace_id for span in spans} == {root.trace_id}
