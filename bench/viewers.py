"""What viewers of the page cost the endpoint: `python -m bench.viewers [--rounds N]`.

Twenty rollouts stream 50 words a second each. The figures are CPU times of the thread of the event loop, in which the
endpoint and its agents run; viewers read in threads of their own. The kinds take turns, and of each kind the smallest
figure of all rounds counts: other programs only make figures larger.
"""

from __future__ import annotations

import argparse
import math
import socket
import time
from contextlib import ExitStack
from threading import Thread
from urllib.parse import urlsplit

import trio

import triocept

from .bodies import make_body
from .wire import make_request

AGENTS = 20
PAUSE = 0.02
"""Seconds between two words of an answer."""
SECONDS = 3.0
KINDS: dict[str, tuple[bool, int, int]] = {
    "no view": (False, 0, 0),
    "a view, no viewer": (True, 0, 0),
    "one viewer": (True, 1, 0),
    "five viewers": (True, 5, 0),
    "five viewers, one of which reads nothing": (True, 4, 1),
}
"""For each kind: True if there is a view, the number of viewers, and the number of viewers that read nothing."""


def viewers(rounds: int = 3, seconds: float = SECONDS) -> dict[str, float]:
    """Return the share of a core of each kind in percent."""
    best = dict.fromkeys(KINDS, math.inf)
    for _ in range(rounds):
        for name, kind in KINDS.items():
            best[name] = min(best[name], 100 * trio.run(_share, *kind, seconds))
    return best


async def _share(view: bool, reading: int, idle: int, seconds: float) -> float:
    """Return the share of a core that the event loop uses while the agents stream."""
    with ExitStack() as stack:
        async with triocept.serve_endpoint(view=view) as endpoint, trio.open_nursery() as nursery:
            for _ in range(AGENTS):
                nursery.start_soon(_stream, endpoint)
            for number in range(reading + idle):
                connection = stack.enter_context(_viewer(endpoint))
                if number < reading:
                    Thread(target=_read, args=(connection,), daemon=True).start()
            await trio.sleep(1.0)  # until all agents stream
            cpu, start = time.thread_time(), time.perf_counter()
            await trio.sleep(seconds)
            share = (time.thread_time() - cpu) / (time.perf_counter() - start)
            nursery.cancel_scope.cancel()
    return share


async def _stream(endpoint: triocept.Endpoint) -> None:
    async def answer(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            while True:
                await stream.send("word ")
                await trio.sleep(PAUSE)

    async with endpoint.open_rollout(answer) as rollout:
        path = f"{urlsplit(rollout.base_url('openai_chat')).path}/chat/completions"
        request = make_request(path, rollout.api_key, make_body(4096, stream=True))
        async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as connection:
            await connection.send_all(request)
            while await connection.receive_some():
                pass


def _viewer(endpoint: triocept.Endpoint) -> socket.socket:
    """Return the connection of a viewer that has asked for the stream."""
    key = endpoint.view_url.partition("#key=")[2]
    head = f"GET /view/api/stream HTTP/1.1\r\nhost: 127.0.0.1:{endpoint.port}\r\nauthorization: Bearer {key}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", endpoint.port))
    connection.sendall(head.encode())
    return connection


def _read(connection: socket.socket) -> None:
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass  # it was closed here


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m bench.viewers", description="What viewers cost.")
    parser.add_argument("--rounds", type=int, default=5)
    figures = viewers(parser.parse_args().rounds)
    base = figures["no view"]
    for name, share in figures.items():
        print(f"{name:45} {share:5.1f} % of a core   {share - base:+5.1f}")


if __name__ == "__main__":
    main()
