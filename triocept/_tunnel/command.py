"""A tunnel that runs a program of the user. The program prints the tunnel's URL."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import final

from .._process.command import check_argv
from .._util.checks import check_number
from .base import Scheme, Tunnel, in_url, is_here, usable
from .program import open_program

URL = r"https?://[^\s\"'<>|]+"
TIMEOUT = 30.0
"""Default of `timeout`, in seconds. (cloudflared takes 3 to 10 seconds to get a name.)"""


@final
class CommandTunnel(Tunnel):
    r"""A tunnel that runs any program that prints its URL, such as cloudflared, ngrok or bore.

    For example::

        CommandTunnel(
            ["cloudflared", "tunnel", "--url", "{url}"], pattern=r"https://[-a-z0-9]+\\.trycloudflare\.com"
        )

    Args:
        argv: the command and its arguments. In the arguments, `{port}`, `{host}` and `{url}` are replaced by the
            endpoint's port, host and local URL (such as `http://127.0.0.1:40001`).
        pattern: a regular expression, searched in each line of stdout and stderr. The URL is the pattern's first group,
            or the whole match if the pattern has no group. A match without a scheme (`bore.pub:40001`) gets `http://`.
            Without a pattern, the URL is the first URL in the output whose host is not this machine. This URL is wrong
            for programs that first print the URL of their manual.
        timeout: maximum seconds until the program prints the URL.
        env: variables to add to the environment that the command inherits from this program.

    Raises:
        TypeError, ValueError: `argv`, `pattern` or `timeout` is invalid.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        pattern: str | re.Pattern[str] = URL,
        timeout: float = TIMEOUT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv: tuple[str, ...] = check_argv(argv, '"cloudflared", "tunnel", …')
        check_number("timeout", timeout)
        try:
            self.pattern: re.Pattern[str] = re.compile(pattern)
        except re.error as exc:
            raise ValueError(f"pattern must be a regular expression: {exc}") from exc
        self.timeout = timeout
        self.env: dict[str, str] = dict(env or {})
        self._any = pattern == URL

    @asynccontextmanager
    async def open(
        self, port: int, *, host: str = "127.0.0.1", scheme: Scheme = "http", previous: str | None = None
    ) -> AsyncIterator[str]:
        """Start the program, and yield the URL that it prints. See `Tunnel.open`."""
        values = {"{port}": str(port), "{host}": host, "{url}": f"{scheme}://{in_url(host)}:{port}"}
        argv = [re.sub("|".join(values), lambda name: values[name[0]], argument) for argument in self.argv]

        def find(line: str) -> str | None:
            for match in self.pattern.finditer(line):
                found: str = match[1] if self.pattern.groups and match[1] else match[0]
                url = found if "://" in found else f"http://{found}"
                if not (self._any and is_here(url)):
                    return url
            return None

        async with open_program(
            argv, name=repr(self), find=find, timeout=self.timeout, env=self.env
        ) as found:
            yield usable(found, whose=repr(self))

    def __repr__(self) -> str:
        return f"CommandTunnel({self.argv[0]!r})"  # no arguments: they may be keys
