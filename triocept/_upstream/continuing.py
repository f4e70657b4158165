"""Continue a streamed answer that the server aborted when the agent had already received a part of the answer.

Rules:

1. Only text is continued. A server does not accept reasoning, or an incomplete tool call, as the start of an answer.
2. A call is continued only if each of its fields has the same effect on the rest of an answer as on a whole answer. A
   stop string, for example, could begin in the first part of the answer and end in the rest.
3. Some chat templates remove blanks at the end of a message. So the text is sent without these blanks. The rest must
   begin with the same blanks, which are then removed from the rest.
4. If the server refuses the call for the rest, or if the rest does not continue the text, the stream ends with the
   error of the abort.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import final

import msgspec

from .._canonical.content import Json, Reasoning, Text
from .._canonical.events import Event, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from .._canonical.response import Response, Usage
from .._canonical.tokens import usage_after
from ..dialects._documents import decode_json, encode_json
from ..errors import UpstreamError
from .ceiling import Places, asked_output, capped
from .request import ProviderRequest

_FIELDS = frozenset({
    *("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"),
    *("temperature", "top_p", "top_k", "min_p", "logit_bias", "tools", "tool_choice", "parallel_tool_calls"),
    *("reasoning_effort", "chat_template_kwargs", "user", "metadata", "store", "service_tier", "priority"),
    *("cache_salt", "prompt_cache_key", "safety_identifier"),
})  # fmt: skip
"""Fields that have the same effect on the rest of an answer as on a whole answer."""
_OF_TOKENS = frozenset({"return_token_ids", "logprobs"})
"""Fields by which triocept itself requests tokens, if the agent requests none."""
_OFF = frozenset({
    *("frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "echo", "min_tokens", "ignore_eos"),
    *("return_token_ids", "continue_final_message", "use_beam_search"),
})  # fmt: skip
"""Fields that have no effect if they are False or 0."""

_THINKING = ("think>", "THINK]")
"""Ends of the tags of reasoning (`<think>`, and `[THINK]` of Mistral's models). Without a reasoning parser, a server
sends reasoning as text between such tags."""


@final
class Rest:
    """The rest of an aborted answer: changes the events of a new stream so that they continue the answer.

    Args:
        begun: the part of the answer that the agent has received, with its usage, if the usage is known.
        blanks: the blanks with which the new stream must begin.
        error: the error of the abort.
        joins: True to append the rest to the open text part. False to begin a new part, because the renderer of a
            connection that has sent a provider's bytes knows no open part.
    """

    def __init__(self, begun: Response, blanks: str, error: UpstreamError, *, joins: bool) -> None:
        self.begun, self.error = begun, error
        self._blanks, self._joins = blanks, joins
        self._shift = len(begun.content)
        self._is_first = bool(begun.content)

    def total(self, own: Usage | None) -> Usage | None:
        """Return the usage of the whole answer, which contains the prompt once. `own` is the usage of the rest."""
        if own is None or (first := self.begun.usage) is None:
            return own
        return msgspec.structs.replace(first, output_tokens=first.output_tokens + own.output_tokens)

    def placed(self, event: Event) -> Iterator[Event]:
        """Yield the events for `event`. Raise an UpstreamError if the stream does not continue the text."""
        match event:
            case ResponseStart():
                return
            case ResponseEnd(usage=usage):
                event = msgspec.structs.replace(event, usage=self.total(usage))
            case PartDelta(index, text) if self._blanks:
                count = min(len(self._blanks), len(text))
                if text[:count] != self._blanks[:count]:
                    raise UpstreamError(f"the rest of the answer does not begin with {self._blanks!r}")
                self._blanks, event = self._blanks[count:], PartDelta(index, text[count:])
        if self._is_first:
            self._is_first = False
            part = event.part if isinstance(event, PartStart) else None
            if isinstance(part, Reasoning):
                raise UpstreamError("the rest of the answer begins with reasoning")
            if not isinstance(part, Text):
                self._blanks = ""
            elif self._joins:
                self._shift -= 1
                return
            yield PartEnd(self._shift - 1)
        if not isinstance(event, ResponseEnd):
            event = msgspec.structs.replace(event, index=event.index + self._shift)
        yield event


def rest_of(
    call: ProviderRequest, begun: Response, caps: Places, error: UpstreamError, *, joins: bool
) -> tuple[ProviderRequest, Rest] | None:
    """Return a call for the rest of an aborted answer, and its `Rest`. Return None if the answer cannot be continued.

    `call` is the call for the whole answer. If `begun` contains only blanks, this call is returned unchanged. `caps` is
    `Dialect.caps`; for the other arguments, see `Rest`.
    """
    document, text = decode_json(call.body), begun.text
    messages, choice = document.get("messages"), document.get("tool_choice")
    kept = text.rstrip() if messages else text
    rest = Rest(begun, text[len(kept) :], error, joins=joins)
    added = call.collector is not None and call.collector.strip.ids and call.collector.strip.logprobs
    allowed = _FIELDS | _OF_TOKENS if added else _FIELDS
    if any(tag in text for tag in _THINKING) or any(
        type(part) is not Text or part.extra for part in begun.content
    ):
        return None
    if not kept:
        return call, rest
    others = document.keys() - allowed
    if choice not in (None, "auto", "none") or any(_has_effect(name, document[name]) for name in others):
        return None
    if messages and messages[-1].get("role") != "assistant":
        last = {"role": "assistant", "content": kept}
        document |= {
            "continue_final_message": True,
            "add_generation_prompt": False,
            "messages": [*messages, last],
        }
    elif isinstance(prompt := document.get("prompt"), str):
        document["prompt"] = prompt + kept
    else:
        return None
    if (asked := asked_output(document, caps)) is not None:
        left = asked - (begun.usage or usage_after(0, begun)).output_tokens
        if begun.usage is not None and left < 1:
            return None
        document = capped(document, caps, max(1, left), always=False)
    return replace(call, body=encode_json(document)), rest


def _has_effect(name: str, value: Json) -> bool:
    if value is False or (
        value == 0 and name != "logprobs"
    ):  # completions have log probabilities with `logprobs: 0`
        return name not in _OFF
    return value not in (None, "", [], {})
