"""The nouns in which all dialects meet: a request, its messages and their parts, an answer, a price."""

from ._canonical.content import (
    Blob,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ._canonical.price import Price
from ._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from ._canonical.response import Response, ResponsePart, StopReason, Usage

__all__ = [
    "Blob",
    "Json",
    "Media",
    "Message",
    "Opaque",
    "OutputFormat",
    "Part",
    "Price",
    "Reasoning",
    "ReasoningAsk",
    "RefusalText",
    "Request",
    "Response",
    "ResponsePart",
    "Role",
    "Sampling",
    "StopReason",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Usage",
]
