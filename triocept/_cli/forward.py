"""`--upstream`: a real model behind the command line."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast, get_type_hints
from urllib.parse import urlsplit

import click
import msgspec

from .._canonical.request import Sampling
from .._upstream import open_upstream
from .._upstream.address import is_near
from .._upstream.tokens import PROFILES
from ..dialects import known_dialects
from .script import Answers

F = TypeVar("F", bound=Callable[..., Any])

_DIALECTS = known_dialects()
_KEYS = list(dict.fromkeys(dialect.key_variable for dialect in _DIALECTS.values()))
_HOSTS = {host: name for name, dialect in _DIALECTS.items() for host in dialect.hosts}


@dataclass(frozen=True)
class Forward:
    """A real model, as the options describe it."""

    url: str
    dialect: str
    model: str | None
    api_key: str | None
    variables: tuple[str, ...] = ()
    """Environment variables to hide from the agent: the one that holds the key."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `open_upstream`."""

    @classmethod
    def of(
        cls,
        url: str,
        dialect: str | None = None,
        model: str | None = None,
        api_key_env: str | None = None,
        **options: Any,
    ) -> Forward:
        """Return the model that the options describe.

        Raises:
            click.UsageError: the variable for the key is not set, or two options contradict each other.
        """
        by_host = _HOSTS.get(urlsplit(url).hostname or "", "openai_chat")
        name = dialect.replace("-", "_") if dialect else by_host
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise click.UsageError(f"--api-key-env: the variable {api_key_env} is not set, or is empty")
        if options.get("tokens") and model is None:
            raise click.UsageError(
                "--tokens asks the server at once whether it gives them: say its --model, too"
            )
        variable = api_key_env or _DIALECTS[name].key_variable
        return cls(url, name, model, os.environ.get(variable) or None, (variable,), options)

    def __repr__(self) -> str:  # it holds a key
        return f"<Forward {self.url}: {self.dialect}>"

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """Open a handler that forwards to the model; report a missing key.

        Raises:
            click.ClickException: the URL is invalid, or the dialect does not support an option.
            UpstreamError: the upstream does not return the requested tokens.
        """
        if self.api_key is None and not is_near(urlsplit(self.url).hostname or ""):
            say(f"{self.variables[0]} is not set: {self.url} is asked without a key")
        opened = open_upstream(
            self.url, dialect=self.dialect, model=self.model, api_key=self.api_key, **self.options
        )
        async with AsyncExitStack() as stack:
            try:
                upstream = await stack.enter_async_context(opened)
            except ValueError as exc:
                raise click.ClickException(str(exc)) from exc
            yield Answers(upstream)


_FIELDS: dict[str, Any] = {
    name: hint for name, hint in get_type_hints(Sampling).items() if name != "max_output_tokens"
}
"""Names that `--sampling` accepts; the token limit has an option of its own, which is a ceiling."""


def _field(text: str) -> tuple[str, Any]:
    """Return the name and value of `NAME=VALUE`, a field of `Sampling`."""
    name, _, value = text.partition("=")
    if name not in _FIELDS:
        raise click.BadParameter(f"there is no {name!r}; there are {', '.join(_FIELDS)}")
    try:
        return name, msgspec.convert([value] if name == "stop" else value, _FIELDS[name], strict=False)
    except msgspec.ValidationError as exc:
        raise click.BadParameter(f"{value!r} is no value for {name}") from exc


_OPTIONS = {
    "upstream": click.option(
        "--upstream",
        metavar="URL",
        help="Forward every call to this real model; its base URL as the provider's own SDK takes it.",
    ),
    "dialect": click.option(
        "--upstream-dialect",
        "dialect",
        type=click.Choice([name.replace("_", "-") for name in _DIALECTS]),
        show_default="by the URL, else openai-chat",
        help="What it speaks.",
    ),
    "model": click.option(
        "--model", help="The name that it is asked for; without it, the one that the agent asks for."
    ),
    "api_key_env": click.option(
        "--api-key-env",
        metavar="VAR",
        show_default=f"{', '.join(_KEYS[:-1])} or {_KEYS[-1]}, by what it speaks",
        help="The environment variable that holds its key.",
    ),
    "tokens": click.option(
        "--tokens",
        type=click.Choice([name.replace("_", "-") for name in PROFILES]),
        help="What server it is, to record the ids and log probabilities of its tokens.",
    ),
    "retries": click.option(
        "--retries",
        type=click.IntRange(0),
        help="How often a call is tried again that failed before its first byte.",
    ),
    "sampling": click.option(
        "--sampling",
        multiple=True,
        metavar="NAME=VALUE",
        callback=lambda _context, _option, said: tuple(map(_field, said)),
        help="A field of the sampling (temperature=0.7, top_p=…), which wins over the agent's. May be repeated.",
    ),
    "max_output_tokens": click.option(
        "--max-output-tokens",
        type=click.IntRange(1),
        help="The most that any call asks for, whatever the agent says.",
    ),
}


def forward_options(command: F) -> F:
    """Add the forwarding options to a command; it gets them as one argument, `forward`."""

    @wraps(command)
    def wrapper(**options: Any) -> Any:
        said = {name: options.pop(name) for name in _OPTIONS}
        return command(forward=_said(said), **options)

    for option in reversed(_OPTIONS.values()):
        wrapper = option(wrapper)
    return cast(F, wrapper)


def _said(said: dict[str, Any]) -> Forward | None:
    given = {name: value for name, value in said.items() if value not in (None, ())}
    url = given.pop("upstream", None)
    if url is None:
        if given:
            names = ["--upstream-dialect" if n == "dialect" else f"--{n.replace('_', '-')}" for n in given]
            raise click.UsageError(f"without --upstream nobody is asked: {', '.join(names)}")
        return None
    if "tokens" in given:
        given["tokens"] = given["tokens"].replace("-", "_")
    if "sampling" in given:
        given["sampling"] = _sampling(given["sampling"])
    return Forward.of(url, **given)


def _sampling(fields: tuple[tuple[str, Any], ...]) -> Sampling:
    """Return all fields as one `Sampling`; `stop` may be repeated."""
    values = dict(fields)
    if "stop" in values:
        values["stop"] = tuple(text for name, texts in fields if name == "stop" for text in texts)
    return Sampling(**values)
