"""`python -m tests.interrupts`: end programs at each of their steps, and print what is left.

python -m tests.interrupts --only agent,children --kind ctrl-c
python -m tests.interrupts --only agent --kind ctrl-c --step 17
python -m tests.interrupts --sample --seconds 20
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from tests.seeds import first_seed

from .left import adopt_orphans
from .point import KINDS, Kind, Point, Result, run
from .programs import PROGRAMS
from .sweep import sample, sweep, whole

STRIDES = {"cancel": 1, "ctrl-c": 1, "twice": 1, "line": 5}
"""Steps from one point to the next."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the points; the exit status."""
    options = _parser().parse_args(arguments)
    programs: list[str] = options.only.split(",")
    kinds: list[Kind] = options.kind.split(",")
    if options.processes > 1:
        return _in_processes(options, programs)
    adopt_orphans()
    begun, count, failed = time.monotonic(), 0, 0
    for point, result in _points(options, programs, kinds):
        count += result.fired
        if result.problems:
            failed += 1
            print(f"python -m tests.interrupts {point}", *result.problems, sep="\n    ", flush=True)
        if time.monotonic() - begun > options.seconds or (failed and options.first_failure):
            break
    print(f"{count} points, {failed} failed, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


def _points(
    options: argparse.Namespace, programs: list[str], kinds: list[Kind]
) -> Iterator[tuple[Point, Result]]:
    if options.step is not None:
        for program, kind in itertools.product(programs, kinds):
            yield whole(program, kind)
            for _ in range(options.times):
                point = Point(program, kind, options.step)
                yield point, run(point)
    elif options.sample:
        seed = options.seed if options.seed is not None else first_seed()
        print(f"seed {seed}", flush=True)
        yield from sample(programs, kinds, seed)
    else:
        for program, kind in itertools.product(programs, kinds):
            stride = options.stride or STRIDES[kind]
            begun, points = time.monotonic(), 0
            for points, each in enumerate(sweep(program, kind, options.first, stride)):  # noqa: B007
                yield each
            print(f"{program}, {kind}: {points} points, {time.monotonic() - begun:.0f} s", flush=True)


def _in_processes(options: argparse.Namespace, programs: list[str]) -> int:
    """Give each of several processes every n-th program."""
    more = ["--kind", options.kind, "--first", str(options.first), "--seconds", str(options.seconds)]
    more += ["--stride", str(options.stride)] if options.stride else []
    shares = [programs[number :: options.processes] for number in range(options.processes)]
    running = [
        subprocess.Popen([sys.executable, "-m", "tests.interrupts", "--only", ",".join(share), *more])
        for share in shares
        if share
    ]
    return max(process.wait() for process in running)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.interrupts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, with commas between")
    parser.add_argument("--kind", default=",".join(KINDS), help="kinds, with commas between")
    parser.add_argument("--first", type=int, default=1, help="the first step")
    parser.add_argument("--stride", type=int, help="steps to the next point: 1, or 5 lines")
    parser.add_argument("--step", type=int, help="this step alone")
    parser.add_argument("--times", type=int, default=5, help="of --step: how often")
    parser.add_argument("--sample", action="store_true", help="steps at random, in turn of each program")
    parser.add_argument("--seed", type=int, help="of --sample; a fresh one by default")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="in all")
    parser.add_argument("--first-failure", action="store_true", help="stop there")
    parser.add_argument("--processes", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
