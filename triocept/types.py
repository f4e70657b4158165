"""The types of requests, responses, options and host services.

The requests and responses of all dialects are converted to these types of requests and responses.

* calls: `Request`, `Message` and its parts, `Tool`, `Response`, `Usage`, `Price`.
* increments of a response: `Event` and its kinds; `assemble` and `events_of` convert a response to events and back.
* options: the options of `serve_endpoint`, `open_rollout` and `run_agent`, and the settings of a rollout's clients.
* services that a rollout offers besides the model: tools, a simulated user, a stop condition, embeddings, moderations.
"""

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
from ._canonical.events import (
    Event,
    PartBlob,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)
from ._canonical.price import Price
from ._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from ._canonical.response import Response, ResponsePart, StopReason, Usage
from ._endpoint import TLS, EndpointOptions
from ._pool import OpenEndpoint
from ._process.output import BinaryWriter
from ._rollout.addresses import DialectName, Reach
from ._rollout.budget import Limits
from ._rollout.clients import ClientConfig
from ._rollout.embedding import Embed
from ._rollout.exchange import Answerable
from ._rollout.moderation import Found, Moderate
from ._rollout.options import AgentOptions, RolloutOptions, StopCondition, UserSimulator
from ._rollout.services import Said
from ._rollout.tools import HostTool, ToolLike
from ._upstream.pausing import Pause, PauseMode
from ._util.limits import EndpointLimits

__all__ = [
    "AgentOptions",
    "Answerable",
    "BinaryWriter",
    "Blob",
    "ClientConfig",
    "DialectName",
    "Embed",
    "EndpointLimits",
    "EndpointOptions",
    "Event",
    "Found",
    "HostTool",
    "Json",
    "Limits",
    "Media",
    "Message",
    "Moderate",
    "Opaque",
    "OpenEndpoint",
    "OutputFormat",
    "Part",
    "PartBlob",
    "PartDelta",
    "PartEnd",
    "PartStart",
    "Pause",
    "PauseMode",
    "Price",
    "Reach",
    "Reasoning",
    "ReasoningAsk",
    "RefusalText",
    "Request",
    "Response",
    "ResponseEnd",
    "ResponsePart",
    "ResponseStart",
    "Role",
    "RolloutOptions",
    "Said",
    "Sampling",
    "StopCondition",
    "StopReason",
    "TLS",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolLike",
    "ToolResult",
    "Usage",
    "UserSimulator",
    "assemble",
    "events_of",
]
