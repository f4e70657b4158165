"""Configure Python's garbage collector for a program that serves many calls.

Each waiting call has about a hundred objects, which the collector traverses again and again. Hardly any object of
triocept is in a reference cycle, so frequent collections find no garbage.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 20, 100)


def tune_gc() -> None:
    """Configure Python's garbage collector for a program that has its own process and serves many calls at a time.

    Call it once, after the imports and before `trio.run`. The function collects garbage, excludes all objects that
    exist now from later collections (`gc.freeze`), and makes collections rarer. As a result, garbage in cycles, for
    example of your own code, is freed later. The command line and the worker processes of a fleet call `tune_gc`; the
    library does not.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
