"""Faults as replies: what a provider or the way to it does wrong, as values that go where an answer goes.

* `fault`: what a fault is, and rules. `base`: a value, and a handler.
* `refusals`: errors of a provider, by their status.
* `connections`: a connection that breaks. `bodies`: answers that are none. `streams`: streams that are none.
* `answers`: answers that are right on the wire, and not what an application counts on, or odd in how they come.
* `told`: an answer as one agent would be told it.
"""

from .fault import MAKERS, Fault

__all__ = ["MAKERS", "Fault"]
