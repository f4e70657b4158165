"""`python -m bench.strangers`: what a crowd without a key costs an agent's call, in CPU seconds of the endpoint.

Each stranger asks again as soon as it is answered, on the same connection or on a new one. An agent beside them calls
five times on new connections, and five times on one that it keeps. The cost of a call is the CPU that the endpoint's
process uses between the call's first byte and its answer; the best of five counts. Target: at most three times what it
is without strangers, or 30 ms.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time

import httpx2

ASKED = {
    "GET /health": b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    "401 of a call": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    "401 of the models": b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "404": b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
    "HEAD /health": b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n",
}
SERVER = """
import sys, trio, triocept

async def main():
    async with triocept.serve_endpoint() as endpoint:
        async with endpoint.open_rollout(lambda exchange: exchange.respond("ok")) as rollout:
            print(endpoint.port, rollout.api_key, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)

trio.run(main)
"""
STRANGERS = """
import selectors, socket, sys, time
port, count, asked, anew = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4] == "anew"
selector = selectors.DefaultSelector()

def begin():
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    selector.register(client, selectors.EVENT_WRITE)

for _ in range(count):
    begin()
end = time.monotonic() + 30  # should nobody end it
print("begun", flush=True)
while time.monotonic() < end:
    for key, events in selector.select(0.1):
        try:
            if events & selectors.EVENT_WRITE:
                key.fileobj.send(asked)
                selector.modify(key.fileobj, selectors.EVENT_READ)
                continue
            if key.fileobj.recv(65536) and not anew:
                key.fileobj.send(asked)
                continue
        except BlockingIOError:
            continue
        except OSError:
            pass
        selector.unregister(key.fileobj)
        key.fileobj.close()
        begin()
"""
CALL = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()


def cost(port: int, key: str, clock: int, kept: socket.socket | None) -> float:
    """Make a call, and return the milliseconds of CPU that the endpoint has used meanwhile."""
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    head += f"authorization: Bearer {key}\r\ncontent-length: {len(CALL)}"
    client = kept or socket.create_connection(("127.0.0.1", port))
    began = time.clock_gettime(clock)
    client.sendall(head.encode() + b"\r\n\r\n" + CALL)
    answer = client.recv(65536)
    used = time.clock_gettime(clock) - began
    if kept is None:
        client.close()
    if b" 200 " not in answer[:20]:
        raise RuntimeError(f"a call was answered with {answer[:200]!r}")
    return used * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.strangers")
    parser.add_argument("--strangers", type=int, nargs="+", default=[300, 1000])
    strangers = parser.parse_args().strangers
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, key = server.stdout.readline().split()
        clock = (~server.pid << 3) | 2  # Linux: the CPU clock of another process
        with socket.create_connection(("127.0.0.1", int(port))) as kept:

            def costs() -> str:
                pairs = [[cost(int(port), key, clock, each) for each in (None, kept)] for _ in range(5)]
                return " | ".join(f"{min(each):.1f}" for each in zip(*pairs, strict=True))

            httpx2.get(f"http://127.0.0.1:{port}/health")
            costs()
            print("| strangers | ask for | new connection, ms | kept connection, ms |\n|---|---|---|---|")
            print(f"| none | | {costs()} |", flush=True)
            for name, asked in ASKED.items():
                for how in ("again", "anew"):
                    for count in strangers:
                        arguments = [port, str(count), asked.hex(), how]
                        with subprocess.Popen(
                            [sys.executable, "-c", STRANGERS, *arguments], stdout=subprocess.PIPE
                        ) as crowd:
                            assert crowd.stdout is not None
                            crowd.stdout.readline()
                            time.sleep(3)
                            print(f"| {count}, {how} | {name} | {costs()} |", flush=True)
                            crowd.kill()
        server.communicate("")


if __name__ == "__main__":
    main()
