"""Handlers that come with triocept: small things that answer an exchange, and compose.

* `script`: a scripted model: the replies are written down beforehand.
"""

from .script import Reply, ScriptedModel, read_script

__all__ = ["Reply", "ScriptedModel", "read_script"]
