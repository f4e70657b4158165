"""Connect this program to a Ray cluster. If no cluster is found, start a new cluster.

Rules:

1. A connection that the user's program has made itself stays open. A connection that this module has made is closed
   when the last fleet that uses it closes.
2. If no cluster answers at the given address, Ray would wait for two minutes and then end the program. So this module
   first opens a TCP connection to the cluster's address.
3. Ray starts its processes so that they die with the *thread* that started them. So this module starts a thread for
   each connection, which lives as long as the connection.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Any, final

import trio

DIAL_TIMEOUT = 5.0
"""Maximum seconds to wait for an answer from the server at a cluster's address."""
CONNECT_TIMEOUT = 60.0
"""Maximum seconds to connect. The start of a new cluster on this machine took 5 to 12 s on two busy cores."""
SHUTDOWN_TIMEOUT = 30.0
"""Maximum seconds to disconnect; in measurements it took 2 s."""
SETTINGS = 4
"""Type of the first frame of an HTTP/2 server (RFC 9113, 3.4); gRPC is HTTP/2."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])


def check_installed() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ImportError("RayEngine needs Ray: pip install 'triocept[ray]'", name="ray")


@asynccontextmanager
async def connected(address: str | None) -> AsyncIterator[None]:
    """Keep a connection to a Ray cluster open while the body runs.

    Fleets that use the same cluster share the connection.

    Raises:
        ConnectionError: no cluster answers at the address.
        RuntimeError: the cluster has another version of Ray or Python, or this program is already connected to another
            cluster.
        ValueError: `address` is not the address of a Ray cluster.
    """
    is_ours = await _connection.enter(address)
    try:
        yield
    finally:
        if is_ours:
            with trio.CancelScope(shield=True):
                await _connection.leave()


@final
class _Connection:
    """The connection of this program to a Ray cluster; Ray allows one connection for each process."""

    def __init__(self) -> None:
        self._users = 0
        self._changing = trio.Lock()
        self._leave = threading.Event()
        self._left: Future[None] = Future()

    async def enter(self, address: str | None) -> bool:
        """Connect this program to Ray, and return True. If other code has already connected it, only return False.

        If this method returned False, do not call `leave`: the code that made the connection also closes it.
        """
        async with self._changing:
            import ray

            if ray.is_initialized():
                current = str(ray.get_runtime_context().gcs_address)
                if address not in (None, "auto", "local") and _bootstrap_address(address) != current:
                    raise RuntimeError(
                        f"this program is connected to the Ray cluster at {current}, so it cannot use the cluster at "
                        f"{address}, too"
                    )
                if not self._users:
                    return False
            else:
                await self._connect(address)
            self._users += 1
            return True

    async def leave(self) -> None:
        """Disconnect if no other fleet uses the connection."""
        async with self._changing:
            self._users -= 1
            if not self._users:
                self._leave.set()
                with trio.move_on_after(SHUTDOWN_TIMEOUT):
                    await Waited(self._left).get()

    async def _connect(self, address: str | None) -> None:
        where = await _find(address)
        begun: Future[None] = Future()
        leave = self._leave = threading.Event()
        left: Future[None] = Future()
        self._left = left

        def hold() -> None:
            try:
                _init(address, where)
            except SystemExit as exc:
                begun.set_exception(
                    ConnectionError(
                        f"Ray could not connect to the cluster at {where} (exit status {exc.code})"
                    )
                )
                return
            except BaseException as exc:
                begun.set_exception(exc)
                return
            begun.set_result(None)
            leave.wait()
            import ray

            try:
                ray.shutdown()
            finally:
                left.set_result(None)

        threading.Thread(target=hold, daemon=True, name="ray").start()
        try:
            with trio.CancelScope(shield=True), trio.fail_after(CONNECT_TIMEOUT):  # it cannot be stopped
                await Waited(begun).get()
        except BaseException as exc:  # a timeout or Ctrl-C: a later connection is closed again
            leave.set()
            if not isinstance(exc, trio.TooSlowError):
                raise
            raise ConnectionError(
                f"Ray at {where or 'this machine'} was not ready within {CONNECT_TIMEOUT:g} s"
            ) from None


_connection = _Connection()


def _init(address: str | None, where: str | None) -> None:
    """Connect to the cluster at `where`, an address that was checked; if `where` is None, start a cluster.

    Ray gets `address` exactly as the user gave it. For None or "auto", Ray then also finds the cluster's token.
    """
    import ray

    def is_wanted(record: logging.LogRecord) -> bool:
        # Ray's handler of SIGTERM is not set, because it would raise an exception inside trio's code.
        return "SIGTERM handler is not set" not in record.getMessage()

    logger = logging.getLogger("ray._private.worker")
    logger.addFilter(is_wanted)
    try:
        if where is None:
            options: dict[str, Any] = {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
            ray.init("local", logging_level=logging.WARNING, **options)
        else:
            ray.init(address, logging_level=logging.WARNING)
    finally:
        logger.removeFilter(is_wanted)


async def _find(address: str | None) -> str | None:
    """Return the address of the Ray cluster that `address` selects; None if triocept itself must start a cluster."""
    given = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS") or address
    if given is not None and "://" in given:
        raise ValueError(
            f"{given!r} is an address for Ray's client, which is not supported: run this program on a node of the "
            "cluster, and pass host:port of the cluster"
        )
    where = await trio.to_thread.run_sync(_bootstrap_address, given)
    if where is None:
        return None
    hint = "" if given == address else " (see RAY_ADDRESS)" if given else " (see `ray status`)"
    host, _, port = where.rpartition(":")
    try:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
            async with stream:
                if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "false"):
                    return where
                await stream.send_all(HELLO)
                frame = await stream.receive_some(9)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as exc:
        why = str(exc) or f"no answer within {DIAL_TIMEOUT:g} s"
        raise ConnectionError(
            f"no Ray cluster answers at {where}{hint}: {why}; start it with `ray start --head`, or pass another address"
        ) from exc
    if len(frame) < 4 or frame[3] != SETTINGS:
        raise ConnectionError(
            f"the server at {where}{hint} is not a Ray cluster (it may be the dashboard of one): "
            "pass the address that `ray start` printed"
        )
    return where


def _bootstrap_address(address: str | None) -> str | None:
    from ray._private.services import canonicalize_bootstrap_address

    found: str | None = canonicalize_bootstrap_address(address)
    return found


@final
class Waited:
    """Wrapper of a future that another thread completes. Tasks of the trio loop in which it was made can await it."""

    def __init__(self, future: Future[Any]) -> None:
        self.over: trio.Event = trio.Event()
        """Set when the future is done. If the future can never be done, other code sets this event."""
        self._token = trio.lowlevel.current_trio_token()
        self.future = future
        future.add_done_callback(self._on_done)

    def _on_done(self, _: object) -> None:
        with suppress(trio.RunFinishedError):  # no task waits any more
            self._token.run_sync_soon(self.over.set)

    async def get(self) -> Any:
        await self.over.wait()
        return self.future.result()
