"""Write a JSON log of Inspect (inspect-ai 0.3.285), which Inspect's functions and its viewer can read.

Rules:

1. A rollout becomes a sample of the log. A further rollout with the same id becomes the next epoch of that sample. In a
   fleet's store, a sample of a task may have only one rollout. Then the log's sample has the id of the task, and its
   epoch is the number of the task's sample.
2. A conversation becomes a span of type `agent`, which has a row in the viewer's timeline. The span of a sub-agent is
   within the span of the agent that started the sub-agent. A compaction becomes an event before the first call that
   contains the summary.
3. Each content is written only once: calls refer to messages in a pool, and tools refer to long texts in attachments.
   So read the log with `read_eval_log(path, resolve_attachments=True)`.
4. The log's status is always "success", because any other status would mean that the task is still running, or has
   failed. The outcome of each rollout is in the metadata of its sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from typing import IO

from .._canonical.content import Json, Message, ToolCall
from .._canonical.request import Sampling, Tool
from .._trace.cost import usage_of as used_by
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..dialects.kit import encode_json
from ._chat import answer_of, object_arguments
from ._inspect_parts import SpanTree, config_of, messages_of, no_output, output_of, tool_of, usage_of
from ._segments import Segment, segments_of
from ._shared import Losses, Lost, count_lost, ended_at, iso_time, policy_of, without_none

_SETTINGS = (*Sampling.__struct_fields__, "parallel_tool_calls", "tool_choice")


def inspect_log(
    traces: Iterable[Trace], losses: Losses | None = None, *, task: str = "triocept"
) -> dict[str, Json]:
    """Return the traces as the JSON of one `EvalLog`.

    Args:
        traces: traces of any number of rollouts.
        losses: counter of content that the log cannot express; None means that such content is not counted.
        task: the log's name in the viewer.
    """
    losses = losses if losses is not None else Losses()
    traces = list(traces)
    tasks = [_task_of(trace) for trace in traces]
    of_tasks, epochs = Counter(tasks), Counter[str]()
    samples = []
    for trace, task_of in zip(traces, tasks, strict=True):
        if task_of is not None and of_tasks[task_of] == 1:
            name, epoch = task_of
        else:
            name, epoch = trace.rollout, epochs[trace.rollout] + 1
        epochs[name] = max(epochs[name], epoch)
        samples.append(_sample(trace, name, epoch, losses))
    turns = [turn for trace in traces for turn in trace]
    started = min((turn.started_at for turn in turns), default=0.0)
    models = Counter(turn.request.model for turn in turns)
    ids = list(epochs)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": _identity(traces),
            "run_id": _identity(traces),
            "task_id": task,
            "created": iso_time(started),
            "task": task,
            "dataset": {"name": "rollouts", "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "model": models.most_common(1)[0][0] if models else "unknown",
            "config": {"epochs": max(epochs.values(), default=1)},
            "packages": {"triocept": version("triocept")},
        },
        "plan": {"name": "plan", "steps": [{"solver": "triocept"}]},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": _means(samples),
        },
        "stats": {
            "started_at": iso_time(started),
            "completed_at": iso_time(max(map(ended_at, turns), default=started)),
            "model_usage": _usage_by_model(traces),
        },
        "samples": samples,
    }


def write_inspect(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    file.write(encode_json(inspect_log(traces, losses)) + b"\n")


def _task_of(trace: Trace) -> tuple[str, int] | None:
    """Return the id of a trace's task, and the number (from 1) of the task's sample; None if the trace has no task."""
    match trace.metadata.get("fleet"):
        case {"task": str(task), "sample": int(sample)}:
            return task, sample + 1
        case _:
            return None


def _sample(trace: Trace, name: str, epoch: int, losses: Losses) -> dict[str, Json]:
    count_lost(losses, trace, Lost.TOKENS, Lost.INCREMENTS, Lost.WIRE, settings=_SETTINGS)
    events = SampleEvents(trace, losses)
    turns = list(trace)
    started = min((turn.started_at for turn in turns), default=0.0)
    ended = max(map(ended_at, turns), default=0.0)
    metadata: dict[str, Json] = {
        "rollout": None if name == trace.rollout else trace.rollout,
        "run": trace.run,
        "sealed": trace.sealed,
        "stopped": trace.stopped,
        "ended": trace.ended,
        "gaps": [gap.name for gap in trace.gaps] or None,
        "agents": [each.name for each in trace.agents] or None,
        "given": dict(trace.metadata) or None,
        "turns": len(turns),
        "outcomes": dict(Counter(turn.outcome for turn in turns)),
        "parent_rollout": trace.branch.rollout if trace.branch is not None else None,
    }
    return {
        "id": name,
        "epoch": epoch,
        "uuid": _identity([trace]),
        "input": events.question,
        "target": "",
        "messages": events.conversation,
        "output": events.output,
        "scores": {name: {"value": value} for name, value in trace.scores.items()},
        "metadata": without_none(metadata),
        "events": events.events,
        "events_data": {"messages": events.pool, "calls": []},
        "attachments": events.attachments,
        "model_usage": _usage_by_model([trace]),
        "started_at": iso_time(started),
        "completed_at": iso_time(ended),
        "total_time": ended - started,
        "working_time": ended - started,
    }


def _usage_by_model(traces: Sequence[Trace]) -> dict[str, Json]:
    sums: dict[str, Counter[str]] = {}
    for trace in traces:
        for turn in trace:
            if (usage := used_by(turn)) is not None:
                sums.setdefault(turn.request.model, Counter()).update(without_none(usage_of(usage)))
    return {model: dict(counts) for model, counts in sums.items()}


def _means(samples: Sequence[dict[str, Json]]) -> list[Json]:
    values: dict[str, list[float]] = {}
    for sample in samples:
        for name, score in sample["scores"].items():
            values.setdefault(name, []).append(score["value"])
    return [
        {
            "name": name,
            "scorer": name,
            "scored_samples": len(each),
            "unscored_samples": len(samples) - len(each),
            "metrics": {"mean": {"name": "mean", "value": sum(each) / len(each)}},
        }
        for name, each in values.items()
    ]


def _identity(traces: Sequence[Trace]) -> str:
    text = "\0".join(f"{trace.rollout}\0{trace.run}" for trace in traces)
    return blake2b(text.encode(), digest_size=11).hexdigest()


LONG = 100
"""Maximum characters of a text in an event. A longer text becomes an attachment, as in Inspect's own logs."""


class SampleEvents:
    """The events of one trace in an Inspect log, and the messages and attachments to which the events refer."""

    def __init__(self, trace: Trace, losses: Losses) -> None:
        self.pool: list[dict[str, Json]] = []
        """All messages of the trace, each only once even if several calls contain an equal message."""
        self.attachments: dict[str, str] = {}
        """Long texts of the events, by their digests."""
        self._losses = losses
        self._begun = min((turn.started_at for turn in trace), default=0.0)
        self._places: dict[bytes, int] = {}
        self._known: dict[int, tuple[Message, list[int]]] = {}
        """Each message and its positions in the pool, by Python's `id` of the message. The message itself is kept
        because only then its `id` stays unique."""
        self._tools: dict[bytes, list[Json]] = {}
        """Cache of Inspect's definitions of tools. Each key is the list of tools of a request, encoded as bytes."""
        self._calls: dict[str, tuple[ToolCall, Turn]] = {}
        """Tool calls without a result so far, by their ids; each with the turn whose answer contains it."""
        segments = segments_of(trace)
        tree = SpanTree(trace, segments)
        events = self._of_segments(segments, tree)
        names = ("name", "arguments", "outcome", "result", "duration")
        for call in trace.services:
            data = {"service": call.kind, **{name: getattr(call, name) for name in names}}
            event = self._event("info", call.started_at, tree.main, source="triocept", data=data)
            events.append((call.started_at, 6, event))
        self.events: list[Json] = [event for _, _, event in sorted(events, key=lambda each: each[:2])]
        main = [turn for each in segments if each.conversation.kind == "main" for turn in each.turns]
        turns = main or list(trace)
        users = [each.text for turn in turns[:1] for each in turn.request.messages if each.role == "user"]
        self.question: str = next(filter(None, reversed(users)), "")
        self.conversation: list[Json] = []
        self.output: dict[str, Json] = {}
        last = next((turn for turn in reversed(turns) if turn.outcome == "answered"), None)
        if last is not None and last.response is not None:
            messages = (*last.request.messages, answer_of(last.response))
            self.conversation = [self.pool[place] for each in messages for place in self._places_of(each)]
            self.output = output_of(last.response, Losses())

    def _of_segments(self, segments: Iterable[Segment], tree: SpanTree) -> list[tuple[float, int, Json]]:
        """Return each event with its time, and with a rank by which events of the same time are sorted."""
        events: list[tuple[float, int, Json]] = []
        for span in tree.spans.values():
            facts = {"id": span.id, "name": span.name, "type": span.type, "parent_id": span.parent}
            begin = self._event("span_begin", span.start, span.id, **facts, metadata=span.metadata or None)
            events.append((span.start, span.depth - 20, begin))
            events.append((span.end, 20 - span.depth, self._event("span_end", span.end, span.id, id=span.id)))
        turns: list[Turn] = []
        for segment in segments:
            turns += segment.turns
            if segment.summarised_by is not None:
                first, summary = segment.turns[0], segment.summarised_by
                counts = {"tokens_before": _input_tokens(summary), "tokens_after": _input_tokens(first)}
                span_id = tree.of_turn[first.id]
                event = self._event(
                    "compaction", first.started_at, span_id, type="summary", source="agent", **counts
                )
                event["metadata"] = {"summarised_by": summary.id}
                events.append((first.started_at, 2, event))
        for turn in sorted(turns, key=lambda turn: turn.started_at):
            events += self._results(turn, tree.of_turn)
            events.append((turn.started_at, 3, self._of_turn(turn, tree.of_turn[turn.id])))
        return events

    def _event(self, kind: str, at: float, span: str, **fields: Json) -> dict[str, Json]:
        return {
            "event": kind,
            "uuid": blake2b(f"{kind} {at} {span} {fields.get('id')}".encode(), digest_size=11).hexdigest(),
            "span_id": span,
            "timestamp": iso_time(at),
            "working_start": at - self._begun,
            **without_none(fields),
        }

    def _of_turn(self, turn: Turn, span: str) -> dict[str, Json]:
        request, response, choice = turn.request, turn.response, turn.request.tool_choice
        tool_choice: Json = "auto" if choice is None else "any" if choice.mode == "required" else choice.mode
        if choice is not None and choice.mode == "tool":
            tool_choice = {"name": choice.name or ""}
        places = [place for message in request.messages for place in self._places_of(message)]
        error = f"{turn.error.type}: {turn.error.message}" if turn.error is not None else None
        output = no_output(request.model, error) if response is None else output_of(response, self._losses)
        event = self._event(
            "model",
            turn.started_at,
            span,
            model=request.model,
            input=[],
            input_refs=_ranges(places),
            tools=self._of_tools(request.tools),
            tool_choice=tool_choice,
            config=config_of(request),
            output={**output, "time": turn.duration},
            error=error,
            completed=iso_time(ended_at(turn)),
            working_time=turn.duration,
        )
        event["uuid"] = turn.id
        event["metadata"] = {
            "turn": turn.id,
            "number": turn.number,
            "outcome": turn.outcome,
            "dialect": turn.dialect,
            **({"notes": turn.notes} if turn.notes else {}),
            **policy_of(turn),
        }
        if response is not None and turn.outcome == "answered":
            self._calls |= {call.id: (call, turn) for call in response.tool_calls}
        return event

    def _results(self, turn: Turn, of_turn: dict[str, str]) -> Iterable[tuple[float, int, Json]]:
        """Yield an event for each tool result that is new in the request of `turn`.

        The event lasts from the end of the turn that called the tool to the start of `turn`.
        """
        for message in turn.request.messages:
            for result in message.tool_results if id(message) not in self._known else ():
                if (found := self._calls.pop(result.id, None)) is None:
                    continue
                call, caller = found
                start = ended_at(caller)
                event = self._event(
                    "tool",
                    start,
                    of_turn[caller.id],
                    type="function",
                    id=call.id,
                    function=call.name,
                    arguments=object_arguments(call, Losses()),
                    result=result.text,
                    error={"type": "unknown", "message": result.text} if result.is_error else None,
                    completed=iso_time(turn.started_at),
                    working_time=max(0.0, turn.started_at - start),
                )
                yield start, 5, event

    def _of_tools(self, tools: tuple[Tool, ...]) -> list[Json]:
        key = encode_json(tools)
        if key not in self._tools:
            known = [document for tool in tools if (document := tool_of(tool, self._losses)) is not None]
            for document in known:
                if len(text := document["description"]) > LONG:
                    digest = blake2b(text.encode(), digest_size=16).hexdigest()
                    self.attachments[digest] = text
                    document["description"] = f"attachment://{digest}"
            self._tools[key] = [*known]
        return self._tools[key]

    def _places_of(self, message: Message) -> list[int]:
        """Return the indexes of the entries for `message` in the log's message pool.

        If there are none yet, add them.
        """
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            known = self._known[id(message)] = (message, [])
            for document in messages_of(message, self._losses):
                place = self._places.setdefault(encode_json(document), len(self.pool))
                if place == len(self.pool):
                    self.pool.append({"id": f"m{place}", **document})
                known[1].append(place)
        return known[1]


def _input_tokens(turn: Turn) -> int | None:
    return getattr(turn.response and turn.response.usage, "input_tokens", None)


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Convert numbers into ranges of adjacent numbers; each range is (first number, last number + 1)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
