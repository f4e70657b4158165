"""Nothing here opens anything: the suite's look for leaks, a full garbage collection, is not worth its time."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> None:
    """Stands in for the one of all other tests."""
