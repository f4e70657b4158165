"""Choose the headers that are forwarded from the agent to the provider, and from the provider to the agent.

All other headers are dropped: keys, cookies, lengths, encodings and headers of one connection are never forwarded.
Agents and providers need the forwarded headers. Without `retry-after` or `anthropic-ratelimit-*`, agents retry for
ever. Without `anthropic-beta`, features are missing. Without `user-agent` or `x-stainless-*`, providers have answered
with 429.
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
"""Names of headers that are forwarded even if the provider's dialect is not the agent's."""

_DOWN = frozenset(
    {
        *("request-id", "x-request-id", "cf-ray"),
        *("retry-after", "retry-after-ms", "x-should-retry"),
        *("anthropic-organization-id", "openai-organization", "openai-processing-ms", "openai-version"),
        *("openai-model", "x-models-etag", "x-reasoning-included"),  # Codex reads them
    }
)
_SECRET = re.compile(r"authorization|api-?key|secret|password|cookie|(?:key|token)$", re.IGNORECASE)
"""Pattern of the names of headers whose value is a key."""
_DOWN_PREFIXES = ("anthropic-ratelimit-", "ratelimit-", "x-codex-", "x-ratelimit-")


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """Return the API keys in the values of `headers`, which the program adds to each call.

    A scheme before a key, such as `Bearer`, is left out.
    """
    return [value.rpartition(" ")[2] for name, value in headers.items() if _SECRET.search(name)]


def passed_up(
    headers: Mapping[str, str], *, same_dialect: bool, wanted: Container[str] = ()
) -> dict[str, str]:
    """Return the agent's headers that are forwarded to the provider, by lower-case name. They contain no keys.

    `wanted` contains the names of the headers that all clients of the dialect send. These headers are also forwarded if
    the provider has the same dialect.
    """
    if not same_dialect:
        return {name: value for name, value in headers.items() if name in _UP_ANYWHERE}
    return {
        name: value
        for name, value in headers.items()
        if name in _UP or name.startswith(_UP_PREFIXES) or (name in wanted and value != MARK)
    }


def passed_down(headers: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in headers if name in _DOWN or name.startswith(_DOWN_PREFIXES)]
    return {name: headers[name] for name in names}
