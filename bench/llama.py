"""`python -m bench.llama`: what an endpoint adds to a stream of llama.cpp, in CPU time for each token.

llama.cpp (with the scripted model of `tests.real_upstreams`, which makes a token in 0.25 ms), an endpoint whose handler
is an upstream, and two clients with OpenAI's SDK each run in a process of their own. One client calls llama.cpp, the
other one calls the endpoint. They do so in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

ANSWER = " ".join(f"word{number}" for number in range(60))
CALLS = 6
"""Calls of one client before it is the other's turn."""


class Costs(NamedTuple):
    """Microseconds for each token: CPU time of the three processes, and elapsed time."""

    client: float
    endpoint: float
    llama_cpp: float
    elapsed: float


async def endpoint(url: str) -> None:
    """Forward every call to llama.cpp at `url`."""
    import trio

    import triocept

    async with triocept.open_upstream(f"{url}/v1", dialect="openai_chat", api_key="sk") as upstream:
        async with triocept.serve_endpoint() as served, served.open_rollout(upstream) as rollout:
            print(json.dumps([served.url, rollout.api_key]), flush=True)
            await trio.sleep_forever()


def client(url: str, key: str) -> None:
    """For each line of the input, send `CALLS` calls, and print the tokens, the CPU time and the elapsed time."""
    import time

    import openai

    sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key)

    def call() -> int:
        chunks = sdk.chat.completions.create(
            model="m", max_tokens=400, stream=True, messages=[{"role": "user", "content": "go"}]
        )
        return sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks)

    call()
    for _ in sys.stdin:
        cpu, start = time.process_time(), time.monotonic()
        tokens = sum(call() for _ in range(CALLS))
        print(json.dumps([tokens, time.process_time() - cpu, time.monotonic() - start]), flush=True)


@contextmanager
def role(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.llama", "--role", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdout is not None
    found: list[float] = json.loads(process.stdout.readline())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, from the scheduler's statistics in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((tasks / task / "schedstat").read_text().split()[0]) for task in os.listdir(tasks)) / 1e9


def measure(process: subprocess.Popen[str], pids: tuple[int, int]) -> Costs:
    before = [cpu_seconds(pid) for pid in pids]
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    tokens, cpu, elapsed = read_line(process)
    others = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    return Costs(*(1e6 * seconds / tokens for seconds in (cpu, *others, elapsed)))


def run(pairs: int) -> None:
    from tests.real_upstreams import servers

    default = Path(tempfile.gettempdir()) / "triocept-upstreams"
    folder = Path(os.environ.get("TRIOCEPT_UPSTREAMS_DIR", default)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        llama_cpp = stack.enter_context(servers.llama_cpp(folder, "bench.log"))
        llama_cpp.start(ANSWER)
        relay = stack.enter_context(role("endpoint", llama_cpp.url))
        url, key = map(str, read_line(relay))
        direct = stack.enter_context(role("client", llama_cpp.url, "sk"))
        forwarded = stack.enter_context(role("client", url, key))
        pids = (relay.pid, llama_cpp.pid)
        found = [(measure(direct, pids), measure(forwarded, pids)) for _ in range(pairs + 1)][1:]
    for name, costs in zip(("direct", "forwarded"), zip(*found, strict=True), strict=True):
        middle = [median(values) for values in zip(*costs, strict=True)]
        print(f"{name}: us a token:", *(f"{key} {value:.0f}" for key, value in zip(Costs._fields, middle)))
    for what, ratios in {
        "CPU of all three": [sum(b[:3]) / (a.client + a.llama_cpp) for a, b in found],
        "CPU of client and endpoint": [(b.client + b.endpoint) / a.client for a, b in found],
        "elapsed time": [b.elapsed / a.elapsed for a, b in found],
    }.items():
        ratios.sort()
        print(
            f"{what}: {median(ratios):.2f} ({ratios[len(ratios) // 10]:.2f} to {ratios[-1 - len(ratios) // 10]:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.role:
        case None:
            run(options.pairs)
        case ["endpoint", url]:
            import trio

            trio.run(endpoint, url)
        case ["client", url, key]:
            client(url, key)


if __name__ == "__main__":
    main()
