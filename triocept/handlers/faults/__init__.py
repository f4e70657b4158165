"""Faults as replies: what a provider or the way to it does wrong, as values that go where an answer goes.

* `fault`: what a fault is, and its constructors.
* `refusals`: errors of a provider, by their status.
* `answers`: answers that are right on the wire, and not what an application counts on.
"""

from .fault import Fault

__all__ = ["Fault"]
