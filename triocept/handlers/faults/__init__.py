"""Replies that are failures: errors of a provider, or failures of the network path to the provider.

* `fault`: the `Fault` class, and its rules. `base`: a value that is also a handler.
* `bodies`: errors of a provider, by status; bodies that are not answers.
* `streams`: connections that break; broken streams.
* `answers`: answers that are correct on the wire but that applications do not expect, or that arrive oddly.
* `rendering`: the bytes of an answer, as one agent would receive them.
"""

from .fault import MAKERS, Fault

__all__ = ["MAKERS", "Fault"]
