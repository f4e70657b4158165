"""Parse the base URL of a provider, which is written as the provider's own SDK expects it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .._util.checks import check_str

_NOT_PASSED = frozenset({"key", "alt", "$alt"})
"""Query parameters of the agent that are not forwarded. Google's clients may send the API key as `key`. `alt` and
`$alt` select the framing of a stream, which triocept selects itself."""


@dataclass(frozen=True)
class Address:
    """The parsed base URL of a provider."""

    base: str
    """The URL without its query, and without a slash at its end."""
    query: tuple[tuple[str, str], ...] = ()
    """Query parameters that are sent with every call (`api-version`, …)."""

    @property
    def secure(self) -> bool:
        return self.base.startswith("https:")

    @property
    def here(self) -> bool:
        """True if the host is a loopback address of this machine, which no proxy can reach."""
        host = (urlsplit(self.base).hostname or "").rstrip(".")
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def root(self) -> str:
        """The base URL without a final `/v1`. A server's own routes (such as `/tokenize`) are below this URL."""
        return self.base.removesuffix("/v1")

    def at(self, path: str, agent_query: str = "") -> str:
        """Return the URL of `path` below the base URL.

        Query parameters in `path` override the agent's query parameters.
        """
        path, _, own = path.partition("?")
        passed = [(name, value) for name, value in _pairs(agent_query) if name not in _NOT_PASSED]
        query = urlencode([*self.query, *passed, *_pairs(own)])
        return f"{self.base}{path}?{query}" if query else f"{self.base}{path}"


def is_near(host: str) -> bool:
    """Return True if the host is this machine or in a private network.

    Most providers on such hosts need no API key.
    """
    try:
        return host == "localhost" or "." not in host or ip_address(host).is_private
    except ValueError:
        return False


def parse_address(base_url: str) -> Address:
    """Parse a base URL.

    Raise ValueError if `base_url` is not an http or https URL, or contains a user or a password.
    """
    check_str("base_url", base_url)
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an upstream's base_url must be an http or https URL, not {base_url!r}")
    if "@" in parts.netloc:
        raise ValueError("an upstream's base_url cannot contain a user or a password: pass a key as api_key")
    shown = base_url.partition("?")[0]  # a query may contain a key
    import httpx2  # imported here because it takes a while to load

    try:
        httpx2.URL(base_url.strip())
        _ = parts.port
    except (httpx2.InvalidURL, ValueError) as exc:
        raise ValueError(
            f"an upstream's base_url must be an http or https URL, not {shown!r}: {exc}"
        ) from None
    if any(character.isspace() for character in parts.netloc):
        raise ValueError(f"an upstream's base_url has a space in its host: {shown!r}")
    base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return Address(base, tuple(_pairs(parts.query)))


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)
