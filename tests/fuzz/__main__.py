"""`python -m tests.fuzz --seed N --inputs N --only http1,websocket,tls,bodies,upstream`."""

import argparse
import json
import secrets
import sys

from .kinds import KINDS, SHARES
from .runner import again, failed_once, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Inputs made by a machine.")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**9), help="any number; a fresh one by default"
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="in all; each kind has its share")
    parser.add_argument("--seconds", type=float, help="stop after so long; each kind has its share")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas between")
    parser.add_argument("--start", type=int, default=0, help="the number of the first input")
    parser.add_argument("--again", help="one input, as it was printed")
    options = parser.parse_args()
    if options.again:
        line = json.loads(options.again)
        violation = again(KINDS[line["kind"]], [line["input"]])
        print(violation or "no rule is broken")
        return violation is not None
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    names = options.only.split(",")
    print(f"seed {options.seed}")
    failures = 0
    for name, why, value in failed_once():
        if name in names and (violation := again(KINDS[name], [value])) is not None:
            print(
                f"what once failed ({why}) fails: {violation}\n{json.dumps({'kind': name, 'input': value})}"
            )
            failures += 1
    whole = sum(SHARES[name] for name in names)
    for name in names:
        inputs = max(1, round(options.inputs * SHARES[name] / whole))
        seconds = options.seconds and options.seconds / len(names)
        report = run(KINDS[name], options.seed, start=options.start, inputs=inputs, seconds=seconds)
        print(report, flush=True)
        failures += len(report.failures)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
