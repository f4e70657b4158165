"""The program that measures what viewers of the page cost."""

from __future__ import annotations

import pytest

from bench.viewers import KINDS, viewers


@pytest.mark.once
@pytest.mark.slow
def test_each_kind_of_viewer_yields_a_share_of_a_core() -> None:
    shares = viewers(rounds=1, seconds=0.2)
    assert shares.keys() == KINDS.keys()
    assert all(0 < share < 100 for share in shares.values()), shares
