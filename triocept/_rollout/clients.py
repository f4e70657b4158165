"""Clients of the official SDKs that send their calls to a rollout.

Rules:

1. A client ignores the proxies that environment variables name. If the caller passes an `http_client` that uses a
   proxy, the proxy is used.
2. A blocking client raises an error if it is called in the thread in which the endpoint runs. Without this error, the
   client would block the thread, and wait for ever for the endpoint's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import msgspec
import trio

from .addresses import DialectFacts

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The URL, the key and the model name that a client of a rollout needs."""

    base_url: str
    """Base URL of the rollout, written as the dialect's own SDK expects it."""
    api_key: str
    """API key of the rollout. The repr does not show it."""
    model: str
    """Name of the rollout's model. A client may also request any other name."""

    def __repr__(self) -> str:
        return f"ClientConfig(base_url={self.base_url!r}, api_key='[redacted]', model={self.model!r})"


def open_client(
    dialect: DialectFacts, config: ClientConfig, *, sync: bool, options: dict[str, Any]
) -> OpenAI | AsyncOpenAI | Anthropic | AsyncAnthropic:
    """Return the official client of the dialect's provider, configured with the rollout's URL and key.

    Raises:
        ModuleNotFoundError: the SDK is not installed; the message names the package to install.
        ValueError: triocept has no client for this dialect.
    """
    arguments = {"base_url": config.base_url, "api_key": config.api_key, **options}
    if dialect.sdk is None:
        raise ValueError(
            f"triocept has no client for the dialect {dialect.name!r}: create one from the base_url, the api_key and "
            f"the model of rollout.config({dialect.name!r})"
        )
    package = dialect.sdk.package
    try:
        sdk: Any = __import__(package)
    except ModuleNotFoundError as exc:
        text = f"the client needs the package {package!r}: pip install 'triocept[{package}]'"
        raise ModuleNotFoundError(text, name=package) from exc
    kind = getattr(sdk, dialect.sdk.sync if sync else dialect.sdk.asynchronous)
    if "http_client" not in options and getproxies():
        arguments["http_client"] = _direct(sdk, config.base_url, sync=sync, options=options)
    return (_elsewhere(kind) if sync else kind)(**arguments)  # type: ignore[no-any-return]


def _direct(sdk: Any, base_url: str, *, sync: bool, options: Mapping[str, Any]) -> Any:
    """Return an HTTP client for the SDK that connects to the endpoint on this machine without a proxy.

    A proxy would see the rollout's key, and could not reach an endpoint on this machine.
    """
    there = urlsplit(base_url)
    # openai 3 has the first class; its second class may belong to the older httpx.
    names = ("DefaultHttpx2Client", "DefaultHttpxClient")
    if not sync:
        names = ("DefaultAsyncHttpx2Client", "DefaultAsyncHttpxClient")
    make = next(getattr(sdk, name) for name in names if hasattr(sdk, name))
    own = {"timeout": options["timeout"]} if "timeout" in options else {}
    return make(mounts={f"{there.scheme}://{there.netloc}": None}, **own)


def _elsewhere(kind: type) -> type:
    """Return a subclass of `kind`, a blocking client, that raises an error in place of a deadlock.

    A request deadlocks if the client sends it in the thread in which trio runs the called endpoint.
    """
    here = _trio_run()

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if here is not None and _trio_run() is here:
            raise RuntimeError(
                "a blocking client in trio's own thread would never return: the endpoint that it calls runs in this "
                "thread. Use the async client, rollout.client(dialect), or call the blocking client in a thread: "
                "await trio.to_thread.run_sync(…)"
            )
        return kind.request(self, *args, **kwargs)  # type: ignore[attr-defined]

    named = {"request": request, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), named)


def _trio_run() -> trio.lowlevel.TrioToken | None:
    return trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None
