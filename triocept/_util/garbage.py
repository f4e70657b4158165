"""Settings of Python's garbage collector for a program that serves many calls.

Each waiting call has some hundred objects that the collector traverses again and again. Nearly no object of triocept is
in a cycle, so frequent collections find nothing.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 20, 100)


def tune_gc() -> None:
    """Set Python's garbage collector for a program that owns its process and serves many calls at the same time.

    Call it once, after the imports and before `trio.run`. The function collects garbage, excludes all objects that
    exist now from later collections (`gc.freeze`), and makes collections rarer. As a result, garbage in cycles, for
    example of your own code, is freed later. The command line and the worker processes of a fleet call `tune_gc`; the
    library does not.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
