"""The request fields that make each kind of server send tokens, and a check that a server sends them.

Sources: vLLM pull request 22587 (`return_token_ids`; chat and completions) and 0.33's protocol. SGLang 0.5.23,
serving_chat.py: the headers `x-sglext-return-*` request an `sglext` object, also in streams. Body fields for the same
purpose exist, but SGLang refuses a stream if these fields are set.

Tests with llama.cpp's server (xllamacpp 2026.10) showed: this server refuses log probabilities in a stream with tools.
In a stream without tools, the server leaves out the log probabilities of the last token. So an answer without streaming
is requested. With `verbose`, the server returns the ids of the answer and the text of the prompt, but changes this text
for some tokenizers. So /apply-template is called to render the prompt again, and /tokenize to return the ids of the
prompt's tokens. `top_logprobs: 1` is set because the server would otherwise return 20 alternatives for each token.
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
"""Names of fields by which an agent itself requests token ids."""

TokenProfile: TypeAlias = Literal["vllm", "sglang", "llama_cpp"]
"""The name of a kind of server that sends the ids and the log probabilities of tokens."""


@final
class Profile(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    dialects: frozenset[str]
    hint: str
    """The version or the option that the server needs to send tokens."""
    fields: dict[str, Json]
    """Fields that are added to every request."""
    headers: dict[str, str] = {}
    """Headers that are added to every request."""
    whole: bool = False
    """True if the server sends tokens only in answers without streaming. If the agent requests a stream, triocept
    requests such an answer and streams it to the agent."""

    def ask(self, document: dict[str, Json], logprobs: Json) -> tuple[dict[str, Json], Collector]:
        """Add the fields that request tokens to a request's JSON body. Return the body, and a collector.

        Fields that the agent itself has sent stay unchanged. `logprobs` is the value by which the server's dialect
        requests log probabilities of only the chosen tokens.
        """
        if self.whole:
            document = {name: value for name, value in document.items() if name not in _OF_STREAMS}
        added = dict(self.fields)
        asked = document.get("logprobs")
        if asked is None or asked is False:  # 0 requests them, without alternatives
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
            hint="the server must support `return_token_ids` (0.11 and later)",
            fields={"return_token_ids": True},
        ),
        Profile(
            name="sglang",
            dialects=frozenset({"openai_chat"}),
            hint="the server must support the header x-sglext-return-output-ids (0.5.23 does)",
            fields={},
            headers={"x-sglext-return-input-ids": "1", "x-sglext-return-output-ids": "1"},
        ),
        Profile(
            name="llama_cpp",
            dialects=frozenset({"openai_chat"}),
            hint="the server must support `return_tokens` with `verbose`, and /tokenize (a build of 2025 or later)",
            fields={"verbose": True, "return_tokens": True, "top_logprobs": 1},
            whole=True,
        ),
    )
}


def profile_named(name: str, dialect: str) -> Profile:
    """Return the profile of a kind of server.

    Raise ValueError if `name` is unknown, or if this kind of server cannot use `dialect`.
    """
    if name not in PROFILES:
        raise ValueError(f"tokens= must be one of {', '.join(PROFILES)}, not {name!r}")
    profile = PROFILES[name]
    if dialect not in profile.dialects:
        known = " and ".join(sorted(profile.dialects))
        raise ValueError(f"tokens={name!r} works with {known}, not with the dialect {dialect}")
    return profile


def check_probe(tokens: Tokens) -> None:
    if tokens.gaps:
        raise UpstreamError(
            f"the server does not return token ids as {tokens.engine} does ({', '.join(tokens.gaps)}): "
            f"{PROFILES[tokens.engine].hint}"
        )
