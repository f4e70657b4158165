"""Replies that are failures: errors of a provider, or failures of the network path to the provider.

* `fault`: the class `Fault`, and its rules. `base`: the base class of `Fault`; its instances are values and handlers.
* `bodies`: HTTP errors of a provider; response bodies that are not answers.
* `streams`: connections that break or stall; streams that are not valid.
* `answers`: answers in a correct format that have unexpected content, or that are sent in an unusual way.
* `rendering`: the bytes of an answer in the dialect of the agent.
"""

from .fault import MAKERS, Fault

__all__ = ["MAKERS", "Fault"]
