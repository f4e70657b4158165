"""The connection of a program to a Ray cluster: found or started, and closed.

Rules:

1. A connection of the program itself stays open: only a connection made here is ended, with the last fleet that uses
   it.
2. No task waits for a cluster that does not exist: Ray itself would wait for two minutes, and then end the program. So
   its address is dialled first.
3. Ray starts its processes so that they die with the *thread* that started them. A connection has a thread of its own,
   which lives as long as the connection.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any, final

import trio

from .ray_waiting import Waited

DIAL_TIMEOUT = 5.0
"""Seconds for an answer from a cluster's address."""
CONNECT_TIMEOUT = 60.0
"""Seconds: a cluster of this machine alone needs 5 to 12 to start on two busy cores."""
SHUTDOWN_TIMEOUT = 30.0
"""Seconds: two were measured."""
SETTINGS = 4
"""Type of the first frame of an HTTP/2 server (RFC 9113, 3.4); gRPC is HTTP/2."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])


def check_installed() -> None:
    """Raise if Ray is not installed.

    Raises:
        ImportError: it is not; the text names the package to install.
    """
    if importlib.util.find_spec("ray") is None:
        raise ImportError("RayEngine needs Ray: pip install 'triocept[ray]'", name="ray")


@asynccontextmanager
async def connected(address: str | None) -> AsyncIterator[None]:
    """Hold a connection while the body runs; several may be open at once, to one cluster.

    Raises:
        ConnectionError: no cluster answers there.
        RuntimeError: from Ray: the cluster has another version of Ray or Python. Or this program is connected
            elsewhere.
        ValueError: the address is of another kind.
    """
    ours = await _connection.enter(address)
    try:
        yield
    finally:
        if ours:
            with trio.CancelScope(shield=True):
                await _connection.leave()


@final
class _Connection:
    """The connection of this program: Ray allows no second."""

    def __init__(self) -> None:
        self._users = 0
        self._changing = trio.Lock()
        self._leave = threading.Event()
        self._left: Future[None] = Future()

    async def enter(self, address: str | None) -> bool:
        """Connect. Return False if the program was connected before by other code, which ends that connection."""
        async with self._changing:
            import ray

            if ray.is_initialized():
                _check_same(address, str(ray.get_runtime_context().gcs_address))
                if not self._users:
                    return False
            else:
                await self._connect(address)
            self._users += 1
            return True

    async def leave(self) -> None:
        """Disconnect, if no other fleet uses the connection."""
        async with self._changing:
            self._users -= 1
            if not self._users:
                self._leave.set()
                with trio.move_on_after(SHUTDOWN_TIMEOUT):
                    await Waited(self._left).get()

    async def _connect(self, address: str | None) -> None:
        where = await _find(address)
        self._leave, self._left = threading.Event(), Future()
        begun: Future[None] = Future()
        threading.Thread(
            target=_hold, args=(address, where, begun, self._leave, self._left), daemon=True, name="ray"
        ).start()
        try:
            with trio.CancelScope(shield=True), trio.fail_after(CONNECT_TIMEOUT):  # it cannot be stopped
                await Waited(begun).get()
        except BaseException as exc:  # too slow, or a Ctrl-C: a late connection is closed again
            self._leave.set()
            if not isinstance(exc, trio.TooSlowError):
                raise
            raise ConnectionError(
                f"Ray at {where or 'this machine'} was not ready in {CONNECT_TIMEOUT:g} s"
            ) from None


_connection = _Connection()


def _hold(
    address: str | None,
    where: str | None,
    begun: Future[None],
    leave: threading.Event,
    left: Future[None],
) -> None:
    """Connect, and stay connected until `leave` is set.

    Ray gets the address as passed: if that names no cluster, it searches the token of the cluster that it finds.
    """
    try:
        _init(address, where)
    except SystemExit as exc:
        begun.set_exception(ConnectionError(f"Ray gave up on the cluster at {where}: status {exc.code}"))
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


def _init(address: str | None, where: str | None) -> None:
    import ray

    with _quiet():
        if where is None:
            options: dict[str, Any] = {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
            ray.init("local", logging_level=logging.WARNING, **options)
        else:
            ray.init(address, logging_level=logging.WARNING)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warning that Ray's handler of SIGTERM, which would raise in the midst of trio, is not set."""

    def wanted(record: logging.LogRecord) -> bool:
        return "SIGTERM handler is not set" not in record.getMessage()

    logger = logging.getLogger("ray._private.worker")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


async def _find(address: str | None) -> str | None:
    """Return the checked address of the cluster that `address` selects; None: a cluster has to be started."""
    from ray._private.services import canonicalize_bootstrap_address

    given = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS") or address
    if given is not None and "://" in given:
        raise ValueError(
            f"{given!r} is of Ray's client, which is not enough: give host:port, on a node of the cluster"
        )
    where: str | None = await trio.to_thread.run_sync(canonicalize_bootstrap_address, given)
    if where is not None:
        await _dial(
            where, "" if given == address else " (see RAY_ADDRESS)" if given else " (see `ray status`)"
        )
    return where


async def _dial(where: str, hint: str) -> None:
    """Raise ConnectionError if no gRPC server answers."""
    host, _, port = where.rpartition(":")
    try:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
            async with stream:
                if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "false"):
                    return
                await stream.send_all(HELLO)
                said = await stream.receive_some(9)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as exc:
        why = str(exc) or f"no answer within {DIAL_TIMEOUT:g} s"
        raise ConnectionError(
            f"no Ray cluster at {where}{hint}: {why}; is it started (`ray start --head`)?"
        ) from exc
    if len(said) < 4 or said[3] != SETTINGS:
        raise ConnectionError(
            f"what answers at {where}{hint} is no Ray cluster, but its dashboard perhaps: "
            "give the address that `ray start` printed"
        )


def _check_same(address: str | None, current: str) -> None:
    """Raise if the requested cluster is not the connected cluster."""
    from ray._private.services import canonicalize_bootstrap_address

    if address in (None, "auto", "local") or canonicalize_bootstrap_address(address) == current:
        return
    raise RuntimeError(
        f"this program is connected to the Ray cluster at {current}: it cannot use {address}, too"
    )
