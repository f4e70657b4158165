"""Types of the mappings in fixture files of aimock 1.43.0, a mock of LLM APIs. The fields have aimock's names.

triocept does not support some of these fields: if a mapping has such a field, the reader issues a warning or raises an
error. A key that is not a field is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from .forms import Form

MEDIA = ("image", "images", "audio", "transcription", "video", "json", "live")
"""Keys of responses for other kinds of endpoints (images, speech, …), which triocept does not serve."""

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0)]


class FixtureFile(Form, frozen=True):
    """Top-level mapping of a file with fixtures."""

    fixtures: list[Any]


class MatchForm(Form, frozen=True):
    """Conditions on a request, in an entry of aimock's fixtures file.

    The function `fixtures.failures` checks whether a request meets them.
    """

    userMessage: str | UnsetType = UNSET  # noqa: N815
    systemMessage: str | list[str] | UnsetType = UNSET  # noqa: N815
    inputText: str | UnsetType = UNSET  # noqa: N815
    toolCallId: str | UnsetType = UNSET  # noqa: N815
    toolResultContains: str | UnsetType = UNSET  # noqa: N815
    toolName: str | UnsetType = UNSET  # noqa: N815
    model: str | UnsetType = UNSET
    responseFormat: str | UnsetType = UNSET  # noqa: N815
    sequenceIndex: Count | UnsetType = UNSET  # noqa: N815
    turnIndex: Count | UnsetType = UNSET  # noqa: N815
    hasToolResult: bool | UnsetType = UNSET  # noqa: N815
    endpoint: str | UnsetType = UNSET
    context: str | UnsetType = UNSET


class ProfileForm(Form, frozen=True):
    """Mapping that describes the speed at which the answer of a fixture is streamed."""

    ttft: Milliseconds | None = None
    tps: Annotated[float, Meta(gt=0)] | None = None
    """Pieces per second."""
    jitter: float | None = None


class TimingsForm(Form, frozen=True):
    """Mapping that describes the times of a recorded stream."""

    ttftMs: Milliseconds = 0.0  # noqa: N815
    interChunkDelaysMs: list[Milliseconds] = []  # noqa: N815, RUF012
    totalDurationMs: Milliseconds = 0.0  # noqa: N815


class EntryForm(Form, frozen=True):
    """Mapping that describes one fixture: its conditions, its response, its speed."""

    match: MatchForm
    response: Any
    latency: Milliseconds | None = None
    chunkSize: Annotated[int, Meta(ge=1)] | None = None  # noqa: N815
    streamingProfile: ProfileForm | None = None  # noqa: N815
    recordedTimings: TimingsForm | None = None  # noqa: N815
    replaySpeed: Annotated[float, Meta(gt=0)] | None = None  # noqa: N815
    truncateAfterChunks: Count | None = None  # noqa: N815
    disconnectAfterMs: Milliseconds | None = None  # noqa: N815
    chaos: dict[str, Any] | None = None
    openRouterProcessing: bool | None = None  # noqa: N815
    metadata: dict[str, Any] | None = None


class ToolCallForm(Form, frozen=True):
    """Mapping that describes a tool call in an answer."""

    name: str
    arguments: str | dict[str, Any] | list[Any]
    id: str = ""


class BlockForm(Form, frozen=True):
    """Mapping that describes a text or a tool call in an answer's `blocks`.

    The list `blocks` states the order of texts and calls.
    """

    type: str
    text: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None
    id: str = ""


class AnswerForm(Form, frozen=True):
    """Mapping that describes the response of a fixture, if the response is an answer of the model."""

    content: str | dict[str, Any] | list[Any] | None = None
    toolCalls: list[ToolCallForm] | None = None  # noqa: N815
    blocks: list[BlockForm] | None = None
    reasoning: str | None = None
    reasoningSignature: str | None = None  # noqa: N815
    redactedThinking: list[str] | None = None  # noqa: N815
    webSearches: list[str] | None = None  # noqa: N815
    id: str = ""
    created: int | None = None
    model: str = ""
    usage: dict[str, Any] | None = None
    systemFingerprint: str | None = None  # noqa: N815
    finishReason: str | None = None  # noqa: N815
    role: str | None = None
    provider: str | None = None
    nativeFinishReason: str | None = None  # noqa: N815


class FailureForm(Form, frozen=True):
    """Mapping that describes the details of an error in an error response."""

    message: str
    type: str | None = None
    param: str | None = None
    code: str | None = None
    metadata: dict[str, Any] | None = None


class ErrorForm(Form, frozen=True):
    """Mapping that describes the response of a fixture, if the response is an HTTP error."""

    error: FailureForm
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    retryAfter: Annotated[float, Meta(ge=0)] | None = None  # noqa: N815
    fallthrough: bool | None = None


class EmbeddingForm(Form, frozen=True):
    """Mapping that describes the response of a fixture, if the response is an embedding vector."""

    embedding: Annotated[list[float], Meta(min_length=1)]


NESTED: Mapping[str, type[Form]] = {
    "match": MatchForm,
    "streamingProfile": ProfileForm,
    "recordedTimings": TimingsForm,
    "toolCalls": ToolCallForm,
    "blocks": BlockForm,
    "error": FailureForm,
}
"""Types of the mappings inside other mappings, by the key whose value they are."""
