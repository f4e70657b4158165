"""The maximum number of output tokens that a call requests: configured, or learned from a provider's refusal.

Claude Code requests up to 64,000 tokens. If that is more than the model's limit, a server refuses the call.

Rules:

1. The configured maximum applies to every call, even to a call that does not request a number of tokens.
2. A maximum that is learned from a refusal is kept for further calls to the same model. Such a maximum is applied only
   if a call requests a larger number.
3. If the prompt nearly fills the context window, no maximum is learned. Then the agent receives the refusal, so that
   the agent shortens its history.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from .._canonical.content import Json
from ..dialects._documents import merged

LEAST = 1024
"""Minimum tokens for an answer. If the context window leaves fewer tokens for the answer, the prompt counts as too
long."""
MAX_WORDS = 4000
"""Maximum characters of a refusal's text that are searched for a number. The number is limited because each of several
patterns searches the whole text."""
MAX_MODELS = 256
"""Maximum number of models for which a learned maximum is stored. The number is limited because an agent may send any
number of model names."""

_N = r"(\d[\d,]*)"
_OUTPUT = [  # patterns with the maximum tokens of an answer; 1 if the number itself is excluded
    (rf"at most {_N} completion tokens", 0),  # OpenAI
    (rf"max_tokens: \d+ > {_N}", 0),  # Anthropic
    (rf"max_tokens is \[1, ?{_N}\]", 0),  # DeepSeek
    (rf"`?max_(?:completion_)?tokens`? must be less than or equal to `?{_N}", 0),  # Groq
    (rf"range is from 1 \(inclusive\) to {_N} \(exclusive\)", 1),  # Google
]
_WINDOW = [  # patterns with the size of the window, and the tokens of the prompt
    rf"maximum context length (?:is|of) (?P<all>{_N}) tokens.*?(?P<in>{_N})"
    r" (?:input tokens|in the messages|tokens from the input)",  # vLLM, OpenAI, SGLang
    rf"exceed context limit: (?P<in>{_N}) \+ \d+ > (?P<all>{_N})",  # Anthropic
    rf"cannot be greater than (?:max_model_len=)?(?:max_total_tokens=)?(?P<all>{_N})",  # vLLM
]
Places: TypeAlias = Sequence[tuple[str, ...]]
"""The fields of a JSON body that request a number of output tokens. Each field is given by its path, as in
`Dialect.caps`."""


class Ceiling:
    """The maximum output tokens of calls to one upstream: the configured maximum, and a learned one for each model."""

    def __init__(self, configured: int | None) -> None:
        self.configured = configured
        self.outputs: dict[str, int] = {}
        """Learned maximum of output tokens, by model."""
        self.windows: dict[str, int] = {}
        """Learned maximum of prompt and output tokens together, by model."""

    def of(self, model: str, prompt: int) -> int | None:
        """Return the learned maximum of output tokens for a prompt of about `prompt` tokens.

        Return None if no maximum was learned for this model.
        """
        found = [self.outputs[model]] if model in self.outputs else []
        if model in self.windows:  # an estimate may be too low by a third
            found.append(max(LEAST, self.windows[model] - prompt * 3 // 2))
        return min(found, default=None)

    def learn(self, model: str, words: str, prompt: int) -> int | None:
        """Read a maximum from `words`, the text of a refusal, and store the maximum for later calls.

        Return the maximum output tokens for the refused call. Return None if the text contains no maximum, or if the
        prompt nearly fills the context window.
        """
        text = words[:MAX_WORDS].replace("\n", " ")
        for pattern, less in _OUTPUT:
            if (found := re.search(pattern, text)) is not None:
                output = max(1, _number(found[1]) - less)
                _keep(self.outputs, model, output)
                return output
        for pattern in _WINDOW:
            if (found := re.search(pattern, text)) is not None:
                groups = found.groupdict()
                window = _number(groups["all"])
                _keep(self.windows, model, window)
                room = window - (_number(groups["in"]) if "in" in groups else prompt * 3 // 2)
                return room if room >= LEAST else None
        return None


def asked_output(document: Json, places: Places) -> int | None:
    values = (_at(document, place) for place in places)
    return max((value for value in values if isinstance(value, int)), default=None)


def capped(document: dict[str, Json], places: Places, most: int, *, always: bool) -> dict[str, Json]:
    """Return `document`, the JSON body of a request, changed so that it requests at most `most` output tokens.

    If `always` is True, a body that does not request a number is changed, too: the new body requests `most` tokens.
    """
    asked = asked_output(document, places)
    if (asked is None and not always) or (asked is not None and asked <= most):
        return document
    for place in [place for place in places if _at(document, place) is not None] or places[:1]:
        value: Json = most
        for name in reversed(place):
            value = {name: value}
        document = merged(document, value)
    # Messages requires a budget for thinking of 1024 tokens or more, and less than the answer's tokens.
    thinking: Json = document.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if not isinstance(thinking, dict) or not isinstance(budget, int) or budget < most:
        return document
    if most <= LEAST:
        return {name: value for name, value in document.items() if name != "thinking"}
    return {**document, "thinking": {**thinking, "budget_tokens": max(LEAST, most // 2)}}


def _at(document: Json, place: tuple[str, ...]) -> Json:
    for name in place:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _keep(learned: dict[str, int], model: str, number: int) -> None:
    if len(learned) >= MAX_MODELS:
        learned.clear()
    learned[model] = number
