"""Training tokens: ids and log probabilities, from servers that send them.

* `profile`: the request fields of each server, and the check at the start that it sends tokens.
* `collector`: the extraction of tokens from an answer, and their checks.

The agent's own traffic is not changed: only the provider's request gets further fields, and the answer loses only
the fields that the agent did not request. So no proxy has to preserve anything. A server that sends no tokens is
detected at the start, and a call with missing tokens has a gap in its turn.
"""

from .collector import Collector
from .profile import PROFILES, Profile, TokenProfile, check_probe, profile_named

__all__ = ["PROFILES", "Collector", "Profile", "TokenProfile", "check_probe", "profile_named"]
