"""The events of an Inspect sample: model calls, tools and compactions, with their times and agents."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from .._canonical.content import Json, Message, ToolCall
from .._canonical.request import Tool, ToolChoice
from .._trace.service import ServiceCall
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..dialects.kit import encode_json
from ._chat import answer_of, object_arguments
from ._inspect_messages import config_of, messages_of, no_output, output_of, tool_of
from ._inspect_spans import SpanTree
from ._losses import Losses
from ._segments import Segment, segments_of
from ._times import ended_at, iso_time

LONG = 100
"""Maximum characters of a text in an event. When exceeded: the text is an attachment, as in Inspect's own logs."""


class SampleEvents:
    """The events of a trace, with the messages and attachments that they refer to.

    Args:
        trace: the trace.
        losses: counts content without a place in the events.
    """

    def __init__(self, trace: Trace, losses: Losses) -> None:
        self.pool: list[dict[str, Json]] = []
        """The messages, each once."""
        self.attachments: dict[str, str] = {}
        """Long texts, by their digests."""
        self._losses = losses
        self._begun = min((turn.started_at for turn in trace), default=0.0)
        self._places: dict[bytes, int] = {}
        self._known: dict[int, tuple[Message, list[int]]] = {}
        """A message and its positions in the pool, by the message's `id`; holding the message keeps the `id` unique."""
        self._tools: dict[bytes, list[Json]] = {}
        """Documents of the tools, by a request's tools."""
        self._calls: dict[str, tuple[ToolCall, Turn]] = {}
        """Calls without a result so far, by their ids."""
        segments = segments_of(trace)
        tree = SpanTree(trace, segments)
        events = self._of_segments(segments, tree)
        events += [self._service(call, tree.main) for call in trace.services]
        self.events: list[Json] = [event for _, _, event in sorted(events, key=lambda each: each[:2])]
        main = [turn for each in segments if each.conversation.kind == "main" for turn in each.turns]
        turns = main or list(trace)
        self.question: str = next((_question(turn) for turn in turns), "")
        answered = [turn for turn in turns if turn.outcome == "answered" and turn.response is not None]
        self.conversation: list[Json] = self._whole(answered[-1]) if answered else []
        self.output: dict[str, Json] = {}
        if answered and answered[-1].response is not None:
            self.output = output_of(answered[-1].response, Losses())

    def _whole(self, turn: Turn) -> list[Json]:
        """Return a conversation with its answer."""
        assert turn.response is not None
        messages = (*turn.request.messages, answer_of(turn.response))
        return [self.pool[place] for message in messages for place in self._places_of(message)]

    def _of_segments(self, segments: Iterable[Segment], tree: SpanTree) -> list[tuple[float, int, Json]]:
        """Return events with their times, and a rank that orders events of one time."""
        events: list[tuple[float, int, Json]] = []
        for span in tree.spans.values():
            begin = self._event(
                "span_begin",
                span.start,
                span.id,
                id=span.id,
                name=span.name,
                type=span.type,
                parent_id=span.parent,
                metadata=span.metadata or None,
            )
            events.append((span.start, span.depth - 20, begin))
            events.append((span.end, 20 - span.depth, self._event("span_end", span.end, span.id, id=span.id)))
        turns: list[Turn] = []
        for segment in segments:
            turns += segment.turns
            if segment.summarised_by is not None:
                span_id = tree.of_turn[segment.turns[0].id]
                events.append(self._compaction(segment, segment.summarised_by, span_id))
        for turn in sorted(turns, key=lambda turn: turn.started_at):
            events += [self._of_result(*each, tree.of_turn) for each in self._results(turn)]
            events.append((turn.started_at, 3, self._of_turn(turn, tree.of_turn[turn.id])))
        return events

    def _compaction(self, segment: Segment, summary: Turn, span: str) -> tuple[float, int, Json]:
        first = segment.turns[0]
        event = self._event(
            "compaction",
            first.started_at,
            span,
            type="summary",
            source="agent",
            tokens_before=_input_tokens(summary),
            tokens_after=_input_tokens(first),
        )
        event["metadata"] = {"summarised_by": summary.id}
        return first.started_at, 2, event

    def _event(self, kind: str, at: float, span: str, **fields: Json) -> dict[str, Json]:
        return {
            "event": kind,
            "uuid": blake2b(f"{kind} {at} {span} {fields.get('id')}".encode(), digest_size=11).hexdigest(),
            "span_id": span,
            "timestamp": iso_time(at),
            "working_start": at - self._begun,
            **{name: value for name, value in fields.items() if value is not None},
        }

    def _of_turn(self, turn: Turn, span: str) -> dict[str, Json]:
        request, response = turn.request, turn.response
        end = ended_at(turn)
        places = [place for message in request.messages for place in self._places_of(message)]
        error = f"{turn.error.type}: {turn.error.message}" if turn.error is not None else None
        output = (
            output_of(response, self._losses) if response is not None else no_output(request.model, error)
        )
        event = self._event(
            "model",
            turn.started_at,
            span,
            model=request.model,
            input=[],
            input_refs=_ranges(places),
            tools=self._of_tools(request.tools),
            tool_choice=_choice(request.tool_choice),
            config=config_of(request),
            output={**output, "time": turn.duration},
            error=error,
            completed=iso_time(end),
            working_time=turn.duration,
        )
        event["uuid"] = turn.id
        event["metadata"] = {
            "turn": turn.id,
            "number": turn.number,
            "outcome": turn.outcome,
            "dialect": turn.dialect,
            **({"notes": turn.notes} if turn.notes else {}),
        }
        if response is not None and turn.outcome == "answered":
            self._calls |= {call.id: (call, turn) for call in response.tool_calls}
        return event

    def _results(self, turn: Turn) -> Iterable[tuple[ToolCall, Turn, str, bool, Turn]]:
        """Yield the calls whose results this turn contains: call, calling turn, result, error mark and this turn."""
        new = (message for message in turn.request.messages if id(message) not in self._known)
        for message in new:
            for result in message.tool_results:
                if (found := self._calls.pop(result.id, None)) is not None:
                    yield (*found, result.text, result.is_error, turn)

    def _of_result(
        self, call: ToolCall, called: Turn, text: str, is_error: bool, told: Turn, of_turn: dict[str, str]
    ) -> tuple[float, int, Json]:
        """Return the event of an agent's tool, which ran between its call and the request with its result."""
        start = ended_at(called)
        event = self._event(
            "tool",
            start,
            of_turn[called.id],
            type="function",
            id=call.id,
            function=call.name,
            arguments=object_arguments(call, Losses()),
            result=text,
            error={"type": "unknown", "message": text} if is_error else None,
            completed=iso_time(told.started_at),
            working_time=max(0.0, told.started_at - start),
        )
        return start, 5, event

    def _service(self, call: ServiceCall, span: str) -> tuple[float, int, Json]:
        data = {
            "service": call.kind,
            "name": call.name,
            "arguments": call.arguments,
            "outcome": call.outcome,
            "result": call.result,
            "duration": call.duration,
        }
        event = self._event("info", call.started_at, span, source="triocept", data=data)
        return call.started_at, 6, event

    def _of_tools(self, tools: tuple[Tool, ...]) -> list[Json]:
        key = encode_json(tools)
        if key not in self._tools:
            known = [document for tool in tools if (document := tool_of(tool, self._losses)) is not None]
            self._tools[key] = [
                {**document, "description": self._attached(document["description"])} for document in known
            ]
        return self._tools[key]

    def _attached(self, text: str) -> str:
        if len(text) <= LONG:
            return text
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        self.attachments[digest] = text
        return f"attachment://{digest}"

    def _places_of(self, message: Message) -> list[int]:
        """Return a message's positions in the pool."""
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            places = [self._place(document) for document in messages_of(message, self._losses)]
            known = self._known[id(message)] = (message, places)
        return known[1]

    def _place(self, document: dict[str, Json]) -> int:
        key = encode_json(document)
        place = self._places.setdefault(key, len(self.pool))
        if place == len(self.pool):
            self.pool.append({"id": f"m{place}", **document})
        return place


def _choice(choice: ToolChoice | None) -> Json:
    if choice is None:
        return "auto"
    if choice.mode == "tool":
        return {"name": choice.name or ""}
    return "any" if choice.mode == "required" else choice.mode


def _question(turn: Turn) -> str:
    users = [message.text for message in turn.request.messages if message.role == "user" and message.text]
    return users[-1] if users else ""


def _input_tokens(turn: Turn) -> int | None:
    usage = turn.response.usage if turn.response is not None else None
    return usage.input_tokens if usage is not None else None


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the numbers as half-open ranges."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
