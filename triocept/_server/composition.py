"""A server with all that belongs to it. Loaded with the first endpoint: Quart and hypercorn take a while."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import trio

from .._limits import EndpointLimits
from .._rollout.registry import Registry
from .._rollout.rollout_core import RolloutCore
from ..dialects import Dialect
from .admission import Admission
from .app import make_app
from .front import Front
from .routes import Routes
from .serve import Server

__all__ = ["compose_server"]


def compose_server(
    listener: trio.SocketListener,
    registry: Registry[RolloutCore],
    dialects: Mapping[str, Dialect],
    *,
    endpoint_id: str,
    ssl_context: ssl.SSLContext | None,
    limits: EndpointLimits,
    grace: float,
    max_body: int,
    own_http1: bool,
    http2: bool,
    websocket: bool,
) -> tuple[Server, Front, Any]:
    """The server of one endpoint, and its two applications: model calls, and everything else."""
    admission = Admission(limits)
    server = Server(
        listener,
        ssl_context=ssl_context,
        grace=grace,
        refuse_waiting=registry.close,
        own_http1=own_http1,
        max_body=max_body,
        admission=admission,
        http2=http2,
    )
    app: Any = make_app(
        registry, dialects, notices=admission.notices, max_body=max_body, endpoint_id=endpoint_id
    )
    front = Front(
        app,
        Routes(dialects.values()),
        registry,
        admission=admission,
        max_body=max_body,
        websocket=websocket,
        on_fatal=server.on_fatal,
    )
    return server, front, app
