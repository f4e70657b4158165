"""What all tests share.

Rules of this suite: a test's name is a sentence that must hold. No sleep as a means of waiting, port 0 always,
`fail_after` around everything with a socket, trio's mock clock where there is none.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from triocept import serve_endpoint


def pytest_collection_finish() -> None:
    """What the imports left is never garbage: without this, each look for garbage takes 0.3 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """A resource that a test leaves unclosed fails that test, not a later one: its ResourceWarning is an error."""
    yield
    gc.collect()


@pytest.fixture(params=["direct", "through ASGI"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model calls go straight from the parser to their rollout, or through ASGI: what holds must hold of both."""
    defaults = serve_endpoint.__wrapped__.__kwdefaults__  # type: ignore[attr-defined]
    monkeypatch.setitem(defaults, "direct", request.param == "direct")
