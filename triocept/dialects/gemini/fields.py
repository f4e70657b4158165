"""Proto JSON.

Rules:

1. A field may be spelt in camelCase or in snake_case. Both are read, and camelCase is written; an unknown field keeps
   its spelling.
2. A list of one item may be the item itself: Google's older examples write `contents` and `parts` in this form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from ..._canonical.content import Json
from ..._canonical.memory import Memory
from ...errors import DialectError
from .._documents import Fields

NAME = "gemini"


T = TypeVar("T")

_OF_REQUESTS = """
systemInstruction generationConfig toolConfig safetySettings cachedContent generateContentRequest functionDeclarations
parametersJsonSchema functionCallingConfig allowedFunctionNames streamFunctionCallArguments maxOutputTokens
stopSequences topP topK presencePenalty frequencyPenalty candidateCount responseMimeType responseSchema
outputDimensionality responseJsonSchema thinkingConfig thinkingBudget thinkingLevel includeThoughts
"""
_OF_PARTS = """
functionCall functionResponse inlineData fileData mimeType fileUri displayName thoughtSignature partialArgs
willContinue
"""
_OF_RESPONSES = """
finishReason finishMessage usageMetadata modelVersion responseId promptFeedback blockReason promptTokenCount
candidatesTokenCount totalTokenCount cachedContentTokenCount thoughtsTokenCount toolUsePromptTokenCount
"""
_CAMEL = {
    re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name): name
    for name in (_OF_REQUESTS + _OF_PARTS + _OF_RESPONSES).split()
}


_AS_WRITTEN: dict[str, str] = {}
"""The spellings if all fields are in camelCase, as nearly always: empty."""


class ProtoFields(Fields):
    """The fields of one proto message. Not for maps or JSON data (`args`, `response`, schemas), whose keys are data."""

    __slots__ = ("_spelt",)

    def __init__(self, value: Json, path: str = "") -> None:
        self._spelt: dict[str, str] = _AS_WRITTEN
        if isinstance(value, dict) and not _CAMEL.keys().isdisjoint(value):
            self._spelt = {_CAMEL[name]: name for name in value if name in _CAMEL}
            value = {_CAMEL.get(name, name): inner for name, inner in value.items()}
        super().__init__(value, path)

    def at(self, name: str) -> str:
        return super().at(self._spelt.get(name, name))

    def each(self, name: str) -> list[tuple[str, Json]]:
        """Return the items of a list, each with its path; an object counts as a list of one."""
        value = self.peek(name)
        return [(self.at(name), self.take(name))] if isinstance(value, dict) else self.items(name)

    def read(self, name: str, memory: Memory, parse: Callable[[Json, str], T]) -> tuple[T, ...]:
        """Return the parsed items of `each`; items that did not change since the last call are not parsed again."""
        if isinstance(self.peek(name), dict):
            return tuple(parse(item, path) for path, item in self.each(name))
        return memory.read(NAME, self.at(name), self.array(name), parse)

    def object(self, name: str) -> ProtoFields | None:
        value = self.take(name)
        return None if value is None else ProtoFields(value, self.at(name))

    def need_object(self, name: str) -> ProtoFields:
        found = self.object(name)
        if found is None:
            raise DialectError("is missing", path=self.at(name))
        return found
