"""The seed that machines begin with."""

import os
import random


def first_seed() -> int:
    """Return TRIOCEPT_SEED if it is set, as plain nox sets it; else a fresh seed."""
    given = os.environ.get("TRIOCEPT_SEED")
    return int(given) if given else random.SystemRandom().randrange(10**9)
