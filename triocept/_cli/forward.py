"""`--upstream`: a real model behind the command line."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from .._rollout.service import Handler
from .._upstream import open_upstream
from ..dialects import DIALECTS

__all__ = ["Forward", "forward_options"]

F = TypeVar("F", bound=Callable[..., Any])

_HOSTS = {"api.anthropic.com": "anthropic_messages", "generativelanguage.googleapis.com": "gemini"}
_KEYS = {"anthropic_messages": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}


@dataclass(frozen=True)
class Forward:
    """A real model, as the options say it."""

    url: str
    dialect: str
    model: str | None
    api_key: str | None
    variables: tuple[str, ...] = ()
    """The environment variables that the agent must not see: the one that holds the key."""

    @classmethod
    def of(cls, url: str, dialect: str | None, model: str | None, api_key_env: str | None) -> Forward:
        """What the options mean.

        Raises:
            click.UsageError: the variable that is to hold the key is not set.
        """
        name = (
            dialect.replace("-", "_") if dialect else _HOSTS.get(urlsplit(url).hostname or "", "openai_chat")
        )
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise click.UsageError(f"--api-key-env: the variable {api_key_env} is not set, or is empty")
        variable = api_key_env or _KEYS.get(name, "OPENAI_API_KEY")
        return cls(url, name, model, os.environ.get(variable) or None, (variable,))

    def __repr__(self) -> str:  # it holds a key
        return f"<Forward {self.url}: {self.dialect}>"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Handler]:
        """The handler that forwards there."""
        try:
            opened = open_upstream(self.url, dialect=self.dialect, model=self.model, api_key=self.api_key)
            async with opened as upstream:
                yield upstream
        except ValueError as exc:
            raise click.ClickException(str(exc)) from exc


def forward_options(command: F) -> F:
    """The options of a command that can forward."""
    options = (
        click.option(
            "--upstream",
            metavar="URL",
            help="Forward every call to this real model; its base URL as the provider's own SDK takes it.",
        ),
        click.option(
            "--upstream-dialect",
            type=click.Choice([name.replace("_", "-") for name in DIALECTS]),
            show_default="by the URL, else openai-chat",
            help="What it speaks.",
        ),
        click.option(
            "--model", help="The name that it is asked for; without it, the one that the agent asks for."
        ),
        click.option(
            "--api-key-env",
            metavar="VAR",
            show_default="OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY, by what it speaks",
            help="The environment variable that holds its key.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
