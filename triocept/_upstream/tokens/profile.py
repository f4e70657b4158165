"""What has to be asked of each server; what its answers say more because of it; and whether it does, asked
once, before an agent is let in.

Sources: vLLM pull request 22587 (`return_token_ids`; chat and completions) and 0.33's protocol. SGLang 0.5.23,
serving_chat.py: the headers `x-sglext-return-*` (an `sglext` object, in streams too); its fields in the body of the
same purpose refuse streams. llama.cpp's server, run (xllamacpp 2026.10): it refuses log probabilities in a stream with
tools, and a stream without has none of its last token, so the whole is asked for; `verbose` tells the ids and the
prompt, which is tidied up for some tokenizers: /apply-template renders it, and /tokenize has its ids. `top_logprobs: 1`
keeps it from telling 20 alternatives a token.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import msgspec

from ..._canonical.content import Json
from ..._trace.tokens import Tokens
from ...errors import UpstreamError
from .collector import Collector, Wanted

_OF_STREAMS = frozenset({"stream", "stream_options"})
_ASKED = ("return_token_ids", "return_prompt_token_ids", "verbose")
"""By which an agent asks for ids itself."""

TokenProfile: TypeAlias = Literal["vllm", "sglang", "llama_cpp"]
"""A server that gives the ids and the log probabilities of its tokens."""


@final
class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One such server."""

    name: str
    dialects: frozenset[str]
    hint: str
    """What it must be to give them."""
    fields: dict[str, Json]
    """Further fields of every request."""
    headers: dict[str, str] = {}
    """Further headers of every request."""
    whole: bool = False
    """Whether it gives them with whole answers only: a stream is then played from one."""

    def ask(self, document: dict[str, Json], logprobs: Json) -> tuple[dict[str, Json], Collector]:
        """The document that asks for tokens too, and what takes them out of the answer.

        What the agent asked for itself stays as it was, and stays in the answer.

        Args:
            document: of the server's dialect.
            logprobs: what asks for log probabilities in it, without alternatives.
        """
        if self.whole:
            document = {name: value for name, value in document.items() if name not in _OF_STREAMS}
        added = dict(self.fields)
        asked = document.get("logprobs")
        if asked is None or asked is False:  # 0 asks for them, without alternatives
            added["logprobs"] = logprobs
        else:
            added.pop("top_logprobs", None)
        options = document.get("stream_options")
        counts = document.get("stream") is True and not (options or {}).get("include_usage")
        if counts:
            added["stream_options"] = {**(options or {}), "include_usage": True}
        new = {name: value for name, value in added.items() if document.get(name) != value}
        wanted = Wanted(
            ids=not any(document.get(name) for name in _ASKED),
            logprobs="logprobs" in new,
            usage=counts,
        )
        temperature = document.get("temperature")
        known = float(temperature) if isinstance(temperature, (int, float)) else None
        return {**document, **new}, Collector(self.name, strip=wanted, temperature=known)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="vllm",
            dialects=frozenset({"openai_chat", "openai_completions"}),
            hint="it must know `return_token_ids` (0.11 and later)",
            fields={"return_token_ids": True},
        ),
        Profile(
            name="sglang",
            dialects=frozenset({"openai_chat"}),
            hint="it must know the header x-sglext-return-output-ids (0.5.23 does)",
            fields={},
            headers={"x-sglext-return-input-ids": "1", "x-sglext-return-output-ids": "1"},
        ),
        Profile(
            name="llama_cpp",
            dialects=frozenset({"openai_chat"}),
            hint="it must know `return_tokens` with `verbose`, and /tokenize (a build of 2025 or later)",
            fields={"verbose": True, "return_tokens": True, "top_logprobs": 1},
            whole=True,
        ),
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


def check_probe(tokens: Tokens) -> None:
    """Accept what a server gave for one token.

    Args:
        tokens: what was collected.

    Raises:
        UpstreamError: something is missing; the text says what, and what to do.
    """
    if tokens.gaps:
        raise UpstreamError(
            f"the server does not give its tokens as {tokens.engine} does: {', '.join(tokens.gaps)}; "
            f"{PROFILES[tokens.engine].hint}"
        )
