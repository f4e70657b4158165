"""Library with which a trio program acts as the LLM behind an agent that you did not write.

The package is layered: a module imports only modules of lower layers, and import-linter checks this rule. From the top:

* L6 `_cli`, `__main__`: the command line. `evaluation`: tasks with scores, on fleets and exports. `exports`: traces in
  other formats. `testing`: scripted models for sync and asyncio code. `fleets`: many rollouts on many cores.
* L5 `_endpoint`: `serve_endpoint`, `Endpoint`. Read this module after `__init__`. `_pool`: many endpoints.
  `_tracefiles`: follow and lease trace files. `agents`: prepares the start of agents that triocept knows, such as
  Claude Code. `types`, `traces`, `tunnels`: public names of lower layers.
* L4 `_server`: socket, HTTP/1.1 for model calls, hypercorn, Quart-Trio. `_upstream`: real models, over httpx2.
  `_tunnel`: tunnels through which remote agents reach the endpoint. `_view`: the web page on which people watch
  rollouts and decide about tool calls. `_recording`: replays and cassettes, which answer from recordings. `handlers`:
  handlers, which can be nested.
* L3 `_rollout`: exchange, rollout, registry, host services. This layer uses trio, but no HTTP. It is the core of the
  library.
* L2 `dialects`: one sans-IO codec for each wire format. `_trace`: turns, the message graph, the file.
* L1 `_canonical`: the types that all dialects share. `_process`: an agent's process and its descendants.
* L0 `errors`: the error hierarchy. `_util`: helpers that are independent of models and rollouts. `_moved`: loads public
  modules on first use, and names the new places of names that have moved.

Questions, and the modules that answer them:

* Why does a call belong to the same conversation as an earlier call? `_trace/conversations`.
* Why does a call count as the retry of an earlier call, and get its answer? `_rollout/calls`.
* When are two messages equal? `_canonical/form`, with a rule for each use.
* Why does a replay find no recorded answer to a call? `_recording/replay/record`. Why does a cassette find none?
  `_recording/cassettes/request_form`.
* When does the server send keep-alives, and in which form? `_server/delivery`.
* Which outcome does an exchange get after an exception or a disconnect? `_rollout/outcome`.
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
from ._util.garbage import tune_gc
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
    from . import evaluation as evaluation
    from . import exports as exports
    from . import fleets as fleets
    from . import handlers as handlers
    from . import testing as testing
    from . import traces as traces
    from . import tunnels as tunnels
    from . import types as types
    from .evaluation import evaluate as evaluate
    from .handlers import ScriptedModel as ScriptedModel
else:
    from ._moved import __dir__ as __dir__
    from ._moved import __getattr__ as __getattr__

__all__ = [
    # the endpoint and its parts
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
    "tune_gc",
    # what answers
    "Handler",
    "open_upstream",
    "Upstream",
    "ScriptedModel",
    # types of a call
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
    # scores
    "evaluate",
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
