"""Replies that are failures: errors of a provider, or failures of the network path to the provider.

* `fault`: the class `Fault`, and its rules. `base`: the base class of `Fault`; its instances are values and handlers.
* `bodies`: faults that are HTTP errors of a provider, or whose response body is not an answer.
* `streams`: faults that break or stall the connection, or whose stream is not valid.
* `answers`: faults whose answer is valid, but has unexpected content or is sent in an unusual way.
* `rendering`: renders the bytes of a fault's answer in the dialect of the agent.
"""

from .fault import MAKERS, Fault

__all__ = ["MAKERS", "Fault"]
