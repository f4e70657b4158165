"""Two hosts: network namespaces with a cable between them, made here and taken away again.

The endpoint's process lives in one, an agent in the other. Both halves of the ancestor's defect can be seen so: it
looked for a free port on 127.0.0.1, and bound that number on 0.0.0.0 a moment later.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.reach.programs import network_namespaces

HERE, THERE = "10.213.7.1", "10.213.7.2"


class Hosts:
    """Two namespaces, `here` and `there`."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.here, self.there = (f"triocept-{name}-{os.getpid()}" for name in ("here", "there"))

    def run(self, *argv: str) -> None:
        subprocess.run([self.ip, *argv], check=True, capture_output=True)

    def inside(self, host: str, *argv: str) -> list[str]:
        """The command that runs on that host."""
        return [self.ip, "netns", "exec", host, *argv]

    def python(self, host: str, source: str, *arguments: str, timeout: float = 100) -> str:
        """What a Python on that host prints."""
        argv = self.inside(host, sys.executable, "-c", source, *arguments)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    hosts = Hosts(network_namespaces())
    made = []
    cable = [f"tc{os.getpid() % 10**6}{end}" for end in "ab"]
    try:
        for host in (hosts.here, hosts.there):
            hosts.run("netns", "add", host)
            made.append(host)
        hosts.run("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for host, end, address in zip((hosts.here, hosts.there), cable, (HERE, THERE), strict=True):
            hosts.run("link", "set", end, "netns", host)
            hosts.run("-n", host, "address", "add", f"{address}/24", "dev", end)
            hosts.run("-n", host, "link", "set", end, "up")
            hosts.run("-n", host, "link", "set", "lo", "up")
        yield hosts
    except subprocess.CalledProcessError as exc:
        pytest.skip(
            f"a cable between two network namespaces is not permitted here: {exc.stderr.decode().strip()}"
        )
    finally:
        for host in made:
            hosts.run("netns", "delete", host)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


ENDPOINT = """
import json, sys, trio
from triocept import serve_endpoint

async def answer(exchange):
    await exchange.respond("hello from " + sys.argv[1])

async def main():
    async with serve_endpoint(host=sys.argv[1], advertise=sys.argv[2] or None) as endpoint:
        async with endpoint.open_rollout(answer) as rollout:
            print(json.dumps([endpoint.host, endpoint.port, endpoint.url, rollout.environ(reach="public")]), flush=True)
            await trio.sleep_forever()

trio.run(main)
"""

AGENT = """
import json, sys, urllib.request
env = json.loads(sys.argv[1])
request = urllib.request.Request(
    env["OPENAI_BASE_URL"] + "/chat/completions",
    json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode(),
    {"authorization": "Bearer " + env["OPENAI_API_KEY"], "content-type": "application/json"},
)
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
    print(json.load(answer)["choices"][0]["message"]["content"])
"""

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("connected")
except OSError as exc:
    print(type(exc).__name__)
"""


@contextmanager
def endpoint_on(hosts: Hosts, host: str, advertise: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        hosts.inside(hosts.here, sys.executable, "-c", ENDPOINT, host, advertise), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(("host", "advertise"), [("0.0.0.0", HERE), ("::", HERE), (HERE, "")])
def test_an_endpoint_on_every_interface_is_reached_from_another_host(
    hosts: Hosts, host: str, advertise: str
) -> None:
    with endpoint_on(hosts, host, advertise) as endpoint:
        _, port, url, environ = json.loads(endpoint.stdout.readline())  # type: ignore[attr-defined]
        assert environ["OPENAI_BASE_URL"].startswith(f"http://{HERE}:{port}/rollout/")
        assert hosts.python(hosts.there, AGENT, json.dumps(environ)) == f"hello from {host}"
        local = environ | {
            "OPENAI_BASE_URL": environ["OPENAI_BASE_URL"].replace(f"http://{HERE}:{port}", url)
        }
        assert hosts.python(hosts.here, AGENT, json.dumps(local)) == f"hello from {host}"


def test_an_endpoint_on_loopback_is_not_reached_from_another_host(hosts: Hosts) -> None:
    with endpoint_on(hosts, "127.0.0.1", HERE) as endpoint:
        _, port, _, _ = json.loads(endpoint.stdout.readline())  # type: ignore[attr-defined]
        assert hosts.python(hosts.there, CONNECT, HERE, str(port)) == "ConnectionRefusedError"
        assert hosts.python(hosts.here, CONNECT, "127.0.0.1", str(port)) == "connected"


TAKEN_ELSEWHERE = """
import errno, os, socket, sys, trio
from triocept import serve_endpoint

def taken(address):
    sock = socket.socket()
    sock.bind((address, 0))
    sock.listen()
    return sock

async def main():
    # Only this many ports, and each of them is taken on the cable's address: free on loopback, and nowhere else.
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write("40000 40049")
    others = []
    for port in range(40000, 40049):
        sock = socket.socket()
        sock.bind((sys.argv[1], port))
        sock.listen()
        others.append(sock)

    # The ancestor's way: ask on 127.0.0.1, close, bind the number on 0.0.0.0.
    failures = 0
    for _ in range(40):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with server:
            try:
                server.bind(("0.0.0.0", port))
                server.listen()
            except OSError as exc:
                assert exc.errno == errno.EADDRINUSE
                failures += 1
    # Ours: one bind, on the interface itself, which finds the only port that is free there.
    ports = []
    for _ in range(40):
        async with serve_endpoint(host="0.0.0.0") as endpoint:
            ports.append(endpoint.port)
            with trio.socket.socket() as agent:
                await agent.bind((sys.argv[1], 50000 + len(ports)))
                await agent.connect((sys.argv[1], endpoint.port))
    print(failures, *sorted(set(ports)))

trio.run(main)
"""


def test_a_port_free_on_loopback_and_taken_on_the_other_interface_breaks_the_ancestors_way_and_not_ours(
    hosts: Hosts,
) -> None:
    failures, *ports = hosts.python(hosts.here, TAKEN_ELSEWHERE, HERE).split()
    assert int(failures) > 0, "the ancestor's way must meet a port that is taken on the other interface"
    assert ports == ["40049"]
