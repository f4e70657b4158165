"""Be the model: a trio program answers every model call of an LLM agent that it does not own.

The house; imports only go down:

* F6 `_cli`, `__main__`: the command line.
* F5 `_endpoint`: `serve_endpoint`, `Endpoint`. The second file to read. `_pool`: many endpoints for many rollouts.
  `agents`: how known agents are started.
* F4 `_server`: the socket, hypercorn, Quart-Trio. `_upstream`: real models, over httpx2. `_tunnel`: how agents in other
  places reach the endpoint. `handlers`: small things that answer, and compose.
* F3 `_rollout`: exchange, rollout, registry, host services: trio, no HTTP. The heart. `_bare_socket`: bytes of one of
  trio's sockets, for both sides of F4.
* F2 `dialects`: one folder for each wire format, sans-IO. `_trace`: turns, the message graph, the file.
* F1 `_canonical`: the nouns in which all dialects meet. `_sse`: the bytes of a stream. `_process`: an agent's process,
  and all that it starts.
* F0 `errors`: the whole hierarchy, drawn as a tree. `_limits`: what an endpoint puts up with. `_unicode`: text that
  every wire can hold. `_failures`: what fails while several things have to be done. `_contexts`: contexts that no
  Ctrl-C cuts in two. `_checks`: whether what a caller gives is what it should be.
"""

from . import agents as agents
from . import dialects as dialects
from . import errors as errors
from . import handlers as handlers
from ._canonical.content import (
    Blob,
    Media,
    Message,
    Opaque,
    Reasoning,
    RefusalText,
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
)
from ._canonical.fold import assemble, events_of
from ._canonical.price import Price
from ._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from ._canonical.response import Response, StopReason, Usage
from ._endpoint import TLS, Endpoint, run_endpoint, serve_endpoint
from ._limits import EndpointLimits
from ._pool import Pool, serve_pool
from ._process.output import AgentResult
from ._rollout.agent import Agent
from ._rollout.budget import Limits
from ._rollout.clients import ClientConfig
from ._rollout.exchange import Exchange
from ._rollout.rollout import Rollout
from ._rollout.services import StopCondition, UserSimulator
from ._rollout.stream import ResponseStream
from ._rollout.tools import HostTool
from ._rollout.workers import Handler
from ._trace.branch import Branch
from ._trace.conversation import Conversation
from ._trace.jsonl import JSONLRecorder
from ._trace.reader import read_traces
from ._trace.recorder import OpenedRecorder, Recorder, RecorderGroup, ServiceRecorder
from ._trace.service import ServiceCall
from ._trace.tokens import Tokens
from ._trace.trace import Trace
from ._trace.turn import Turn, TurnError
from ._tunnel.base import Tunnel
from ._tunnel.command import CommandTunnel
from ._tunnel.fixed import FixedURL
from ._tunnel.health import TunnelHealth
from ._tunnel.prime import PrimeTunnel
from ._tunnel.ssh import SSHTunnel
from ._upstream import Upstream, open_upstream
from .errors import (
    AgentFailed,
    AlreadySettled,
    ContextLengthError,
    DialectError,
    EndpointCrashed,
    ExchangeAbandoned,
    ExchangeError,
    LimitReached,
    MissingPrice,
    Refusal,
    RolloutClosed,
    ScriptExhausted,
    TrioceptError,
    TunnelError,
    Unanswered,
    UpstreamError,
    UpstreamTruncated,
)
from .handlers import ScriptedModel

__all__ = [
    # the endpoint and what lives in it
    "serve_endpoint",
    "run_endpoint",
    "Endpoint",
    "EndpointLimits",
    "TLS",
    "Rollout",
    "Limits",
    "Price",
    "ClientConfig",
    "Exchange",
    "ResponseStream",
    "Handler",
    "open_upstream",
    "Upstream",
    "ScriptedModel",
    "Agent",
    "AgentResult",
    # what it offers its agent beside the model
    "HostTool",
    "UserSimulator",
    "StopCondition",
    # agents in other places
    "Tunnel",
    "FixedURL",
    "SSHTunnel",
    "CommandTunnel",
    "PrimeTunnel",
    "TunnelHealth",
    "serve_pool",
    "Pool",
    # the nouns
    "Request",
    "Message",
    "Tool",
    "ToolChoice",
    "Sampling",
    "ReasoningAsk",
    "OutputFormat",
    "Text",
    "Reasoning",
    "Blob",
    "Media",
    "ToolCall",
    "ToolResult",
    "RefusalText",
    "Opaque",
    "Response",
    "StopReason",
    "Usage",
    # the increments of a response
    "Event",
    "ResponseStart",
    "PartStart",
    "PartDelta",
    "PartBlob",
    "PartEnd",
    "ResponseEnd",
    "assemble",
    "events_of",
    # what is kept
    "Trace",
    "Turn",
    "Conversation",
    "ServiceCall",
    "Branch",
    "TurnError",
    "Tokens",
    "Recorder",
    "RecorderGroup",
    "ServiceRecorder",
    "OpenedRecorder",
    "JSONLRecorder",
    "read_traces",
    # the errors
    "TrioceptError",
    "DialectError",
    "Refusal",
    "LimitReached",
    "UpstreamError",
    "UpstreamTruncated",
    "ContextLengthError",
    "ExchangeError",
    "AlreadySettled",
    "Unanswered",
    "ExchangeAbandoned",
    "MissingPrice",
    "ScriptExhausted",
    "RolloutClosed",
    "EndpointCrashed",
    "TunnelError",
    "AgentFailed",
]
