"""`--upstream`: forwards the agent's calls to a real model."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import click
import msgspec

from .._canonical.request import Sampling
from .._upstream import open_upstream
from .._upstream.address import is_near
from .._upstream.tokens import PROFILES
from .._util.key_forms import key_forms
from ..dialects import known_dialects
from .options import Choice, F, Option, WholeNumber, add_options, base_url, did_you_mean
from .script import Answers

_DIALECTS = known_dialects()
_KEYS = list(dict.fromkeys(dialect.key_variable for dialect in _DIALECTS.values()))
_HOSTS = {host: name for name, dialect in _DIALECTS.items() for host in dialect.hosts}


@dataclass(frozen=True)
class Forward:
    """The real model that `--upstream` and its related options describe."""

    url: str
    dialect: str
    model: str | None
    api_key: str | None
    variables: tuple[str, ...] = ()
    """Names of environment variables to hide from the agent: the variable that contains the provider's key."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments with which `open_upstream` is called."""

    @classmethod
    def of(
        cls,
        url: str,
        dialect: str | None = None,
        model: str | None = None,
        api_key_env: str | None = None,
        **options: Any,
    ) -> Forward:
        """Return the real model that the options describe.

        Raise click.UsageError if the environment variable with the key is not set, or if two options contradict each
        other.
        """
        by_host = _HOSTS.get(urlsplit(url).hostname or "", "openai_chat")
        name = dialect.replace("-", "_") if dialect else by_host
        if api_key_env is not None and (
            not re.fullmatch(r"[A-Za-z_]\w*", api_key_env) or key_forms().search(api_key_env)
        ):
            raise click.UsageError(
                "--api-key-env must name an environment variable, and not contain a key: put the key into a variable, "
                f"as in export {_DIALECTS[name].key_variable}=..., and name this variable"
            )
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise click.UsageError(
                f"--api-key-env: the variable {api_key_env} is not set, or is empty; to set the variable, run export "
                f"{api_key_env}=..."
            )
        if options.get("tokens") and model is None:
            raise click.UsageError(
                "--tokens needs --model NAME, because triocept tries one call to that model at the start"
            )
        variable = api_key_env or _DIALECTS[name].key_variable
        return cls(url, name, model, os.environ.get(variable) or None, (variable,), options)

    def __repr__(self) -> str:  # it holds a key
        return f"<Forward {self.url}: {self.dialect}>"

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """Open a handler that forwards calls to the model. If the provider's key is missing, warn with `say`.

        Raises:
            click.UsageError: the dialect does not support an option, or the proxy that the environment names cannot be
                used.
            UpstreamError: the upstream does not return the token ids that `--tokens` requests.
        """
        if self.api_key is None and not is_near(urlsplit(self.url).hostname or ""):
            say(f"{self.variables[0]} is not set, so calls are sent to {self.url} without a key")
        opened = open_upstream(
            self.url, dialect=self.dialect, model=self.model, api_key=self.api_key, **self.options
        )
        async with AsyncExitStack() as stack:
            try:
                upstream = await stack.enter_async_context(opened)
            except (ValueError, ModuleNotFoundError) as exc:
                text = re.sub("^api_key", f"the variable {self.variables[0]}", str(exc))
                raise click.UsageError(text) from exc
            yield Answers(upstream)


_FIELDS: dict[str, Any] = {
    name: hint for name, hint in get_type_hints(Sampling).items() if name != "max_output_tokens"
}
"""Names and types of the fields that `--sampling` accepts. The token limit is not among these fields: the user sets it
with `--max-output-tokens`, which only lowers the limit that the agent requested.
"""


def _parse_sampling(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> Sampling | None:
    """Return the values `NAME=VALUE` of all `--sampling` options as one `Sampling`.

    If `stop` is given several times, all its values count. Of any other setting, the last value counts.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in _FIELDS:
            known = f"; the settings are {', '.join(_FIELDS)}"
            raise click.BadParameter(f"unknown setting {name!r}{did_you_mean(name, _FIELDS, known)}")
        if name == "stop":
            values[name] = (*values.get(name, ()), value)
            continue
        try:
            values[name] = msgspec.convert(value, _FIELDS[name], strict=False)
        except msgspec.ValidationError as exc:
            raise click.BadParameter(
                f"{value!r} is not a valid value of {name}; write a number, as in {name}=1"
            ) from exc
    return Sampling(**values) if values else None


_in_upstream = partial(click.option, cls=Option, group="Real model")
_DIALECT_NAMES, _TOKENS = Choice(_DIALECTS), Choice(PROFILES)
_OPTIONS: dict[str, Callable[[F], F]] = {
    "upstream": _in_upstream(
        "--upstream",
        type=base_url,
        metavar="URL",
        help="Forward every call to this real model. URL is the base URL that the provider's own SDK would get, for "
        "example https://api.openai.com/v1.",
    ),
    "dialect": _in_upstream(
        "--upstream-dialect",
        "dialect",
        type=_DIALECT_NAMES,
        metavar="NAME",
        help="Wire format of the real model. Default: the format of the URL's host, if triocept knows the host; "
        f"otherwise openai-chat. Names: {_DIALECT_NAMES}.",
    ),
    "model": _in_upstream(
        "--model",
        metavar="NAME",
        help="Name of the model to request. Default: the model that the agent requests.",
    ),
    "api_key_env": _in_upstream(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable that holds the provider's key. The default depends on the wire format: "
        f"{', '.join(_KEYS[:-1])} or {_KEYS[-1]}.",
    ),
    "tokens": _in_upstream(
        "--tokens",
        type=_TOKENS,
        metavar="NAME",
        help="Record the token ids and log probabilities that the real model's server returns. NAME is the kind of "
        f"server: {_TOKENS}. Needs --model.",
    ),
    "retries": _in_upstream(
        "--retries",
        type=WholeNumber(0),
        metavar="N",
        help="Send a call again, up to N times, if it fails before the first byte of its answer. Default: 0.",
    ),
    "sampling": _in_upstream(
        "--sampling",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_parse_sampling,
        help="Override a sampling setting of the agent, for example temperature=0.7. May be given several times.",
    ),
    "max_output_tokens": _in_upstream(
        "--max-output-tokens",
        type=WholeNumber(1),
        metavar="N",
        help="Request at most N tokens of output, even if the agent requests more.",
    ),
}
forward_options: Callable[[F], F] = add_options(*_OPTIONS.values())


def forward_of(options: dict[str, Any]) -> Forward | None:
    """Return the real model that `options` describe; None if `--upstream` is not given.

    The options of the model are removed from `options`. Raise click.UsageError if an option is given without
    `--upstream` but has no effect without it, or if two options contradict each other.
    """
    popped = {name: options.pop(name) for name in _OPTIONS}
    given = {name: value for name, value in popped.items() if value is not None}
    url = given.pop("upstream", None)
    if url is None and given:
        names = ["--upstream-dialect" if n == "dialect" else f"--{n.replace('_', '-')}" for n in given]
        raise click.UsageError(f"--upstream URL is missing: only forwarded calls use {' and '.join(names)}")
    if "tokens" in given:
        given["tokens"] = given["tokens"].replace("-", "_")
    return None if url is None else Forward.of(url, **given)
