"""Find the proxies that the environment names: `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

_SCHEMES = ("http", "https", "all")
_SOCKS = ("socks5", "socks5h")


def proxies() -> dict[str, str]:
    """Return the URLs of the proxies that the environment names, each by the name of its variable.

    If `NO_PROXY` is `*`, return an empty dict.
    """
    found = getproxies()
    if "*" in [host.strip() for host in found.get("no", "").split(",")]:
        return {}
    return {_variable(scheme): found[scheme] for scheme in _SCHEMES if found.get(scheme)}


def check_proxies() -> None:
    """Raise an error if a proxy that the environment names cannot be used.

    Raises:
        ValueError: a variable does not contain the URL of a proxy.
        ModuleNotFoundError: the proxy is a SOCKS proxy, and the package for SOCKS is not installed.
    """
    for name, proxy in proxies().items():
        text = proxy if "://" in proxy else f"http://{proxy}"
        what = f"write {name}=http://HOST:PORT, or run `unset {name}`"
        try:
            parts = urlsplit(text)
            httpx2.URL(text)
            _ = parts.port
        except (httpx2.InvalidURL, ValueError) as exc:
            raise ValueError(
                f"the environment variable {name} is not the URL of a proxy ({exc}): {what}"
            ) from None
        if parts.scheme not in ("http", "https", *_SOCKS):
            raise ValueError(
                f"the environment variable {name} names a proxy of a kind that triocept cannot use, "
                f"{parts.scheme}: {what}"
            )
        if not parts.hostname or any(character.isspace() for character in parts.netloc):
            raise ValueError(f"the environment variable {name} is not the URL of a proxy: {what}")
        if parts.scheme in _SOCKS and find_spec("socksio") is None:
            raise ModuleNotFoundError(
                f"the environment variable {name} names a SOCKS proxy, for which the package socksio is missing: run "
                f"pip install 'httpx2[socks]', or run `unset {name}`"
            )


class Proxy(NamedTuple):
    variable: str
    """The environment variable that names the proxy."""
    address: str
    """The host and port of the proxy, without a password."""


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for calls to `url`; None if these calls use no proxy."""
    parts, known = urlsplit(url), proxies()
    for name in (_variable(parts.scheme), _variable("all")):
        if name in known and not proxy_bypass(parts.hostname or ""):
            text = known[name] if "://" in known[name] else f"//{known[name]}"
            return Proxy(name, urlsplit(text).netloc.rpartition("@")[2])
    return None


def _variable(scheme: str) -> str:
    lower = f"{scheme}_proxy"
    return lower if os.environ.get(lower) else lower.upper()
