"""Spans, as OTLP's own messages have them: each line is parsed as a request of the protocol."""

import json
import sys
from pathlib import Path

from google.protobuf.json_format import MessageToDict, Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

lines = Path(sys.argv[1]).read_text().splitlines()
print(json.dumps([MessageToDict(Parse(line, ExportTraceServiceRequest())) for line in lines]))
