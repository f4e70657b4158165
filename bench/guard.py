"""The guard against slower code: `python -m bench.guard [--write]`.

An endpoint and its only client share a thread under callgrind. Six kinds of work are counted in instructions, each
divided by the instructions of reference work in the same process: Python code of the standard library only, or, where
most of the work is a decoder in C, a plain decode of the same body. So the ratio depends little on the machine, on the
build of Python, and on its libraries. It depends on the minor version of Python, so each has a baseline of its own, in
`guard.json`. A row that is more than `LIMIT` times its baseline fails. The garbage collector is off: when it runs
depends on what has run before. With another seed of Python's hashes, rows differed by 0.2 to 2.5 %.

A change that is worth its cost writes new baselines (`--write`), with each Python that has one.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import trio

import triocept
from triocept._util import loop_watch

from .bodies import make_body, make_turn
from .callgrind import count, mark, ready
from .powers import answer, call
from .wire import make_request

BASELINES = Path(__file__).with_name("guard.json")
LIMIT = 1.07
"""Ratio to the baseline above which a row fails. The client's part of a row is at most a fifth, so a change of 10 % in
the server is at least 8 % of the row."""
CALLS = 15
"""Calls of a pass, of most rows."""
PASSES = 3
"""The pass of a row with the fewest instructions counts. How the kernel divides what is sent differs a little."""
KIB = 1024
LARGE = "5 MiB"
REFERENCE, DECODE = "Python code", "decode"


class _Thing:
    """What the reference work is done with."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    def step(self, other: dict[str, int]) -> int:
        other[self.name] = other.get(self.name, 0) + self.size
        return len(other)


async def _steps(things: list[_Thing]) -> int:
    found: dict[str, int] = {}
    return sum([thing.step(found) for thing in things])


def _reference() -> int:
    """Python code as triocept's: calls, attributes, dicts, texts, expressions, coroutines."""
    pattern = re.compile(rb"content-length:[ ]*(\d+)")
    total = 0
    for number in range(300):
        things = [_Thing(f"{number}-{place % 7}", place) for place in range(20)]
        try:
            _steps(things).send(None)
        except StopIteration as done:
            total += done.value
        head = b"content-type: application/json\r\ncontent-length: %d\r\n" % number
        if match := pattern.search(head):
            total += int(match[1])
        total += len(", ".join([thing.name for thing in things if thing.size]))
    return total


def _growing() -> list[bytes]:
    """Turns 140 to 200 of a conversation whose last message has a cache mark."""
    document = json.loads(make_body(4 * KIB))
    said = document["messages"][:2]
    bodies = []
    for number in range(200):
        said += make_turn(number)
        if number >= 200 - (PASSES + 1) * CALLS:
            text = {"type": "text", "text": said[-1]["content"], "cache_control": {"type": "ephemeral"}}
            messages = [*said[:-1], {**said[-1], "content": [text]}]
            bodies.append(msgspec.json.encode({**document, "messages": messages}))
    return bodies


def _different(count: int) -> list[bytes]:
    return [make_body(4 * KIB, mark=f" No. {number}") for number in range(count)]


def _large() -> list[bytes]:
    """Bodies whose first messages differ, so that none of them repeats a part of another."""
    body = make_body(5 * KIB * KIB)
    return [body.replace(b"You are", b"No. %d, you are" % number, 1) for number in range(PASSES + 1)]


WORK: dict[str, Callable[[], list[bytes]]] = {
    "4 KiB": lambda: [make_body(4 * KIB)] * CALLS * (PASSES + 1),
    "64 KiB": lambda: [make_body(64 * KIB)] * CALLS * (PASSES + 1),
    LARGE: _large,
    "stream of 100 chunks": lambda: [make_body(4 * KIB, stream=True)] * (PASSES + 1),
    "turns 140 to 200 of a conversation": _growing,
    "not recorded": lambda: _different(CALLS * (PASSES + 1)),
    "recorded": lambda: _different(CALLS * (PASSES + 1)),
}
"""The bodies of each kind of work, for the passes; before them, one more pass warms up."""


async def work(stop: Callable[[], object], clock: Callable[[], object]) -> list[str]:
    """Prepare all work, call `stop`, and do it. `clock` is called before and after each kind; return their names."""
    loop_watch.EVERY = 3600.0  # its thread wakes up by the clock
    trio._core._run._r.seed(0)  # type: ignore[attr-defined]  # the order of tasks
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain = await stack.enter_async_context(triocept.serve_endpoint())
        recorder = triocept.JSONLRecorder(folder / "trace.jsonl")
        recorded = await stack.enter_async_context(triocept.serve_endpoint(recorder=recorder))
        prepared = {}
        for name, make in WORK.items():
            endpoint, bodies = recorded if name == "recorded" else plain, make()
            rollout = await stack.enter_async_context(endpoint.open_rollout(answer))
            path = f"{urlsplit(rollout.base_url('openai_chat')).path}/chat/completions"
            requests = [make_request(path, rollout.api_key, body) for body in bodies]
            stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
            connection = await stack.enter_async_context(stream)
            size = len(requests) // (PASSES + 1)
            passes = [requests[start : start + size] for start in range(0, len(requests), size)]
            await call(connection, passes.pop(0))
            prepared[name] = connection, passes
        large = make_body(5 * KIB * KIB)
        for _ in range(3):
            _reference()
        gc.collect()
        gc.disable()
        stop()
        names = []
        for number in range(PASSES):
            clock()
            _reference()
            clock()
            clock()
            msgspec.json.decode(large)
            clock()
            for connection, passes in prepared.values():
                clock()
                await call(connection, passes[number])
                clock()
            names += [f"{name}, {number}" for name in (REFERENCE, DECODE, *prepared)]
    return names


def measure(seed: int = 0) -> dict[str, float]:
    """Return the rows: instructions, divided by those of the reference work."""
    counts: dict[str, int] = {}
    for key, number in count("bench.guard", "--marked", seed=seed).items():
        name = key.rpartition(", ")[0]
        counts[name] = min(number, counts.get(name, number))
    reference, decode = counts.pop(REFERENCE), counts.pop(DECODE)
    recorded = counts.pop("recorded") - counts.pop("not recorded")
    rows = {name: number / (decode if name == LARGE else reference) for name, number in counts.items()}
    return {**rows, "recorder, a turn": recorded / reference}


def judge(rows: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return a line for each row that costs too much."""
    return [
        f"{name}: {rows[name] / before:.3f} times its baseline (limit: {LIMIT})"
        for name, before in baseline.items()
        if rows[name] / before > LIMIT
    ]


def baselines() -> dict[str, dict[str, float]]:
    """Return the baseline of each version of Python that has one."""
    found: dict[str, dict[str, float]] = json.loads(BASELINES.read_text(encoding="utf-8"))
    return found


VERSION = "{}.{}".format(*sys.version_info)


def main() -> None:
    """Measure, and show or write."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guard", description="Instructions of six kinds of work."
    )
    parser.add_argument("--write", action="store_true", help="make these figures the baseline")
    parser.add_argument("--seed", type=int, default=0, help="of Python's hashes")
    parser.add_argument("--marked", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.marked:
        print(json.dumps(trio.run(work, ready, mark)))
        return
    known = baselines()
    if VERSION not in known and not arguments.write:
        print(
            f"Python {VERSION} has no baseline in {BASELINES.name}, so nothing is compared with a baseline "
            f"(there are baselines for {', '.join(known)}); --write writes one"
        )
    rows, before = measure(arguments.seed), known.get(VERSION, {})
    for name, row in rows.items():
        part = f"{row / before[name]:8.3f} of the baseline" if name in before else "(no baseline)"
        print(f"{name:30} {row:8.4f} {part}")
    if arguments.write:
        rounded = {name: round(row, 4) for name, row in rows.items()}
        found = dict(sorted({**known, VERSION: rounded}.items()))
        BASELINES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif lines := judge(rows, before):
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
