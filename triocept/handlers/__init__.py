"""Handlers that come with triocept: small things that answer an exchange, and compose.

* `route`: several handlers as one, by model or until one succeeds.
* `script`: a scripted model: the replies are written down beforehand.
"""

from .route import Choice, fallback, route
from .script import Reply, ScriptedModel, read_script

__all__ = ["Choice", "Reply", "ScriptedModel", "fallback", "read_script", "route"]
