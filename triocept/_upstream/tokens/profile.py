"""What has to be asked of each server; what its answers say more because of it.

Sources: vLLM pull request 22587 (`return_token_ids`; chat and completions) and 0.33's protocol; SGLang 0.5.23,
serving_chat.py (the headers `x-sglext-return-*`: an `sglext` object, in streams too; its fields in the body of the same
purpose refuse streams); llama.cpp's server, whose log probabilities name their ids.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import msgspec

from ..._canonical.content import Json
from .collector import Collector, Wanted

__all__ = ["PROFILES", "Profile", "TokenProfile", "profile_named"]

TokenProfile: TypeAlias = Literal["vllm", "sglang", "llama_cpp"]
"""A server that gives the ids and the log probabilities of its tokens."""


@final
class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One such server."""

    name: str
    dialects: frozenset[str]
    fields: dict[str, Json]
    """Further fields of every request."""
    headers: dict[str, str] = {}
    """Further headers of every request."""
    prompt: bool = True
    """Whether it gives the ids of the prompt."""

    def ask(self, document: dict[str, Json], *, chat: bool) -> tuple[dict[str, Json], Collector]:
        """The document that asks for tokens too, and what takes them out of the answer.

        What the agent asked for itself stays as it was, and stays in the answer.
        """
        added = dict(self.fields)
        if document.get("logprobs") in (None, False):
            added["logprobs"] = True if chat else 1
        options = document.get("stream_options")
        counts = document.get("stream") is True and not (options or {}).get("include_usage")
        if counts:
            added["stream_options"] = {**(options or {}), "include_usage": True}
        new = {name: value for name, value in added.items() if document.get(name) != value}
        wanted = Wanted(
            ids=not any(document.get(name) for name in ("return_token_ids", "return_prompt_token_ids")),
            logprobs="logprobs" in new,
            usage=counts,
        )
        return {**document, **new}, Collector(self.name, strip=wanted, prompt=self.prompt)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="vllm",
            dialects=frozenset({"openai_chat", "openai_completions"}),
            fields={"return_token_ids": True},
        ),
        Profile(
            name="sglang",
            dialects=frozenset({"openai_chat"}),
            fields={},
            headers={"x-sglext-return-input-ids": "1", "x-sglext-return-output-ids": "1"},
        ),
        Profile(name="llama_cpp", dialects=frozenset({"openai_chat"}), fields={}, prompt=False),
    )
}


def profile_named(name: str, dialect: str) -> Profile:
    """The profile of this name.

    Raises:
        ValueError: there is none, or its server does not give tokens in this dialect.
    """
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r} for tokens; there are {', '.join(PROFILES)}")
    profile = PROFILES[name]
    if dialect not in profile.dialects:
        known = " and ".join(sorted(profile.dialects))
        raise ValueError(f"{name} gives its tokens in {known}, not in {dialect}")
    return profile
