"""All kinds of inputs."""

from .bodies import BODIES
from .http1 import HTTP1
from .kind import Kind
from .tls import TLS
from .upstream import UPSTREAM
from .websocket import WEBSOCKET

KINDS: dict[str, Kind] = {kind.name: kind for kind in (HTTP1, WEBSOCKET, TLS, BODIES, UPSTREAM)}
SHARES = {"http1": 3, "websocket": 3, "tls": 1, "bodies": 33, "upstream": 60}
"""Of all inputs: those that need no socket are cheap."""
