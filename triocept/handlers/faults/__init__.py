"""Replies that are failures: errors of a provider, or failures of the network path to the provider.

* `fault`: the `Fault` class, and its rules. `base`: its base class, a value that is also a handler.
* `bodies`: errors of a provider, by status; bodies that are not answers.
* `streams`: connections that break; broken streams.
* `answers`: answers whose format is correct, but whose content applications do not expect, or that are sent in an
  unusual way.
* `rendering`: the bytes of an answer in the dialect of the agent.
"""

from .fault import MAKERS, Fault

__all__ = ["MAKERS", "Fault"]
