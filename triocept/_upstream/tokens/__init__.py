"""Tokens for training: ids and log probabilities, from servers that can send them.

* `profile`: the request fields for each server, and the check at the start that the server sends tokens.
* `collector`: extracts the tokens from an answer, and checks them.

The agent sends and receives the same fields as without tokens. Fields are added only to the request for the provider,
and fields that the agent did not request are removed from the answer. `open_upstream` raises an error if the server
sends no tokens. If tokens of a later call are missing, `Tokens.gaps` of its turn names the reason.
"""

from .collector import Collector
from .profile import PROFILES, Profile, TokenProfile, check_probe, profile_named

__all__ = ["PROFILES", "Collector", "Profile", "TokenProfile", "check_probe", "profile_named"]
