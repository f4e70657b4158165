"""What all tests share.

Rules of this suite: a test's name is a sentence that must hold. No sleep as a means of waiting, port 0 always,
`fail_after` around everything with a socket, trio's mock clock where there is none.
"""

from __future__ import annotations

import functools
import gc
import resource
import signal
from collections.abc import Iterator

import httpcore2
import hypothesis
import pytest

from tests.ways import WAYS, way


def pytest_configure() -> None:
    """What the suite needs of the process that it runs in, whoever has started that."""
    _obey_ctrl_c()
    _raise_descriptors()
    _read_certificates_once()
    _time_no_example()


def _obey_ctrl_c() -> None:
    """A script ignores SIGINT for what it starts in the background, and so do all children of that: the programs that
    the tests interrupt would wait for ever. Where this process has a handler, its children have the system's."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _raise_descriptors() -> None:
    """Thousands of connections at once need as many descriptors; many systems start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000 if hard == resource.RLIM_INFINITY else min(hard, 10_000)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _read_certificates_once() -> None:
    """Each client of httpx2 reads the authorities' certificates, for some 5 ms, and next to none meets one."""
    httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)


def _time_no_example() -> None:
    """Hypothesis allows an example 200 ms of real time, which is not much beside other programs."""
    hypothesis.settings.register_profile("untimed", hypothesis.settings.default, deadline=None)
    hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """A resource that a test leaves unclosed fails that test, not a later one: its ResourceWarning is an error.

    What was there before the test is not looked through again: all that the imports left would take 0.3 s each time.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(params=WAYS)
def every_way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test over each way of a model call through the server; its value names the way."""
    with way(request.param):
        yield request.param
