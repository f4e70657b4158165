"""What conversations of real agents cost when they grow and wait: `python -m bench.shapes`.

Both parts use the calls that `bench.recording` has recorded. A growing conversation has the tools, the system prompt
and the other fields of an agent's recorded calls. Each turn adds a tool call and its result in the shape of the
recorded ones; the result is cut to 4 KB. The cache mark of Claude Code moves, and short fields of Codex change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import trio
from rich.console import Console
from rich.table import Table

from triocept._canonical.memory import Memory
from triocept._canonical.resent import BodyReader
from triocept._canonical.tokens import Estimator
from triocept._server.documents import check_values
from triocept._trace.redaction import Redactor
from triocept._trace.trace import Trace, TraceWriter
from triocept._util.limits import EndpointLimits
from triocept.dialects import dialect

from .growth import AROUND, EARLY, LATE, record_turn
from .peers import open_peer
from .processes import ServerUnavailable, core_at, pin, raise_file_limit
from .recording import SCRIPTS, Call, is_recorded, recorded
from .results import save
from .scenarios import KIB, ROLLOUTS, hold
from .targets import AGENT_TITLES, LEGACY, OURS

ROUNDS = 3
PARTS = ("decode", "count values", "read", "record")
"""Parts of a turn, after a plain decode of its body for comparison. `count values`: find what the body repeats, and
check how many JSON values it has, which only bodies above 1 MB need."""
WAITING = 500
"""Requests that wait; 260 KB each, on average."""
HELD_AGENT = "claude_code"
_RESULT = 4000
"""Maximum characters of a text in a turn."""
_SHAPES = 8
"""Recorded calls of which the shape is taken: those before the sub-agent and the compaction."""
_IDS = re.compile(r'[0-9a-f]{24}|(?<=-)[0-9a-f]{12}(?=")')


def conversation(calls: Sequence[Call], turns: int) -> Iterator[bytes]:
    """Yield the bodies of a conversation of so many turns in the shape of an agent's recorded calls."""
    name = calls[0].dialect
    field = dialect(name).transcript
    documents = [json.loads(call.body) for call in calls if call.kind == "main"][:_SHAPES]
    lengths = [len(document[field]) for document in documents]
    shapes = [
        documents[number][field][before:] for number, before in enumerate(lengths[:-1], start=1)
    ]  # what each call adds to the call before
    said = _plain(documents[0][field], sys.maxsize)
    for number in range(turns):
        said += _turn(shapes[number % len(shapes)], number)
        items = [*said[:-1], _marked(said[-1])] if name == "anthropic_messages" else said
        yield msgspec.json.encode({**documents[number % len(documents)], field: items})


def _turn(shape: list[Any], number: int) -> list[Any]:
    text = json.dumps(_plain(shape, _RESULT)).replace("wait_for", f"wait_{number}")
    turn: list[Any] = json.loads(_IDS.sub(lambda found: f"{number:0{len(found[0])}x}", text))
    return turn


def _plain(value: Any, most: int) -> Any:
    """Return JSON without cache marks, and with all texts cut to `most` characters."""
    if isinstance(value, dict):
        return {name: _plain(each, most) for name, each in value.items() if name != "cache_control"}
    if isinstance(value, list):
        return [_plain(each, most) for each in value]
    return value[:most] if isinstance(value, str) else value


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    *others, last = message["content"]
    return {**message, "content": [*others, {**last, "cache_control": {"type": "ephemeral"}}]}


async def growth(agent: str) -> dict[str, float]:
    """Return the microseconds of CPU of each part of an early and a late turn, and of a plain decode of its body."""
    calls = recorded(agent)
    codec, limit = dialect(calls[0].dialect), EndpointLimits().document_items
    reader, memory, estimator, redactor = BodyReader(), Memory(), Estimator(), Redactor()
    writer = TraceWriter(Trace("bench"))
    times: dict[str, list[float]] = {part: [] for part in (*PARTS, "all")}
    clock = time.process_time
    for body in conversation(calls, LATE + AROUND):
        clocks = [clock()]
        msgspec.json.decode(body)
        clocks.append(clock())
        repeat = reader.find(body, codec.transcript) if len(body) > limit else None
        marks = await check_values(body, limit, repeat)
        clocks.append(clock())
        if (found := reader.read(body, codec.transcript, repeat)) is None:
            document = msgspec.json.decode(body)
            first = reader.begin(body, codec.transcript, document, memory)
            assert first is not None
            found = document, first
        found[1].marks = marks
        request = codec.parse_request(found[0], memory=found[1].memory)
        reader.keep(found[1])
        clocks.append(clock())
        record_turn(request, estimator, redactor, writer, name=codec.name)
        clocks.append(clock())
        for part, (start, end) in zip(times, [*pairwise(clocks), (clocks[1], clocks[-1])], strict=True):
            times[part].append(end - start)
    reader.clear()
    return {
        f"us to {part}, turn {turn}": 1e6 * median(seconds[turn - AROUND : turn + AROUND])
        for part, seconds in times.items()
        for turn in (EARLY, LATE)
    }


def crowd(peer: str, rollouts: int) -> dict[str, float]:
    """Let requests with the recorded bodies of an agent wait in a new server, and release them."""
    with tempfile.TemporaryDirectory() as folder, open_peer(peer, log=Path(folder) / "log") as server:
        held = hold(server, rollouts=rollouts, waiting=WAITING, agent=HELD_AGENT)
    return {"MiB": held.grown / KIB / KIB, "release ms": 1000 * held.release, "lost": WAITING - held.answered}


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.shapes", description="Conversations of agents.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, not {rounds}")
    console = Console() if sys.stdout.isatty() else Console(width=150)
    raise_file_limit()
    pin(core_at(0))
    agents = [agent for agent in SCRIPTS if is_recorded(agent)]
    for agent in SCRIPTS:
        if agent not in agents:
            console.print(f"left out: {agent}: its calls are not recorded; run nox -s bench_agents")
    if not agents:
        return
    figures = {agent: _medians([trio.run(growth, agent) for _ in range(rounds)]) for agent in agents}
    table = Table("us of CPU", f"turn {EARLY}", f"turn {LATE}", "ratio", "to a decode", "late")
    for agent, row in figures.items():
        decodes = [row[f"us to decode, turn {turn}"] for turn in (EARLY, LATE)]
        for part in (*PARTS, "all"):
            first, last = (row[f"us to {part}, turn {turn}"] for turn in (EARLY, LATE))
            ratios = (last / first, first / decodes[0], last / decodes[1])
            cells = (f"{first:,.0f}", f"{last:,.0f}", *(f"{ratio:.2f}" for ratio in ratios))
            table.add_row(f"{AGENT_TITLES[agent]}: {part}", *cells)
    console.print(table)
    if HELD_AGENT in agents:
        table = Table(f"{WAITING} requests of {AGENT_TITLES[HELD_AGENT]} wait", "MiB", "release ms", "lost")
        try:
            for rollouts in (WAITING, ROLLOUTS):
                pairs = [[crowd(peer, rollouts) for peer in (OURS, LEGACY)] for _ in range(rounds)]
                for peer, seen in zip((OURS, LEGACY), map(_medians, zip(*pairs, strict=True)), strict=True):
                    name = f"{peer}, {rollouts} rollouts"
                    figures[name] = seen
                    table.add_row(name, *(f"{value:,.0f}" for value in seen.values()))
        except ServerUnavailable as exc:
            console.print(f"left out: requests that wait: {exc}", markup=False)
        console.print(table)
    console.print(f"written: {save('shapes', figures)}")


if __name__ == "__main__":
    main()
