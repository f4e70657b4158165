"""`python -m bench.relay`: what forwarding adds to each event, beside a bare byte pump and the litellm proxy.

A provider in a process of its own streams chat completions, and writes the time into each event. A client in another
reads them through a relay in a third: the difference of the clocks (one machine, one clock) is what the way takes. The
same way without a relay is taken off. All relays are met in turn, so that all meet the same weather. A relay has a core
for itself; provider and client share another.

* `ours`: an endpoint whose handler is an upstream.
* `translated`: the same, for an agent that speaks Anthropic's messages.
* `pump`: httpx2 to hypercorn, bytes as they come, nothing read: what any relay in Python has to pay.
* `litellm`: its proxy, where `--litellm FILE` says where its command is.

Targets, of the latency that a relay adds, at the median and at the 99th percentile: at most a quarter of litellm's, and
within twice the pump's.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from .processes import core_at, pin
from .servers._program import unused_port
from .servers.litellm_proxy import litellm_proxy

EVENTS = 300
"""Events of one stream: of fewer, the 99th percentile is an accident."""
PAUSES = {1: 0.005, 16: 0.005, 256: 0.05}
"""How many streams run at once, and the seconds between two events of each: half as much to one and a half times, for
no two models speak in step. 256 streams bring 5,120 events in a second: more would fill the provider's core."""
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}


async def provider(listener: trio.SocketListener) -> None:
    """Streams events that say when they were sent."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            while body := await _request(stream):
                await _answer(stream, float(json.loads(body)["messages"][-1]["content"]))
        except trio.BrokenResourceError:
            pass

    await trio.serve_listeners(serve, [listener])


async def _answer(stream: trio.SocketStream, pause: float) -> None:
    await stream.send_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for number in range(EVENTS):
        await _send(stream, {"content": f"<{time.monotonic_ns()}>"})
        if number < EVENTS - 1:
            await trio.sleep(pause * random.uniform(0.5, 1.5))
    await _send(stream, {}, "stop")
    data = b"data: [DONE]\n\n"
    await stream.send_all(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))


async def _send(stream: trio.SocketStream, delta: dict[str, str], reason: str | None = None) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    document = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    data = b"data: " + json.dumps(document).encode() + b"\n\n"
    await stream.send_all(b"%x\r\n%s\r\n" % (len(data), data))


async def _request(stream: trio.SocketStream) -> bytes:
    """Return the body of the next request; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
    while len(body) < length:
        body += await stream.receive_some()
    return body


async def ours(url: str) -> None:
    """An endpoint whose handler is an upstream."""
    import triocept

    async with triocept.open_upstream(f"{url}/v1", dialect="openai_chat", api_key="sk") as upstream:
        async with triocept.serve_endpoint() as endpoint, endpoint.open_rollout(upstream) as rollout:
            print(json.dumps({"url": endpoint.url, "key": rollout.api_key}), flush=True)
            await trio.sleep_forever()


async def pump(url: str) -> None:
    """httpx2 to hypercorn, bytes as they come."""
    import httpx2
    from hypercorn.config import Config
    from hypercorn.trio import serve

    async with httpx2.AsyncClient(timeout=None, limits=httpx2.Limits()) as client:  # 100 connections else

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise NotImplementedError
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            async with client.stream("POST", url + scope["path"], content=body) as answer:
                headers = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
                async for data in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.errorlog = None
        config.backlog = 1024
        async with trio.open_nursery() as nursery:
            binds = await nursery.start(serve, app, config)
            print(json.dumps({"url": binds[0], "key": "sk"}), flush=True)


async def client(url: str, key: str, kind: str, streams: int) -> None:
    """Reads so many streams at once; prints the nanoseconds of each event, and those of each first byte."""
    events: list[int] = []
    firsts: list[int] = []

    async def one() -> None:
        body = {
            "model": "m",
            "max_tokens": 99,
            "stream": True,
            "messages": [{"role": "user", "content": str(PAUSES[streams])}],
        }
        data = json.dumps(body).encode()
        host, _, port = url.removeprefix("http://").partition(":")
        head = (
            f"POST {PATHS[kind]} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
        )
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            start = time.monotonic_ns()
            await stream.send_all(head.encode() + data)
            seen, first = b"", True
            async for more in stream:
                now = time.monotonic_ns()
                if first:
                    firsts.append(now - start)
                    first = False
                seen += more
                while (begin := seen.find(b"<")) >= 0 and (end := seen.find(b">", begin)) >= 0:
                    events.append(now - int(seen[begin + 1 : end]))
                    seen = seen[end + 1 :]
                if b"[DONE]" in seen or b"message_stop" in seen:
                    break

    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(one)
    assert len(events) == EVENTS * streams, len(events)
    print(json.dumps({"events": events, "firsts": firsts}))


@contextmanager
def process(*arguments: str, core: int = -1) -> Iterator[dict[str, str]]:
    """A role of this module in a process of its own; what it printed first."""
    command = [sys.executable, "-m", "bench.relay", "--role", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_pinned(core)) as running:
        try:
            assert running.stdout is not None
            yield json.loads(running.stdout.readline())
        finally:
            running.terminate()


@contextmanager
def litellm(command: str, url: str, folder: Path) -> Iterator[dict[str, str]]:
    """The litellm proxy, in front of `url`."""
    port, key = unused_port(), f"sk-{secrets.token_hex(16)}"
    parameters = {"api_base": f"{url}/v1", "api_key": "sk"}
    argv, environment = litellm_proxy(command, "m", parameters, folder, port=port, key=key)
    with (folder / "litellm.log").open("w") as log:
        with subprocess.Popen(
            argv, stdout=log, stderr=log, env=environment, preexec_fn=_pinned(-1)
        ) as running:
            try:
                _wait_for_port(port)
                yield {"url": f"http://127.0.0.1:{port}", "key": key}
            finally:
                running.terminate()


def _pinned(place: int) -> Callable[[], None]:
    return partial(pin, core_at(place))


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def measure(where: dict[str, str], kind: str, streams: int) -> dict[str, list[int]]:
    command = [sys.executable, "-m", "bench.relay", "--role", "client", where["url"], where["key"], kind]
    done = subprocess.run(
        [*command, str(streams)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
        preexec_fn=_pinned(0),
    )
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


def percentile(values: list[int], share: float) -> float:
    """In microseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] / 1000


def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        far = stack.enter_context(process("provider", core=0))
        mine = stack.enter_context(process("ours", far["url"]))
        relays = {
            "none": (far, "chat"),
            "pump": (stack.enter_context(process("pump", far["url"])), "chat"),
            "ours": (mine, "chat"),
            "translated": (mine, "messages"),
        }
        if options.litellm:
            relays["litellm"] = (
                stack.enter_context(litellm(options.litellm, far["url"], Path(folder))),
                "chat",
            )
        for streams in PAUSES:
            rounds: dict[str, list[dict[str, list[int]]]] = {name: [] for name in relays}
            for _ in range(options.rounds + 1):
                for name, (where, kind) in relays.items():
                    rounds[name].append(measure(where, kind, streams))
            report(streams, {name: found[1:] for name, found in rounds.items()})  # the first round warms up


def report(streams: int, rounds: dict[str, list[dict[str, list[int]]]]) -> None:
    print(
        f"\n{streams} streams at once; microseconds that a relay adds, medians of {len(rounds['none'])} rounds"
    )
    print(f"{'':12} {'event p50':>10} {'event p99':>10} {'first byte':>11}")
    figures = {name: [_figures(found) for found in each] for name, each in rounds.items()}
    added = {
        name: [
            statistics.median(
                mine[place] - none[place] for mine, none in zip(each, figures["none"], strict=True)
            )
            for place in range(3)
        ]
        for name, each in figures.items()
    }
    for name, values in added.items():
        print(f"{name:12} {values[0]:10.0f} {values[1]:10.0f} {values[2]:11.0f}")
    for other, target in (("pump", 2.0), ("litellm", 0.25)):
        if other in added:
            ratios = [
                mine / theirs if theirs > 0 else math.nan
                for mine, theirs in zip(added["ours"], added[other], strict=True)
            ]
            print(
                f"ours to {other}: " + ", ".join(f"{ratio:.2f}" for ratio in ratios) + f" (target: {target})"
            )


def _figures(found: dict[str, list[int]]) -> tuple[float, float, float]:
    events = found["events"]
    return percentile(events, 0.5), percentile(events, 0.99), percentile(found["firsts"], 0.5)


async def _provider() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(
        json.dumps({"url": f"http://127.0.0.1:{listener.socket.getsockname()[1]}", "key": "sk"}), flush=True
    )
    await provider(listener)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--litellm", help="the command of the litellm proxy")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.role:
        run(options)
        return
    name, *arguments = options.role
    try:
        match name:
            case "provider":
                trio.run(_provider)
            case "ours":
                trio.run(ours, *arguments)
            case "pump":
                trio.run(pump, *arguments)
            case "client":
                url, key, kind, streams = arguments
                trio.run(client, url, key, kind, int(streams))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
