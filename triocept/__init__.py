"""Be the model: a trio program answers every model call of an LLM agent that it does not own.

The house; imports only go down:

* F6 `_cli`, `__main__`: the command line. `exports`: traces in the formats of others. `testing`: the model for programs
  that are not trio's. `fleets`: many rollouts, on many cores. `nouns`, `events`, `traces`, `tunnels`, `services`,
  `options`: the public names of the floors below that are not here. `_moved`: loads the public modules on first use,
  and names the module of a name that is not at the top.
* F5 `_endpoint`: `serve_endpoint`, `Endpoint`. The second file to read. `_pool`: many endpoints for many rollouts.
  `agents`: how known agents are started. `_tail`: the traces in a file, one by one, while it is written too.
* F4 `_server`: the socket, hypercorn, Quart-Trio. `_upstream`: real models, over httpx2. `_tunnel`: how agents in other
  places reach the endpoint. `handlers`: small things that answer, and compose. `_taking`: sealed traces, each to one
  trainer.
* F3 `_rollout`: exchange, rollout, registry, host services: trio, no HTTP. The heart. `_bare_socket`: bytes of one of
  trio's sockets, for both sides of F4.
* F2 `dialects`: one folder for each wire format, sans-IO. `_trace`: turns, the message graph, the file. `_document`: a
  file that people write, with its lines.
* F1 `_canonical`: the nouns in which all dialects meet. `_sse`: the bytes of a stream. `_process`: an agent's process,
  and all that it starts.
* F0 `errors`: the whole hierarchy, drawn as a tree. `_limits`: what an endpoint puts up with. `_unicode`: text that
  every wire can hold. `_secrets`: keys that are in use. `_failures`: what fails while several things have to be done.
  `_contexts`: contexts that no Ctrl-C cuts in two. `_checks`: whether what a caller gives is what it should be.
  `_screen`: standard error, which holds nobody up. `_figures`: numbers in few letters.
"""

from typing import TYPE_CHECKING

from . import errors as errors
from ._canonical.content import Message, Text, ToolCall, ToolResult
from ._canonical.price import Price
from ._canonical.request import Request, Tool
from ._canonical.response import Response, Usage
from ._endpoint import Endpoint, run_endpoint, serve_endpoint
from ._pool import Pool, serve_pool
from ._process.output import AgentResult
from ._rollout.agent import Agent
from ._rollout.budget import Limits
from ._rollout.exchange import Exchange, ResponseStream
from ._rollout.rollout import Rollout
from ._rollout.workers import Handler
from ._trace.jsonl import JSONLRecorder
from ._trace.reader import read_traces
from ._trace.trace import Trace
from ._trace.turn import Turn
from ._upstream import Upstream, open_upstream
from ._util.limits import EndpointLimits
from .errors import (
    AgentFailed,
    DialectError,
    ExchangeAbandoned,
    Refusal,
    RolloutClosed,
    TrioceptError,
    TunnelError,
    UpstreamError,
)

if TYPE_CHECKING:
    from . import agents as agents
    from . import dialects as dialects
    from . import exports as exports
    from . import fleets as fleets
    from . import handlers as handlers
    from . import testing as testing
    from . import traces as traces
    from . import tunnels as tunnels
    from . import types as types
    from .handlers import ScriptedModel as ScriptedModel
else:
    from ._moved import __dir__ as __dir__
    from ._moved import __getattr__ as __getattr__

__all__ = [
    # the endpoint and what lives in it
    "serve_endpoint",
    "run_endpoint",
    "Endpoint",
    "EndpointLimits",
    "serve_pool",
    "Pool",
    "Rollout",
    "Limits",
    "Price",
    "Exchange",
    "ResponseStream",
    "Agent",
    "AgentResult",
    # what answers
    "Handler",
    "open_upstream",
    "Upstream",
    "ScriptedModel",
    # the nouns
    "Request",
    "Message",
    "Tool",
    "Text",
    "ToolCall",
    "ToolResult",
    "Response",
    "Usage",
    # what is kept
    "Trace",
    "Turn",
    "JSONLRecorder",
    "read_traces",
    # the errors
    "TrioceptError",
    "DialectError",
    "Refusal",
    "UpstreamError",
    "ExchangeAbandoned",
    "RolloutClosed",
    "TunnelError",
    "AgentFailed",
]
