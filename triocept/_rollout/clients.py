"""The official SDKs' clients, pointed at a rollout.

Rules:

1. No proxy of the environment stands between a client and its rollout, unless the caller's own `http_client` says so.
2. A blocking client is told where it would block the endpoint that it waits for.
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
    """What a client needs to know of a rollout."""

    base_url: str
    """As the dialect's own SDK takes it."""
    api_key: str
    """The rollout's. It is not in the repr."""
    model: str
    """The name that the rollout gives its model; any other will do."""

    def __repr__(self) -> str:
        return f"ClientConfig(base_url={self.base_url!r}, api_key='[redacted]', model={self.model!r})"


def open_client(
    dialect: DialectFacts, config: ClientConfig, *, sync: bool, options: dict[str, Any]
) -> OpenAI | AsyncOpenAI | Anthropic | AsyncAnthropic:
    """The official client of `dialect`'s provider.

    Raises:
        ModuleNotFoundError: the SDK is not installed; the message says what to install.
        ValueError: we make none for this dialect.
    """
    arguments = {"base_url": config.base_url, "api_key": config.api_key, **options}
    if dialect.sdk is None:
        raise ValueError(
            f"there is no ready-made client for the dialect {dialect.name!r}: "
            f"rollout.config({dialect.name!r}) has the base_url, the api_key and the model for one"
        )
    sdk = _imported(dialect.sdk.package)
    kind = getattr(sdk, dialect.sdk.sync if sync else dialect.sdk.asynchronous)
    if "http_client" not in options and getproxies():
        arguments["http_client"] = _direct(sdk, config.base_url, sync=sync, options=options)
    return (_elsewhere(kind) if sync else kind)(**arguments)  # type: ignore[no-any-return]


def _direct(sdk: Any, base_url: str, *, sync: bool, options: Mapping[str, Any]) -> Any:
    """The SDK's own HTTP client, that goes through no proxy to this machine: it would have the key, and could not come
    back to here."""
    there = urlsplit(base_url)
    # openai 3 has the first, and its second may be the older httpx's.
    names = ("DefaultHttpx2Client", "DefaultHttpxClient")
    if not sync:
        names = ("DefaultAsyncHttpx2Client", "DefaultAsyncHttpxClient")
    make = next(getattr(sdk, name) for name in names if hasattr(sdk, name))
    own = {"timeout": options["timeout"]} if "timeout" in options else {}
    return make(mounts={f"{there.scheme}://{there.netloc}": None}, **own)


def _elsewhere(kind: type) -> type:
    """A blocking client that says so where it would wait for ever: in the thread of the endpoint that it waits for."""

    here = _trio_run()

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if here is not None and _trio_run() is here:
            raise RuntimeError(
                "a blocking client in trio's own thread would wait for ever: the endpoint that it waits for runs in "
                "this thread. rollout.client(dialect) is the async one; a blocking one belongs into a thread: "
                "await trio.to_thread.run_sync(…)"
            )
        return kind.request(self, *args, **kwargs)  # type: ignore[attr-defined]

    named = {"request": request, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), named)


def _trio_run() -> trio.lowlevel.TrioToken | None:
    """The run of trio that this thread is in."""
    return trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None


def _imported(name: str) -> Any:
    try:
        return __import__(name)
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"the client needs the package {name!r}: pip install 'triocept[{name}]'", name=name
        ) from exc
