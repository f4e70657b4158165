"""Get tokens for training (ids and log probabilities) from servers that can send these data.

* `profile`: the request fields for each kind of server, and the check, when the upstream is opened, that the server
  sends tokens.
* `collector`: extracts the tokens from an answer, and checks them.

The agent's own requests and answers do not change. Fields are added only to the request for the provider, and fields
that the agent did not request are removed from the answer. `open_upstream` raises an error if the server sends no
tokens. If the tokens of a later call are missing or incomplete, `Tokens.gaps` of its turn names the reason.
"""

from .collector import Collector
from .profile import PROFILES, Profile, TokenProfile, check_probe, profile_named

__all__ = ["PROFILES", "Collector", "Profile", "TokenProfile", "check_probe", "profile_named"]
