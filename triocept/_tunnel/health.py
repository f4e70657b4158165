"""Check that the URL of a tunnel leads to this endpoint, and keep the tunnel open.

Rules:

1. A tunnel is checked by requests to its URL, each on a new connection. A running tunnel program, or a service that
   reports "connected", does not count as a working tunnel.
2. A check succeeds only if this endpoint answers, not if a proxy (with an error page, for example) or another endpoint
   answers.
3. A tunnel that has died is opened again, with back-off, for as long as the endpoint is open. An error is raised to the
   program only if the tunnel cannot be opened the first time.
4. `on_lost` is called for a URL as soon as a new URL replaces that URL, or when the URL was down for `patience`
   seconds.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, final

import msgspec
import trio

from .._util.checks import NamesItself, check_count, check_number, check_type
from .._util.failures import split_cancelled
from ..errors import TunnelError
from .base import Scheme, Tunnel, is_here, lost, usable

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("triocept.tunnel")

BODY_SHOWN = 200
"""Maximum characters of a wrong answer that are shown in an error."""
BODY_READ = 64 * 1024
"""Maximum bytes of an answer that are read; the endpoint's answer has 80 bytes."""
FIRST_PAUSE = 0.5
"""Seconds between two checks of a new URL, until its first correct answer."""


class TunnelHealth(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """The settings for watching a tunnel and opening it again. All times are in seconds.

    Raises:
        TypeError, ValueError: a field is not a number, or out of range: below 0, infinite, NaN.
    """

    start_timeout: float = 30.0
    """Seconds to wait for the first answer through a new URL. (It takes some time until a new host name resolves.)"""
    interval: float = 10.0
    """Seconds between two checks. The interval must be shorter than the 60 s after which proxies and services close
    idle connections."""
    timeout: float = 5.0
    """Seconds to wait for the answer to one check."""
    failures: int = 3
    """Consecutive failed checks after which the tunnel counts as dead."""
    back_off: float = 0.5
    """Seconds before the second try to reopen a dead tunnel. (The first try is immediate.) Each further pause is twice
    as long."""
    max_back_off: float = 30.0
    patience: float = 60.0
    """Seconds after which the URL of a tunnel that is down counts as lost for its rollouts, even if the URL works again
    later."""
    verify: ssl.SSLContext | bool = True
    """Certificates to trust for an https URL. True: certificates of the usual authorities. An `ssl.SSLContext`: the
    certificates that the context accepts. False: any certificate."""

    def __post_init__(self) -> None:
        check_type("TunnelHealth.verify", self.verify, (bool, ssl.SSLContext), "a bool or an ssl.SSLContext")
        check_count("TunnelHealth.failures", self.failures, least=1)
        for name in ("start_timeout", "interval", "timeout", "back_off", "max_back_off", "patience"):
            check_number(f"TunnelHealth.{name}", getattr(self, name))


async def probe(client: httpx2.AsyncClient, url: str, endpoint_id: str, timeout: float) -> None:
    """Check, by a request to the URL, that the URL leads to the endpoint. Wait at most `timeout` seconds.

    Raises:
        TunnelError: the URL does not lead to the endpoint. The error's text describes the answer.
    """
    import httpx2  # imported here because it takes a while to load

    body = bytearray()
    try:
        with trio.fail_after(timeout):
            async with client.stream("GET", f"{url}/health") as answer:
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > BODY_READ:
                        break
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, trio.TooSlowError) as exc:
        raise TunnelError(f"{url}/health does not answer: {_reason(exc)}") from exc
    shown = bytes(body[:BODY_SHOWN]).decode(errors="replace")
    if answer.status_code != 200:
        raise TunnelError(f"{url}/health answers with the status {answer.status_code}: {shown}")
    try:
        said = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = None
    if not isinstance(said, dict) or "endpoint" not in said:
        raise TunnelError(f"{url} does not lead to a triocept endpoint: {url}/health answers {shown!r}")
    if said["endpoint"] != endpoint_id:
        text = f"{url} leads to another endpoint, {said['endpoint']}; this endpoint is {endpoint_id}"
        raise TunnelError(text)


@final
class Supervisor:
    """Keeps the tunnel of one endpoint open.

    Args:
        tunnel: the tunnel.
        port: the port on which the endpoint listens.
        host: the host name or address by which this machine reaches the endpoint.
        scheme: the endpoint's scheme.
        endpoint_id: the id that the endpoint's `/health` returns.
        health: the settings for watching the tunnel. If None, the URL is not checked by requests.
        on_lost: a function that is called with a URL that counts as lost, and with the reason.
        on_change: a function that is called when the tunnel comes up or goes down.
    """

    def __init__(
        self,
        tunnel: Tunnel,
        *,
        port: int,
        host: str,
        scheme: Scheme,
        endpoint_id: str,
        health: TunnelHealth | None,
        on_lost: Callable[[str, TunnelError], None],
        on_change: Callable[[], None],
    ) -> None:
        self.url: str | None = None
        """The URL of the tunnel. None while the tunnel is down."""
        self.error: TunnelError | None = None
        """The reason for the current or the latest failure of the tunnel. None if the tunnel was never down."""
        self._tunnel = tunnel
        self._open = partial(tunnel.open, port, host=host, scheme=scheme)
        self._endpoint_id = endpoint_id
        self._asks = health is not None and tunnel.dialable
        self._health = health or TunnelHealth()
        self._on_lost = on_lost
        self._on_change = on_change
        self._last: str | None = None
        """The tunnel's last URL that worked. Agents may still use this URL. None after `on_lost` was called for this
        URL."""
        self._up_since = 0.0
        self._down_since = 0.0
        self._delay = 0.0
        self._changed = trio.Event()
        self._scope = trio.CancelScope()

    def stop(self) -> None:
        self._scope.cancel()

    async def wait_up(self) -> str:
        await trio.lowlevel.checkpoint()
        while self.url is None:
            await self._changed.wait()
        return self.url

    async def run(self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
        """Open the tunnel, and keep it open until `stop` is called. The caller must start this function in `nursery`.

        Raises:
            TunnelError: the tunnel cannot be opened. This error is raised only before `started()`.
        """
        started = False

        def up(url: str) -> None:
            nonlocal started
            previous, self._last = self._last, url
            self.url, self._up_since = url, trio.current_time()
            if previous is not None and previous != url:
                error = TunnelError(f"the URL of the tunnel changed from {previous} to {url}")
                self._on_lost(previous, error)
            log.info("the tunnel is up: %s", url)
            self._change()
            if not started:
                started = True
                task_status.started()
                if trio.lowlevel.current_task().parent_nursery is nursery:
                    self._scope.shield = True  # it outlives the body's clean-up; `stop` ends it

        with self._scope:
            while True:
                error = TunnelError(f"{self._tunnel!r} has ended")
                cancelled: BaseException | None = None
                try:
                    await self._hold(up)
                except TunnelError as exc:
                    error = exc
                except BaseException as exc:  # a tunnel of the user's own may raise any exception
                    cancelled, failure = split_cancelled(exc)
                    if not started or not isinstance(failure, Exception):
                        raise
                    error = TunnelError(f"{self._tunnel!r} failed: {failure!r}")
                    error.__cause__ = failure
                if not started:
                    raise error
                self._down(error)
                if cancelled is not None:
                    raise cancelled
                delay, health = self._delay, self._health
                self._delay = min(delay * 2 or health.back_off, health.max_back_off)
                await trio.sleep(
                    delay * random.uniform(0.8, 1.2)
                )  # many endpoints lose their tunnels at once

    async def _hold(self, up: Callable[[str], None]) -> None:
        """Open the tunnel once, call `up` with its URL when the URL works, and watch the tunnel until it dies."""
        error: TunnelError | None = None
        async with self._open(previous=self._last) as given:
            try:
                url = usable(str(given), whose=repr(self._tunnel))
                if not self._asks:
                    up(url)
                    await trio.sleep_forever()
                import httpx2  # imported here because it takes a while to load

                # A new connection for each call, through the same proxies as an agent's.
                async with httpx2.AsyncClient(
                    timeout=self._health.timeout,
                    verify=self._health.verify,
                    limits=httpx2.Limits(max_keepalive_connections=0),
                    trust_env=not is_here(url),
                ) as client:
                    await self._first_answer(client, url)
                    up(url)
                    await self._check(client, url)
            except TunnelError as exc:
                error = exc  # raised below, because a nursery of the tunnel would wrap it
        if error is not None:
            raise error

    async def _first_answer(self, client: httpx2.AsyncClient, url: str) -> None:
        error: TunnelError | None = None
        with trio.move_on_after(self._health.start_timeout):
            while True:
                try:
                    return await self._probe(client, url)
                except TunnelError as exc:
                    error = exc
                await trio.sleep(FIRST_PAUSE)
        why = str(error) if error is not None else f"{url}/health does not answer"
        raise TunnelError(
            f"{self._tunnel!r} did not work within {self._health.start_timeout:g} s: {why}"
        ) from error

    async def _check(self, client: httpx2.AsyncClient, url: str) -> None:
        """Check the URL every `interval` seconds. Raise TunnelError when the tunnel counts as dead."""
        failures = 0
        while True:
            await trio.sleep(self._health.interval)
            try:
                await self._probe(client, url)
                failures = 0
            except TunnelError as exc:
                failures += 1
                log.warning(
                    "a check of the tunnel at %s failed: %s (failures in a row: %s)", url, exc, failures
                )
                if failures < self._health.failures:
                    continue
                try:
                    if revived := await self._tunnel.revive(url):
                        await self._probe(client, url)
                except TunnelError as error:
                    revived = False
                    log.warning("the tunnel at %s could not be restarted: %s", url, error)
                if not revived:
                    raise lost(url, exc) from exc
                failures = 0

    async def _probe(self, client: httpx2.AsyncClient, url: str) -> None:
        await probe(client, url, self._endpoint_id, self._health.timeout)

    def _down(self, error: TunnelError) -> None:
        now = trio.current_time()
        if self.url is not None:
            log.warning("the tunnel at %s is down, and triocept opens it again: %s", self.url, error)
            self.url, self._down_since = None, now
            if now - self._up_since > self._health.max_back_off:
                self._delay = 0.0  # the delay grows only for a tunnel that dies soon after each opening
            self._change()
        self.error = error
        if self._last is not None and now - self._down_since >= self._health.patience:
            self._on_lost(self._last, lost(self._last, error))
            self._last = None

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        self._on_change()


def _reason(exc: BaseException) -> str:
    """Return the text of an exception. If this text is empty, return the text of the exception's cause.

    The HTTP client's error for an untrusted certificate has an empty text.
    """
    cause: BaseException | None = exc
    while cause is not None:
        if text := str(cause):
            return text
        cause = cause.__cause__ or cause.__context__
    return type(exc).__name__
