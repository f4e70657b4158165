"""`python -m tests.mutants`: apply mutants one at a time, run the tests of each, and say which survive.

A survivor is printed as a diff, with the command that runs it again.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .possible import Mutant, mutants_of
from .session import FailsUnchanged, Fate, Result, Session, sampled, score
from .stage import copied
from .table import files

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sample; the exit status. A survivor is no failure of the run: it is what the run is for."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    chosen = [
        file for file in files(ROOT) if not options.only or any(p in file for p in options.only.split(","))
    ]
    possible = [mutant for file in chosen for mutant in mutants_of(file, (ROOT / file).read_text())]
    if options.list:
        print(*possible, sep="\n")
        return 0
    if options.again:
        return _run([Mutant.of(options.again)], 1, float("inf"))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"{len(possible)} mutants in {len(chosen)} files; seed {seed}, {options.seconds:.0f} s", flush=True)
    return _run(sampled(possible, seed), options.count or len(possible), options.seconds)


def _run(mutants: Sequence[Mutant], count: int, seconds: float) -> int:
    results: list[Result] = []
    try:
        with copied(ROOT) as stage:
            session = Session(stage, seconds=seconds)
            for mutant in mutants:
                if session.left <= 0 or len(results) >= count:
                    break
                if (result := session.judge(mutant)) is not None:
                    results.append(result)
                    _tell(result)
    except FailsUnchanged as error:
        print(error)
        return 2
    except KeyboardInterrupt:
        print("interrupted; so far:")
    _tell_all(results)
    return 0


def _tell(result: Result) -> None:
    print(f"{result.fate.value:<16} {result.seconds:5.1f} s  {result.mutant}  {result.note}", flush=True)
    if result.fate is Fate.SURVIVED:
        print(result.diff, flush=True)


def _tell_all(results: Sequence[Result]) -> None:
    survivors = [result for result in results if result.fate is Fate.SURVIVED]
    if survivors:
        print(f"\n{len(survivors)} survived:")
    for result in survivors:
        print(f"\n{result.mutant.file}:{result.mutant.line}\n{result.diff}")
        print(f"again: python -m tests.mutants --again {result.mutant}")
    print("", *score(results), sep="\n")


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="in all; 600")
    parser.add_argument("--seed", type=int, help="of the sample; a fresh one")
    parser.add_argument("--count", type=int, help="no more than so many mutants")
    parser.add_argument("--only", help="files with one of these words in their path, such as _trace,retries")
    parser.add_argument("--again", metavar="MUTANT", help="this one alone, as it was printed")
    parser.add_argument("--list", action="store_true", help="print all mutants, and run none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
