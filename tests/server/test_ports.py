"""The port is bound once and held: beside a program that grabs and frees ports as fast as it can.

The counter-example is the way of the ancestor (verifiers, before its pull request 1513): bind a throw-away socket on
127.0.0.1 to learn of a free port, close it, bind that number again on 0.0.0.0 a moment later.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.lowlevel

from tests.asking import connected
from tests.ports import free_port
from triocept import serve_endpoint

ENDPOINTS = 800
"""The ancestor's way meets a taken port once in a hundred times beside the grabber: by luck alone, 800 would
all be well once in 3,000 runs."""
AT_A_TIME = 64

GRABBER = """
import os, select, socket, sys

# Holds 2,000 ports, and takes a new one for the oldest of them as fast as it can; ends with its standard input.
held = []
print("grabbing", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        held.append(sock)
        if len(held) > 2000:
            held.pop(0).close()
"""


@contextmanager
def grabber() -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", GRABBER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"grabbing\n"
        yield
        assert process.poll() is None, "the grabber must have run all the time"
        process.stdin.close()


async def first_connect(wrong: list[object]) -> None:
    """Start an endpoint, connect in the first line, and see that it is this very one that answers."""
    async with serve_endpoint() as endpoint:
        async with connected(endpoint.port) as stream:
            async with endpoint.open_rollout(model=f"model-of-{id(endpoint)}") as rollout:
                await stream.send_all(
                    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-api-key: "
                    + rollout.api_key.encode()
                    + b"\r\n\r\n"
                )
                answer = bytearray()
                async for piece in stream:
                    answer += piece
        listed = json.loads(answer.partition(b"\r\n\r\n")[2])
        if listed["data"][0]["id"] != f"model-of-{id(endpoint)}":
            wrong.append(listed)


@pytest.mark.timeout(250)
@pytest.mark.once
async def test_eight_hundred_endpoints_beside_a_port_grabber_all_answer_their_first_connect() -> None:
    wrong: list[object] = []
    started = 0
    fds = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    async def start_many() -> None:
        nonlocal started
        while started < ENDPOINTS:
            started += 1
            await first_connect(wrong)

    with grabber():
        async with trio.open_nursery() as nursery:
            for _ in range(AT_A_TIME):
                nursery.start_soon(start_many)
    assert wrong == []
    if fds:
        assert len(os.listdir("/proc/self/fd")) <= fds


async def probe_then_bind(failures: list[OSError]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await trio.lowlevel.checkpoint()  # the ancestor built its server here
    try:
        server = socket.socket()
        with server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))
            server.listen(1)
            await trio.lowlevel.checkpoint()
    except OSError as exc:
        failures.append(exc)


@pytest.mark.timeout(120)
async def test_the_ancestors_probe_then_bind_fails_beside_the_same_grabber() -> None:
    failures: list[OSError] = []
    tries = 0
    with grabber():
        while not failures and tries < 100 * ENDPOINTS:
            async with trio.open_nursery() as nursery:
                for _ in range(AT_A_TIME):
                    nursery.start_soon(probe_then_bind, failures)
            tries += AT_A_TIME
    assert failures, f"not one of {tries} tries met a taken port"


async def test_the_same_explicit_port_can_be_had_again_right_after_a_stop() -> None:
    port = free_port()  # none that the kernel could give to another program meanwhile
    for _ in range(6):
        async with serve_endpoint(port=port) as endpoint:
            assert endpoint.port == port
            async with connected(port) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                assert b" 200 " in await stream.receive_some()


@pytest.mark.parametrize(("host", "dialled"), [
    ("127.0.0.1", "http://127.0.0.1"),
    ("localhost", "http://localhost"),
    ("0.0.0.0", "http://127.0.0.1"),
    ("::1", "http://[::1]"),
    ("::", "http://[::1]"),
])  # fmt: skip
async def test_every_host_has_a_url_that_can_be_dialled(host: str, dialled: str) -> None:
    async with serve_endpoint(host=host) as endpoint:
        assert endpoint.url == f"{dialled}:{endpoint.port}"
        async with connected(endpoint.port, dialled.removeprefix("http://").strip("[]")) as stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 200 " in await stream.receive_some()


async def test_a_port_that_is_taken_is_a_bare_oserror_that_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}") as caught:
            async with serve_endpoint(port=port):
                raise AssertionError
        assert type(caught.value) is OSError
        assert caught.value.errno == __import__("errno").EADDRINUSE


async def test_a_host_that_does_not_resolve_is_a_bare_gaierror_that_names_it() -> None:
    with pytest.raises(socket.gaierror, match=r"no-such-host\.invalid"):
        async with serve_endpoint(host="no-such-host.invalid"):
            raise AssertionError


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_port_that_is_none_is_a_valueerror(port: int) -> None:
    with pytest.raises(ValueError, match=r"port must be 0 or more|from 0 to 65535"):
        async with serve_endpoint(port=port):
            raise AssertionError
