"""What all tests share.

Rules of this suite: a test's name is a sentence that must hold. No sleep as a means of waiting, port 0 always, trio's
mock clock where there is no socket. Every async test has a deadline (`DEADLINE`): it needs a `trio.fail_after` of its
own only where the time is what it shows.
"""

import functools
import gc
import inspect
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpcore2
import hypothesis
import pytest
import trio

from tests.ways import WAYS, way

DEADLINE = 120
"""Seconds of an async test that is not marked `timeout`. Most take less than one, but those of much data take many on a
busy machine."""


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each async test its deadline. Those of hypothesis, of a mock clock, and of slow suites have none."""
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
        return
    is_slow = any(part == "reach" or part.startswith("real_") for part in item.path.parts)
    if is_slow or hasattr(item.obj, "hypothesis") or any("clock" in name for name in item.fixturenames):
        return
    marker = item.get_closest_marker("timeout")
    item.obj = _ends_after(0.9 * marker.args[0] if marker else DEADLINE, item.obj)


def _ends_after(seconds: float, test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def with_deadline(*args: Any, **kwargs: Any) -> None:
        with trio.fail_after(seconds):
            await test(*args, **kwargs)

    return with_deadline


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Fail a test that leaves a resource unclosed. What was there before is frozen: looking through it takes 0.3 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(params=WAYS)
def every_way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test over each way of a model call through the server; its value names the way."""
    with way(request.param):
        yield request.param
