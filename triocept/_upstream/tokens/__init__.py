"""Training tokens: ids and log probabilities, from servers that give them.

* `profile`: what has to be asked of each server; whether it gives them, asked once.
* `collector`: takes them out of an answer, and checks them.

The agent's own traffic is not changed: only the provider's request gets further fields, and the answer loses just what
the agent did not ask for. So nobody has to hope that a proxy kept something: a server that does not give them is found
out at the start, and a call that lost some says so in its turn.
"""

from .collector import Collector
from .profile import PROFILES, Profile, TokenProfile, check_probe, profile_named

__all__ = ["PROFILES", "Collector", "Profile", "TokenProfile", "check_probe", "profile_named"]
