"""A stand-in for Prime Intellect's tunnel service, and for its `frpc`; the package between them is the real one.

The service's interface is what `prime-tunnel` 0.1.15 calls (`POST`, `GET`, `DELETE` under `/api/v1/tunnel`). Its
`frpc` is a script with the real one's arguments, configuration file and log lines, which keeps a connection to the
service; the service sends along it what it has to say next.
"""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from tests.tunnel.relay import PAGE

FRPC = """#!/bin/sh
"exec" "{python}" "$0" "$@"
import os, socket, sys, tomllib
with open(sys.argv[2], "rb") as file:
    config = tomllib.load(file)
assert sys.argv[1] == "-c" and config["auth"]["token"] and config["proxies"][0]["type"] == "http"
with socket.create_connection((config["serverAddr"], config["serverPort"])) as service:
    service.sendall(f"{{config['user']}} {{config['proxies'][0]['localPort']}} {{os.getpid()}}\\n".encode())
    for line in service.makefile():
        print(line.rstrip(), flush=True)
"""
CONNECTED = "2026-11-25 12:00:00.000 [I] [client/control.go:172] [ab12] [{id}] start proxy success"
INACTIVE = (
    "2026-11-25 12:00:00.000 [W] [client/service.go:310] [ab12] connect to server error: tunnel is inactive"
)
NOISE = "2026-11-25 12:00:00.000 [I] [client/service.go:295] try to connect to server..."


@dataclass
class Registration:
    """A tunnel, as the service knows it."""

    id: str
    local_port: int
    listener: trio.SocketListener
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    frpc: int | None = None
    """Its process, while it is connected."""
    control: trio.SocketStream | None = None
    status: str = "pending"
    url: str = ""


class Service:
    """The service. What it refuses next, and whether it hangs, are the test's to say."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.tunnels: dict[str, Registration] = {}
        self.deleted: list[str] = []
        self.starts: list[float] = []
        self.refusals: list[tuple[int, str]] = []
        """Status and detail of the next answers to a registration."""
        self.connects = True
        """Whether it lets `frpc` connect."""
        self.answers_after = 0.0
        """Seconds from a registration to its answer."""
        self.hangs_at = ""
        """The method that it does not answer."""
        self.hanging = trio.Event()
        self._nursery = nursery
        self._number = 0
        self._frps_port = 0

    async def serve(self) -> int:
        """Start; the port of its interface."""
        frps = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        self._frps_port = frps.socket.getsockname()[1]
        api = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        self._nursery.start_soon(trio.serve_listeners, self._control, [frps])
        self._nursery.start_soon(trio.serve_listeners, self._api, [api])
        return int(api.socket.getsockname()[1])

    async def expire(self, id_: str) -> None:
        """What happens to a tunnel when its time is over."""
        tunnel = self.tunnels[id_]
        tunnel.status = "expired"
        if tunnel.control is not None:
            await tunnel.control.send_all(f"{INACTIVE}\n".encode())

    # The connection of `frpc`

    async def _control(self, stream: trio.SocketStream) -> None:
        tunnel: Registration | None = None
        async with stream:
            try:
                login = (await stream.receive_some()).decode().split()
                tunnel = self.tunnels.get(login[0]) if login else None
                if tunnel is None:  # ended before it said who it is, or its tunnel is deleted already
                    return
                if tunnel.status == "expired":
                    await stream.send_all(f"{INACTIVE}\n".encode())
                    return
                tunnel.frpc, tunnel.control = int(login[2]), stream
                if self.connects:
                    tunnel.status = "connected"
                await stream.send_all(
                    f"{CONNECTED.format(id=tunnel.id) if self.connects else NOISE}\n".encode()
                )
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
            finally:
                if tunnel is not None and tunnel.control is stream:
                    tunnel.frpc, tunnel.control = None, None

    # The public side

    async def _public(self, tunnel: Registration) -> None:
        async def relay(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    if tunnel.control is None or tunnel.status != "connected":
                        await stream.receive_some()
                        await stream.send_all(PAGE)
                        return
                    async with await trio.open_tcp_stream("127.0.0.1", tunnel.local_port) as inner:
                        async with trio.open_nursery() as nursery:

                            async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                                async for piece in source:
                                    await sink.send_all(piece)
                                nursery.cancel_scope.cancel()

                            nursery.start_soon(pump, stream, inner)
                            nursery.start_soon(pump, inner, stream)
                except* OSError:
                    pass
                except* (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

        with tunnel.scope:
            await trio.serve_listeners(relay, [tunnel.listener])

    # Its interface

    async def _api(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        async with stream:
            try:
                while connection.our_state is h11.IDLE:
                    if not await self._cycle(connection, stream):
                        return
                    if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                        connection.start_next_cycle()
            except trio.BrokenResourceError:
                pass

    async def _cycle(self, connection: h11.Connection, stream: trio.SocketStream) -> bool:
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        method, path = request.method.decode(), request.target.decode()
        if method == self.hangs_at:
            self.hanging.set()
            await trio.sleep_forever()
        authorized = (b"authorization", b"Bearer the-key") in list(request.headers)
        status, document = await self._answer(method, path, body) if authorized else (401, {})
        data = json.dumps(document).encode()
        head = [("content-type", "application/json"), ("content-length", str(len(data)))]
        for out in (h11.Response(status_code=status, headers=head), h11.Data(data=data), h11.EndOfMessage()):
            await stream.send_all(connection.send(out))
        return True

    async def _answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        id_ = path.removeprefix("/api/v1/tunnel").strip("/")
        if method == "POST":
            self.starts.append(trio.current_time())
            if self.refusals:
                status, detail = self.refusals.pop(0)
                return status, {"detail": detail}
            registered = await self._register(json.loads(body)["local_port"])
            await trio.sleep(self.answers_after)
            return 200, self._document(registered)
        if id_ not in self.tunnels:
            return 404, {"detail": "no such tunnel"}
        tunnel = self.tunnels[id_]
        if method == "DELETE":
            tunnel.scope.cancel()
            self.deleted.append(id_)
            del self.tunnels[id_]
            return 200, {}
        return 200, self._document(tunnel)

    async def _register(self, local_port: int) -> Registration:
        self._number += 1
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        tunnel = Registration(f"t{self._number}", local_port, listener, url=url)
        self.tunnels[tunnel.id] = tunnel
        self._nursery.start_soon(self._public, tunnel)
        return tunnel

    def _document(self, tunnel: Registration) -> dict[str, Any]:
        return {
            "tunnel_id": tunnel.id,
            "hostname": "127.0.0.1",
            "url": tunnel.url,
            "frp_token": "a-token",
            "binding_secret": "a-secret",
            "server_host": "127.0.0.1",
            "server_port": self._frps_port,
            "expires_at": "2030-01-01T00:00:00Z",
            "status": tunnel.status,
        }


@asynccontextmanager
async def open_service(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service, with this machine's home, key and `frpc` set for it."""
    folder = home / ".prime" / "bin"
    folder.mkdir(parents=True)
    (folder / "frpc").write_text(FRPC.format(python=sys.executable))
    (folder / "frpc").chmod(0o755)
    (folder / ".frpc_version").write_text("0.66.0")
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        service = Service(nursery)
        port = await service.serve()
        for name, value in {
            "HOME": str(home),
            "PRIME_API_KEY": "the-key",
            "PRIME_API_BASE_URL": f"http://127.0.0.1:{port}",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("PRIME_CONTEXT", raising=False)
        monkeypatch.delenv("PRIME_TEAM_ID", raising=False)
        try:
            yield service
        except BaseException as exc:
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error


def frpc_processes(home: Path) -> list[int]:
    """The living ones of this home."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if (
                    str(home / ".prime" / "bin" / "frpc").encode()
                    in Path(f"/proc/{name}/cmdline").read_bytes()
                ):
                    found.append(int(name))
            except OSError:
                continue
    return found
