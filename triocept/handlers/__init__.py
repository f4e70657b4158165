"""Handlers that come with triocept: small things that answer an exchange, and compose.

* `route`: several handlers as one, by model or until one succeeds.
* `limits`: a handler that answers within a budget.
* `script`: a scripted model: the replies are written down beforehand.
"""

from .limits import limits
from .route import Choice, fallback, route
from .script import Reply, ScriptedModel, read_script

__all__ = ["Choice", "Reply", "ScriptedModel", "fallback", "limits", "read_script", "route"]
