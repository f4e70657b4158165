"""The official SDKs' clients, pointed at a rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

__all__ = ["ClientConfig", "open_client"]


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know of a rollout."""

    base_url: str
    """As the dialect's own SDK takes it."""
    api_key: str
    model: str

    def __repr__(self) -> str:
        return f"ClientConfig(base_url={self.base_url!r}, api_key='[redacted]', model={self.model!r})"


def open_client(
    dialect: str, config: ClientConfig, *, sync: bool, options: dict[str, Any]
) -> OpenAI | AsyncOpenAI | Anthropic | AsyncAnthropic:
    """The official client of `dialect`'s provider.

    Raises:
        ModuleNotFoundError: the SDK is not installed; the message says what to install.
        ValueError: no official SDK speaks this dialect, or we do not know it.
    """
    arguments = {"base_url": config.base_url, "api_key": config.api_key, **options}
    if dialect.startswith("openai_"):
        openai = _imported("openai")
        return (openai.OpenAI if sync else openai.AsyncOpenAI)(**arguments)  # type: ignore[no-any-return]
    if dialect == "anthropic_messages":
        anthropic = _imported("anthropic")
        return (anthropic.Anthropic if sync else anthropic.AsyncAnthropic)(**arguments)  # type: ignore[no-any-return]
    raise ValueError(f"there is no ready-made client for the dialect {dialect!r}")


def _imported(name: str) -> Any:
    try:
        return __import__(name)
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"the client needs the package {name!r}: pip install 'triocept[{name}]'", name=name
        ) from exc
