"""What the front doors take, and what tells a client where its rollout is."""

from ._endpoint import TLS, EndpointOptions, OnLostURL
from ._limits import EndpointLimits
from ._pool import OnLostEndpoint, OpenEndpoint
from ._process.output import BinaryWriter
from ._process.process import OutputFile, OutputMode
from ._rollout.addresses import DialectName, Reach
from ._rollout.budget import Limits
from ._rollout.calls import OnRetry
from ._rollout.clients import ClientConfig
from ._rollout.exchange import Answerable
from ._rollout.options import AgentOptions, OnFault, OnHangup, RolloutOptions
from ._upstream.tokens import TokenProfile

__all__ = [
    "AgentOptions",
    "Answerable",
    "BinaryWriter",
    "ClientConfig",
    "DialectName",
    "EndpointLimits",
    "EndpointOptions",
    "Limits",
    "OnFault",
    "OnHangup",
    "OnLostEndpoint",
    "OnLostURL",
    "OnRetry",
    "OpenEndpoint",
    "OutputFile",
    "OutputMode",
    "Reach",
    "RolloutOptions",
    "TLS",
    "TokenProfile",
]
