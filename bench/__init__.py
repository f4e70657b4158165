"""The benchmark: `nox -s bench`, or `python -m bench --quick`.

Every figure is a ratio to another server in the same run, because absolute ones move by half from run to run.

    bodies.py      the documents that are sent
    dialects.py    the same in every dialect
    wire.py        requests as bytes, and the smallest reader of responses
    load.py        the load, a process of its own: raw sockets, no HTTP library
    servers/       what is measured, each a process of its own; a new peer is one small file there
    processes.py   starts them, pins them to cores, talks to them
    scenarios.py   what is done to a server, and what it yields
    targets.py     the rows: which figure, against which peer, how far
    fleet.py       what a rollout costs in a fleet, beside Ray and verifiers' env server: a program of its own
    env_server.py  that env server, in turn; plugins/ is its environment, agents.py the agent of all
    strangers.py   what a crowd without a key costs an agent: a program of its own
    viewers.py     what viewers of the page cost the endpoint: a program of its own
    llama.py       what an endpoint adds to a stream of llama.cpp: a program of its own
    recording.py   records the calls of real agents; peers.py installs servers beside ours
    replay.py      what these calls cost each server: a program of its own (`nox -s bench_agents`)
    shapes.py      what these conversations cost when they grow, and when many calls wait: run after replay.py
    ratios.py      ratios of interleaved pairs, with their spread
    callgrind.py   counts instructions
    guard.py       fails if a change costs too many of them: a program of its own (`nox -s guard`)
    results.py     figures of a run, with date and commit; page.py takes them into the documentation
    meter.py       what processes have used
    report.py      medians of the rounds, the table, `bench/results.json`
"""

from __future__ import annotations

__all__: list[str] = []
