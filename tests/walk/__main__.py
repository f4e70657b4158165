"""`python -m tests.walk`: walks until so many exchanges were made, or so many seconds have passed, or one fails.

A walk that fails prints its seed, the shortest part of its history that still fails, and what plays that again.
"""

import argparse
import faulthandler
import itertools
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from .generate import history_of
from .history import History, told
from .shrink import shrunk
from .world import Walked, play

EXCHANGES = 300
"""Of one walk: the account of it is in memory."""
HANGS = 300
"""Seconds after which a walk that hangs in spite of all is ended, with the stacks of its threads."""
SHRINK = 120.0
"""Seconds of the search for a shorter history."""
TRIES = 3
"""Plays of a part before it counts as one that holds."""
QUICK = 4.0
"""Seconds that something may hang in a part of a history that is known to fail."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk; the exit status."""
    options = _parser().parse_args(arguments)
    if options.processes > 1:
        return _in_processes(options)
    if options.seed is not None:
        history = history_of(options.seed, options.exchanges or EXCHANGES)
        if options.steps:
            history = history.only(tuple(_numbers(options.steps)))
        if options.show:
            print(told(history))
        return _walk_one(history, shrink=not options.steps, tries=options.tries)
    return _walk_many(options)


def walk(history: History) -> Walked:
    """Play one, and end the process if it hangs in spite of all."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        return play(history)
    finally:
        faulthandler.cancel_dump_traceback_later()


def report(history: History, walked: Walked, *, shrink_seconds: float = 120.0) -> str:
    """What to say of a history that fails; the search for its shortest part ends after so many seconds."""
    lines = [f"the walk of seed {history.seed} fails:", *walked.violations[:12], f"again: {history.command}"]
    if shrink_seconds:
        line = walked.violations[0].partition(":")[0]

        def fails(part: History) -> bool:
            return any(
                any(each.startswith(line) for each in play(part, patience=QUICK).violations)
                for _ in range(TRIES)
            )

        short = shrunk(history, fails, seconds=shrink_seconds)
        lines += [f"the shortest part of it that was found to fail so ({line}):", told(short)]
        lines += [f"again: {short.command}"]
    return "\n".join(lines)


def _walk_one(history: History, *, shrink: bool, tries: int) -> int:
    for _ in range(tries):
        walked = walk(history)
        if walked.violations:
            print(report(history, walked, shrink_seconds=SHRINK if shrink else 0))
            return 1
    print(f"the walk of seed {history.seed} holds: {walked.exchanges} exchanges, {walked.seconds:.1f} s")
    return 0


def _walk_many(options: argparse.Namespace) -> int:
    begun, exchanges, calls, failed = time.monotonic(), 0, 0, 0
    most = options.total or 10**9
    first = options.first if options.first is not None else _fresh()
    print(f"walks from seed {first} on", flush=True)
    for count, seed in enumerate(itertools.count(first), 1):
        walked = walk(history := history_of(seed, options.exchanges or EXCHANGES))
        exchanges, calls = exchanges + walked.exchanges, calls + walked.calls
        if walked.violations:
            failed += 1
            print(report(history, walked, shrink_seconds=0 if options.no_shrink else SHRINK), flush=True)
            if not options.go_on:
                break
        seconds = time.monotonic() - begun
        if options.verbose and count % 10 == 0:
            print(f"{exchanges} exchanges, {calls} calls, {seconds:.0f} s, {_memory()} MiB", flush=True)
        if exchanges >= most or seconds >= options.seconds:
            break
    seconds = time.monotonic() - begun
    print(
        f"{count} walks, {exchanges} exchanges of {calls} calls, {failed} failed, {seconds:.0f} s, {_memory()} MiB"
    )
    return 1 if failed else 0


def _in_processes(options: argparse.Namespace) -> int:
    """One process for each core, and each its share."""
    share = -(-options.total // options.processes) if options.total else 0
    first = options.first if options.first is not None else _fresh()
    more = [
        "--total", str(share), "--seconds", str(options.seconds), *(["--verbose"] if options.verbose else []),
    ]  # fmt: skip
    programs = [
        subprocess.Popen([sys.executable, "-m", "tests.walk", "--first", str(first + number * 10**6), *more])
        for number in range(options.processes)
    ]
    return max(program.wait() for program in programs)


def _fresh() -> int:
    return random.SystemRandom().randrange(10**9)


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.walk", description=__doc__)
    parser.add_argument("--seed", type=int, help="walk this one, and no other")
    parser.add_argument("--exchanges", type=int, help=f"calls of one walk; {EXCHANGES}")
    parser.add_argument("--steps", help="of --seed: play these alone, such as 0-3,17")
    parser.add_argument("--tries", type=int, default=3, help="of --seed: how often; until it fails")
    parser.add_argument("--show", action="store_true", help="of --seed: print the history")
    parser.add_argument("--first", type=int, help="walk this seed and those behind it; a fresh one")
    parser.add_argument("--total", type=int, default=0, help="exchanges in all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="in all")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--go-on", action="store_true", help="behind a walk that fails")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="say how far it is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
