"""A log, as Inspect has it: what each of its samples holds, read from JSON, and from Inspect's own `.eval`."""

import json
import sys
from pathlib import Path

from inspect_ai.log import read_eval_log, write_eval_log


def said(message):
    """Role, texts, calls, and the call that it is the result of."""
    content = message.content
    texts = [content] if isinstance(content, str) else [part.text for part in content if part.type == "text"]
    calls = [[call.id, call.function, call.arguments] for call in getattr(message, "tool_calls", None) or []]
    return [message.role, [text for text in texts if text], calls, getattr(message, "tool_call_id", None)]


def call(event):
    return {
        "span": event.span_id,
        "input": [said(message) for message in event.input],
        "tools": [[tool.name, tool.description] for tool in event.tools],
        "output": said(event.output.message) if event.output.choices else None,
        "usage": event.output.usage.model_dump() if event.output.usage else None,
        "error": event.error,
    }


def sample(each):
    kinds = [event.event for event in each.events]
    begun = [event for event in each.events if event.event == "span_begin"]
    behind = [each.events[n + 1] for n, kind in enumerate(kinds) if kind == "compaction"]
    return {
        "id": each.id,
        "epoch": each.epoch,
        "messages": [said(message) for message in each.messages],
        "scores": {name: score.value for name, score in (each.scores or {}).items()},
        "calls": {event.metadata["turn"]: call(event) for event in each.events if event.event == "model"},
        "tools": {event.id: event.result for event in each.events if event.event == "tool"},
        "spans": {event.id: [event.name, event.type, event.parent_id] for event in begun},
        "ended": [event.id for event in each.events if event.event == "span_end"],
        "behind_compactions": [event.metadata["turn"] for event in behind],
    }


def log(path):
    read = read_eval_log(str(path), resolve_attachments=True)
    return {"status": read.status, "samples": [sample(each) for each in read.samples]}


path = Path(sys.argv[1])
packed = path.with_suffix(".eval")
write_eval_log(read_eval_log(str(path)), str(packed))
print(json.dumps({"json": log(path), "eval": log(packed)}))
