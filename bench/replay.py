"""What the calls of real agents cost a server: `nox -s bench_agents`, or `python -m bench.replay`.

The bodies that `bench.recording` has recorded are sent, in their order, to each server, and each is answered with one
word as soon as it is read. What counts is the time that the server's threads have run (CPU), by Linux's /proc. The
servers take turns: each pair of figures, one of ours and one of a peer, is from the same minute, and its ratio counts.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from .bodies import CHAT, make_body, make_turn
from .dialects import path_in
from .peers import PEERS, open_peer
from .processes import ServerProcess, ServerUnavailable, core_at, pin
from .ratios import Ratio, ratio_of
from .recording import SCRIPTS, Call, recorded
from .results import save
from .targets import AGENT_TARGETS, AGENT_TITLES, CHAT_TURNS, LEGACY, OURS, PEER_TITLES
from .wire import BadResponse, ResponseReader, make_request

LAST = 500
PAIRS = 11
_PATIENCE = 60.0


def long_chat() -> list[Call]:
    """Turns 479 to 500 of a chat; the first one is not measured."""
    document = json.loads(make_body(4096, stream=True))
    said = document["messages"][:2]
    calls = []
    for number in range(LAST):
        said += make_turn(number)
        if number >= LAST - 22:
            body = msgspec.json.encode({**document, "messages": said})
            calls.append(Call(CHAT, "main", body))
    return calls


class Replay:
    """The calls of one agent, and how they are sent."""

    def __init__(self, calls: Sequence[Call], *, skipped: int = 0, times: int = 3) -> None:
        self._calls = calls
        self._skipped = skipped
        self._times = times

    def cost(self, server: ServerProcess) -> float:
        """Return the cost of a call: microseconds of CPU, or thousands of instructions."""
        return sum(self._once(server) for _ in range(self._times)) / self._times

    def _once(self, server: ServerProcess) -> float:
        ((path, key),) = server.routes(1)
        requests = [
            make_request(path_in(path, call.dialect, stream=True), key, call.body, short=True)
            for call in self._calls
        ]
        with socket.create_connection(("127.0.0.1", server.port), timeout=_PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = ResponseReader()
            _send_all(connection, reader, requests[: self._skipped])
            before = server.cost()
            _send_all(connection, reader, requests[self._skipped :])
            return (server.cost() - before) / (len(requests) - self._skipped)


def _send_all(connection: socket.socket, reader: ResponseReader, requests: Sequence[bytes]) -> None:
    for request in requests:
        connection.sendall(request)
        while not reader.feed(data := connection.recv(262144)):
            if not data:
                raise BadResponse("the server closed the connection")
    time.sleep(0.02)  # until the server sleeps, too: then /proc is exact


class Run:
    """One run: servers that are up, and what their calls cost."""

    def __init__(self, servers: dict[str, ServerProcess], missing: dict[str, str], times: int) -> None:
        self._servers = servers
        self.missing = missing
        """Peers, and replays of peers, that were left out, and the reasons."""
        replays = {agent: Replay(recorded(agent), times=times) for agent in SCRIPTS}
        self._replays = {**replays, CHAT_TURNS: Replay(long_chat(), skipped=1, times=times)}
        self._costs: dict[tuple[str, str], list[float]] = {}

    def round(self, number: int) -> None:
        """Let each server take each replay once; the servers take turns in either direction."""
        for what, replay in self._replays.items():
            for name in list(self._servers)[:: 1 if number % 2 else -1]:
                if f"{name}: {what}" not in self.missing:
                    self._cost(what, name, replay)

    def _cost(self, what: str, name: str, replay: Replay) -> None:
        try:
            cost = replay.cost(self._servers[name])
        except (BadResponse, OSError) as exc:
            self.missing[f"{name}: {what}"] = str(exc)
        else:
            self._costs.setdefault((what, name), []).append(cost)

    def ours(self, what: str) -> float:
        """Return what a call of this replay costs triocept."""
        return median(self._costs[what, OURS][1:])

    def ratios(self) -> dict[str, dict[str, Ratio]]:
        """Return the ratios by replay and peer. The first round only warmed the servers up."""
        return {
            what: {
                name: ratio_of(self._costs[what, OURS][1:], self._costs[what, name][1:])
                for name in self._servers
                if name != OURS and f"{name}: {what}" not in self.missing
            }
            for what in self._replays
        }


def measure(names: Sequence[str], pairs: int, console: Console, *, instructions: bool = False) -> Run:
    """Start the servers, and replay all calls in so many rounds, and one more."""
    missing: dict[str, str] = {}
    pin(core_at(0))
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "servers.log"
        servers = {}
        for name in names:
            dumps = Path(folder) / f"{name}.callgrind" if instructions else None
            try:
                servers[name] = stack.enter_context(open_peer(name, log=log, dumps=dumps))
                servers[name].count()
            except ServerUnavailable as exc:
                missing[name] = f"{exc} {log.read_text(encoding='utf-8', errors='replace')[-500:]}"
        run = Run(servers, missing, times=1 if instructions else 3)
        for number in range(pairs + 1):
            console.print(f"[dim]pair {number} of {pairs}[/dim]")
            run.round(number)
    return run


def show(run: Run, unit: str, console: Console) -> None:
    """Print the costs of ours, and the ratios."""
    ratios = run.ratios()
    peers = [name for name in PEER_TITLES if any(name in row for row in ratios.values())]
    table = Table("", f"{unit}, triocept", *(PEER_TITLES[name] for name in peers))
    for what, row in ratios.items():
        cells = [str(row[name]) if name in row else "-" for name in peers]
        table.add_row(AGENT_TITLES[what], f"{run.ours(what):,.0f}", *cells)
    console.print(table)
    for name, reason in run.missing.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    for what, most in AGENT_TARGETS.items():
        if (ratio := ratios[what].get(LEGACY)) is not None:
            console.print(f"{what}: {ratio}, target <= {most}: {'met' if ratio.low <= most else 'missed'}")


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description="What agents' calls cost.")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="default: %(default)s")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--instructions", action="store_true", help="count instructions (valgrind), not time")
    arguments = parser.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=150)
    names = [OURS, *(name for name in arguments.peers.split(",") if name != OURS)]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; the peers are {', '.join(PEERS)}")
    if arguments.pairs < 1:
        parser.error(f"--pairs must be at least 1, not {arguments.pairs}")
    run = measure(names, arguments.pairs, console, instructions=arguments.instructions)
    show(run, "thousand instructions" if arguments.instructions else "us", console)
    figures = {
        what: {name: msgspec.to_builtins(ratio) for name, ratio in row.items()}
        for what, row in run.ratios().items()
    }
    name = "agents_instructions" if arguments.instructions else "agents"
    console.print(f"written: {save(name, figures)}")


if __name__ == "__main__":
    main()
