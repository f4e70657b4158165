"""The points of a program: each step, or some of them."""

import contextlib
import importlib
import random
from collections.abc import Iterator

from .point import Kind, Point, Result, run


def whole(program: str, kind: Kind) -> tuple[Point, Result]:
    """Run a program to its end, and import here what it has imported."""
    point = Point(program, kind, 0)
    result = run(point)
    for module in result.modules:
        with contextlib.suppress(ImportError):  # a name that is no module of a file
            importlib.import_module(module)
    return point, result


def sweep(program: str, kind: Kind, first: int, stride: int) -> Iterator[tuple[Point, Result]]:
    """A whole run; then each `stride`-th step from `first` on, until the program ends before it."""
    yield whole(program, kind)
    step, fired = first, True
    while fired:
        point = Point(program, kind, step)
        result = run(point)
        yield point, result
        fired, step = result.fired, step + stride


def sample(programs: list[str], kinds: list[Kind], seed: int) -> Iterator[tuple[Point, Result]]:
    """A step of each program and kind in turn, at random, for ever."""
    draw, steps = random.Random(seed), {}
    pairs = [(program, kind) for program in programs for kind in kinds]
    draw.shuffle(pairs)
    while True:
        for pair in pairs:
            if pair not in steps:
                point, result = whole(*pair)
                steps[pair] = result.steps
                yield point, result
            point = Point(*pair, draw.randint(1, steps[pair]))
            yield point, run(point)
