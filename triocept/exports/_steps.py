"""The calls of a conversation as a sequence of ATIF steps.

A tool's result comes with a later call, and is the observation of the step that called the tool. A result is matched by
its id, or by order if the agent makes new ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from .._canonical.response import Usage
from .._trace.tokens import Tokens
from .._trace.turn import Turn
from ..dialects.kit import data_url, media_type_of
from . import _losses as lost
from ._chat import object_arguments, told_text
from ._losses import Losses
from ._segments import new_messages
from ._times import ended_at, iso_time

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class Steps:
    """The steps so far.

    Args:
        losses: counts content without a place in the steps.
    """

    def __init__(self, losses: Losses) -> None:
        self.documents: list[dict[str, Json]] = []
        self._losses = losses
        self._open: dict[str, dict[str, Json]] = {}
        """The calling step, by the id of a call without a result so far."""
        self._answered: set[str] = set()
        """Ids of calls that have a result."""

    def add_turns(self, turns: Iterable[Turn]) -> None:
        """Add the calls of a conversation."""
        before: Turn | None = None
        for turn in turns:
            for message in new_messages(before, turn):
                self._add_message(message, turn)
            if turn.outcome == "answered":
                self._add_answer(turn)
            before = turn

    def refer(self, call: ToolCall, trajectory: str) -> None:
        """Refer to another trajectory, which this call began, in the call's result."""
        for step in self.documents:
            if any(each["tool_call_id"] == call.id for each in step.get("tool_calls", ())):
                results = step.setdefault("observation", {"results": []})["results"]
                mine = next((each for each in results if each.get("source_call_id") == call.id), None)
                if mine is None:
                    mine = {"source_call_id": call.id}
                    results.append(mine)
                mine.setdefault("subagent_trajectory_ref", []).append({"trajectory_id": trajectory})

    def _content(self, parts: Sequence[Part], text: str) -> Json:
        """Return the text of these parts; a list of texts and images if there are images."""
        documents: list[Json] = []
        for part in parts:
            if isinstance(part, Text | RefusalText):
                documents.append({"type": "text", "text": part.text})
            elif (image := _image(part)) is not None:
                documents.append(image)
            else:
                self._losses.add(lost.MEDIA if isinstance(part, Media) else lost.OPAQUE)
        return documents if any(document["type"] == "image" for document in documents) else text

    def _add(self, source: str, at: float, message: Json) -> dict[str, Json]:
        step = {
            "step_id": len(self.documents) + 1,
            "timestamp": iso_time(at),
            "source": source,
            "message": message,
        }
        self.documents.append(step)
        return step

    def _add_message(self, message: Message, turn: Turn) -> None:
        for result in message.tool_results:
            self._add_result(result, turn)
        rest = [part for part in message.content if not isinstance(part, ToolResult)]
        if message.role == "assistant":
            step = self._add("agent", turn.started_at, _said(rest))
            step["is_copied_context"] = True
            self._add_parts(step, rest)
        elif rest or not message.content:
            source = "system" if message.role in ("system", "developer") else "user"
            self._add(source, turn.started_at, self._content(rest, told_text(rest)))

    def _add_result(self, result: ToolResult, turn: Turn) -> None:
        if result.id in self._answered:  # a repeated result
            return
        content = self._content(result.content, result.text)
        identity = result.id if result.id in self._open else next(iter(self._open), None)
        if identity is None:
            self._losses.add(lost.LATE_RESULTS)
            self._add("user", turn.started_at, content)
            return
        step = self._open.pop(identity)
        self._answered |= {identity, result.id}
        document: dict[str, Json] = {"source_call_id": identity, "content": content}
        if result.is_error:
            document["extra"] = {"is_error": True}
        step.setdefault("observation", {"results": []})["results"].append(document)

    def _add_answer(self, turn: Turn) -> None:
        response = turn.response
        assert response is not None
        step = self._add("agent", ended_at(turn), _said(response.content))
        step["model_name"] = response.model or turn.request.model
        if turn.request.reasoning is not None and turn.request.reasoning.effort is not None:
            step["reasoning_effort"] = turn.request.reasoning.effort
        self._open.clear()  # calls without a result by now never get a result
        self._add_parts(step, response.content)
        step["metrics"] = _metrics(response.usage, turn.tokens)
        step["llm_call_count"] = 1
        step["extra"] = {
            "turn": turn.id,
            "dialect": turn.dialect,
            "response": response.id or None,
            "stop_reason": response.stopped,
            "duration": turn.duration,
            "first_event": turn.first_event,
            **({"notes": turn.notes} if turn.notes else {}),
        }

    def _add_parts(self, step: dict[str, Json], parts: Iterable[object]) -> None:
        parts = list(parts)
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        if text := "".join(part.text for part in thoughts):
            step["reasoning_content"] = text
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if calls:
            step["tool_calls"] = [self._call(call) for call in calls]
            self._open |= {call.id: step for call in calls}
        self._losses.add(lost.BLOBS, sum(len(part.blobs) for part in thoughts))
        self._losses.add(lost.MEDIA, sum(isinstance(part, Media) for part in parts))
        self._losses.add(lost.OPAQUE, sum(isinstance(part, Opaque) for part in parts))
        self._losses.add(lost.REFUSALS, sum(isinstance(part, RefusalText) for part in parts))

    def _call(self, call: ToolCall) -> dict[str, Json]:
        arguments = object_arguments(call, self._losses)
        return {"tool_call_id": call.id, "function_name": call.name, "arguments": arguments}


def _image(part: Part) -> Json | None:
    """Return an image as a part of ATIF; None if the part is not an image, or of a type that ATIF does not support."""
    if not isinstance(part, Media) or part.kind != "image" or (path := data_url(part)) is None:
        return None
    media_type = media_type_of(part)
    if media_type not in _IMAGES:
        return None
    return {"type": "image", "source": {"media_type": media_type, "path": path}}


def _said(parts: Iterable[object]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text | RefusalText))


def _metrics(usage: Usage | None, tokens: Tokens | None) -> dict[str, Json]:
    document: dict[str, Json] = {}
    if usage is not None:
        document = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "extra": {
                "cache_write_tokens": usage.cache_write_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "estimated": usage.estimated,
            },
        }
    if tokens is not None:
        document["prompt_token_ids"] = list(tokens.prompt_ids) or None
        document["completion_token_ids"] = list(tokens.completion_ids) or None
        document["logprobs"] = list(tokens.logprobs) or None
    return {name: value for name, value in document.items() if value is not None}
