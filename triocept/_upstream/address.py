"""Where a provider is: its base URL as its own SDK takes it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .._util.checks import check_str

_NOT_PASSED = frozenset({"key", "alt", "$alt"})
"""Of the agent's query: Google's clients may put the key there, and how a stream is framed is said anew."""


@dataclass(frozen=True)
class Address:
    """A base URL, read."""

    base: str
    """Without a slash at its end, without its query."""
    query: tuple[tuple[str, str], ...] = ()
    """What every call carries (`api-version`, …)."""

    @property
    def secure(self) -> bool:
        """Whether it is one of https."""
        return self.base.startswith("https:")

    @property
    def here(self) -> bool:
        """Whether it is on this machine's loopback, which no proxy can reach."""
        host = (urlsplit(self.base).hostname or "").rstrip(".")
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def root(self) -> str:
        """Where a server's own calls are: beside its OpenAI ones, not under them."""
        return self.base.removesuffix("/v1")

    def at(self, path: str, agent_query: str = "") -> str:
        """The URL of a call.

        Args:
            path: behind the base, perhaps with a query of its own, which wins.
            agent_query: that of the agent's URL.
        """
        path, _, own = path.partition("?")
        passed = [(name, value) for name, value in _pairs(agent_query) if name not in _NOT_PASSED]
        query = urlencode([*self.query, *passed, *_pairs(own)])
        return f"{self.base}{path}?{query}" if query else f"{self.base}{path}"


def is_near(host: str) -> bool:
    """Whether a provider there is one's own, which mostly has no key: on this machine, or in a private network."""
    try:
        return host == "localhost" or "." not in host or ip_address(host).is_private
    except ValueError:
        return False


def parse_address(base_url: str) -> Address:
    """The address that a base URL says.

    Raises:
        TypeError: it is no text.
        ValueError: it is no http or https URL, or has a user and a password in it.
    """
    check_str("base_url", base_url)
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an upstream's base_url is an http or https URL, not {base_url!r}")
    if "@" in parts.netloc:
        raise ValueError("an upstream's base_url holds no user or password: a key is given as api_key")
    shown = base_url.partition("?")[0]  # a key may stand in a query
    import httpx2  # it takes a while to load

    try:
        httpx2.URL(base_url.strip())
        _ = parts.port
    except (httpx2.InvalidURL, ValueError) as exc:
        raise ValueError(f"an upstream's base_url is an http or https URL, not {shown!r}: {exc}") from None
    if any(character.isspace() for character in parts.netloc):
        raise ValueError(f"an upstream's base_url has no space in its host: {shown!r} has")
    base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return Address(base, tuple(_pairs(parts.query)))


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)
