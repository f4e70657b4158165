"""Which headers pass: by name, both ways. Whatever is not named here stays where it is.

Keys, cookies, lengths, encodings and what belongs to one connection never pass. Proxies that lost
others are known for what came of it: without `retry-after` or `anthropic-ratelimit-*` agents retry for ever, without
`anthropic-beta` features are gone, and without `user-agent` or `x-stainless-*` providers have answered with 429.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from .._util.secrets import MARK

_UP = frozenset(
    {
        *("accept-language", "user-agent", "version", "idempotency-key", "http-referer", "x-title", "x-app"),
        *("anthropic-beta", "anthropic-version", "anthropic-dangerous-direct-browser-access"),
        *("openai-beta", "openai-organization", "openai-project", "chatgpt-account-id", "originator"),
        *("x-goog-api-client", "x-goog-user-project"),
        *("session-id", "session_id", "thread-id", "conversation_id", "x-session-id", "x-session-affinity"),
        *("x-client-request-id", "x-request-id", "traceparent", "tracestate", "baggage"),
    }
)
_UP_PREFIXES = ("x-claude-code-", "x-codex-", "x-stainless-")
_UP_ANYWHERE = frozenset({"traceparent", "tracestate", "baggage", "x-request-id"})
"""What passes to a provider of another dialect too."""

_DOWN = frozenset(
    {
        *("request-id", "x-request-id", "cf-ray"),
        *("retry-after", "retry-after-ms", "x-should-retry"),
        *("anthropic-organization-id", "openai-organization", "openai-processing-ms", "openai-version"),
        *("openai-model", "x-models-etag", "x-reasoning-included"),  # Codex reads them
    }
)
_SECRET = re.compile(r"authorization|api-?key|secret|password|cookie|(?:key|token)$", re.IGNORECASE)
"""In the name of a header: its value is a key."""
_DOWN_PREFIXES = ("anthropic-ratelimit-", "ratelimit-", "x-codex-", "x-ratelimit-")


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The keys in what a program sends with every call, each without the name of its scheme."""
    return [value.rpartition(" ")[2] for name, value in headers.items() if _SECRET.search(name)]


def passed_up(
    headers: Mapping[str, str], *, same_dialect: bool, wanted: Container[str] = ()
) -> dict[str, str]:
    """Of an agent's headers, those that its provider gets.

    Args:
        headers: the agent's, names in lower case.
        same_dialect: whether the provider speaks the agent's dialect.
        wanted: further names that pass to it then: what clients of the dialect always send. A key never does.
    """
    if not same_dialect:
        return {name: value for name, value in headers.items() if name in _UP_ANYWHERE}
    return {
        name: value
        for name, value in headers.items()
        if name in _UP or name.startswith(_UP_PREFIXES) or (name in wanted and value != MARK)
    }


def passed_down(headers: Mapping[str, str]) -> dict[str, str]:
    """Of a provider's headers, those that the agent gets."""
    names = [name for name in headers if name in _DOWN or name.startswith(_DOWN_PREFIXES)]
    return {name: headers[name] for name in names}
